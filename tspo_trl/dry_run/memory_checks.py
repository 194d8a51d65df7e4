"""The check of a dry run that compares the memory of a GPU with what it would hold."""

import torch
from trl import ModelConfig

from ..trainer.config import TSPOConfig
from .arguments import DryRunArguments
from .launch import Launch
from .memory import GIB, RESERVED, MemoryEstimate, Precision, cached_tokens, estimate_memory
from .model_shape import ModelShape
from .report import Report


def check_memory(
    report: Report,
    args: TSPOConfig,
    launch: Launch,
    model_args: ModelConfig,
    dry_run_args: DryRunArguments,
    shape: ModelShape,
    longest: int,
) -> None:
    """
    Compare the estimate with the memory of a GPU, and vLLM's share with what it has to keep.

    Args:
        report ([`Report`]):
            Takes what is found.
        args ([`TSPOConfig`]):
            The configuration.
        launch ([`Launch`]):
            Processes of the run.
        model_args ([`~trl.ModelConfig`]):
            The model and its adapters.
        dry_run_args ([`DryRunArguments`]):
            The machine that the run is planned for.
        shape ([`ModelShape`]):
            Sizes of the model.
        longest (`int`):
            Tokens of the longest prompt.

    Raises:
        ValueError: Something does not fit.
    """
    gpu_memory = _gpu_memory(dry_run_args)
    bits = 4 if model_args.load_in_4bit else 8 if model_args.load_in_8bit else None
    precision = Precision(4 if model_args.dtype == "float32" else 2, bits)
    colocated = args.use_vllm and args.vllm_mode == "colocate"
    share = args.vllm_gpu_memory_utilization * (gpu_memory or 0.0) if colocated else 0.0
    rollout = longest + args.max_completion_length
    rows = args.per_device_train_batch_size
    estimate = estimate_memory(
        shape,
        launch,
        precision,
        tokens=rows * rollout,
        checkpointing=args.gradient_checkpointing,
        has_reference=args.beta > 0,
        vllm=share,
        vllm_sleeps=args.vllm_enable_sleep_mode,
        generation_tokens=0 if args.use_vllm else rows * (args.steps_per_generation or 1) * rollout,
    )
    report.add("Memory of a GPU (an estimate)", *_describe_memory(estimate))
    if precision.dtype_bytes == 2 and not shape.has_adapters and launch.strategy in ("single", "ddp"):
        report.warnings.append(
            f"`dtype={model_args.dtype}` trains 16-bit weights, in which steps of `learning_rate={args.learning_rate}`"
            " get lost. Use `dtype=float32`, DeepSpeed or FSDP."
        )
    if gpu_memory is None:
        report.warnings.append("The GPU is not known: pass `dry_run_gpu_memory` to compare the estimate with it.")
        return
    report.add("Memory of a GPU (an estimate)", f"{estimate.peak / gpu_memory:.0%} of {gpu_memory / GIB:.0f} GiB")
    if share:
        tokens = cached_tokens(shape, share, args.vllm_tensor_parallel_size, precision)
        context = args.vllm_max_model_length or rollout
        if tokens < context:
            raise ValueError(
                f"vLLM's share ({share / GIB:.1f} GiB) leaves room for about {max(tokens, 0):,} cached tokens, fewer "
                f"than one rollout of {context:,}. Raise `vllm_gpu_memory_utilization`."
            )
        report.add("Memory of a GPU (an estimate)", f"vLLM can keep about {tokens:,} tokens in its cache")
    if estimate.peak > gpu_memory:
        raise ValueError(
            f"about {estimate.peak / GIB:.0f} GiB are needed, but a GPU has {gpu_memory / GIB:.0f}. "
            + _remedy(estimate)
        )
    if estimate.peak > 0.9 * gpu_memory:
        report.warnings.append("The estimate leaves less than a tenth of the GPU's memory free.")


def _gpu_memory(dry_run_args: DryRunArguments) -> float | None:
    if dry_run_args.dry_run_gpu_memory is not None:
        return dry_run_args.dry_run_gpu_memory * GIB
    return float(torch.cuda.get_device_properties(0).total_memory) if torch.cuda.is_available() else None


def _remedy(estimate: MemoryEstimate) -> str:
    if estimate.generation > estimate.learning:
        return (
            f"All rollouts of a generation are made at once and keep {estimate.generation / GIB:.0f} GiB of keys and "
            "values. Generate with vLLM (`use_vllm`), or lower `steps_per_generation`."
        )
    return (
        "Lower `per_device_train_batch_size` (and raise `gradient_accumulation_steps` and `steps_per_generation`) or "
        "`vllm_gpu_memory_utilization`, share more (ZeRO-3, FSDP), or train adapters (`use_peft`)."
    )


def _describe_memory(estimate: MemoryEstimate) -> list[str]:
    names = ("weights", "gradients", "optimizer", "reference", "gathered", "activations", "head", "generation", "vllm")
    sizes = {name: getattr(estimate, name) for name in names} | {"reserved": RESERVED}
    lines = [f"{name:<12}{size / GIB:6.1f} GiB" for name, size in sizes.items() if size]
    return [*lines, f"{'peak':<12}{estimate.peak / GIB:6.1f} GiB"]
