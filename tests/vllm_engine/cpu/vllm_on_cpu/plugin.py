"""Plugin of vLLM: linear layers that can load new weights, and a weight transfer without GPUs."""

import os

import torch


def register() -> None:
    """Entry point of the plugin. `VLLM_ON_CPU_PLAIN_LINEAR=0` leaves linear layers unchanged."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    if os.environ.get("VLLM_ON_CPU_PLAIN_LINEAR", "1") == "1":
        _keep_linear_weights_plain()
    if "cpu_store" not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine("cpu_store", "vllm_on_cpu.receiver", "StoreWeightTransferEngine")


def _keep_linear_weights_plain() -> None:
    """
    Let linear layers compute with the loaded weight.

    vLLM's CPU backend repacks the weight for oneDNN, computes with the packed copy and puts an empty parameter in the
    weight's place. TRL could not load new weights into an engine in its own process: `'Parameter' object has no
    attribute 'weight_loader'`. A server repacks after each update.
    """
    import vllm.model_executor.layers.utils as layers

    def use_plain_weight(layer: torch.nn.Module, remove_weight: bool = False) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    layers.dispatch_cpu_unquantized_gemm = use_plain_weight
