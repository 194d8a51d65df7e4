"""Sizes of a model, from its configuration alone."""

from dataclasses import dataclass

import torch
from peft import PeftConfig, get_peft_model
from transformers import AutoModelForCausalLM, PretrainedConfig


@dataclass(frozen=True)
class ModelShape:
    """
    Sizes of a model.

    Args:
        parameters (`int`):
            All weights, those of adapters included; a tied output projection counts once.
        trainable (`int`):
            Weights that learn.
        embedding_parameters (`int`):
            Weights of embeddings and output projection; once where they are tied.
        linear_parameters (`int`):
            Weights of the base model's linear layers without its output projection: what bitsandbytes quantizes.
        num_layers (`int`):
            Number of layers.
        hidden_size (`int`):
            Width of the hidden states.
        intermediate_size (`int`):
            Width of the MLP.
        key_value_size (`int`):
            Width of the keys of a token in one layer.
        vocabulary_size (`int`):
            Rows of the output projection.
    """

    parameters: int
    trainable: int
    embedding_parameters: int
    linear_parameters: int
    num_layers: int
    hidden_size: int
    intermediate_size: int
    key_value_size: int
    vocabulary_size: int

    @property
    def has_adapters(self) -> bool:
        """Whether only adapters learn."""
        return self.trainable < self.parameters

    @property
    def layer_parameters(self) -> int:
        """Weights of a layer, on average."""
        return (self.parameters - self.embedding_parameters) // self.num_layers


def model_shape(config: PretrainedConfig, peft_config: PeftConfig | None = None) -> ModelShape:
    """
    Build the model on the meta device, where weights take no memory and have no values, and measure it.

    Args:
        config ([`~transformers.PretrainedConfig`]):
            The model's configuration.
        peft_config ([`~peft.PeftConfig`], *optional*):
            Adapters.

    Returns:
        [`ModelShape`]
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    embeddings = {id(module.weight): module.weight.numel() for module in (model.get_input_embeddings(), head)}
    linear = [m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    if peft_config is not None:
        model = get_peft_model(model, peft_config, low_cpu_mem_usage=True)
    text = config.get_text_config()
    head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return ModelShape(
        parameters=sum(weight.numel() for weight in model.parameters()),
        trainable=sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
        embedding_parameters=sum(embeddings.values()),
        linear_parameters=sum(linear),
        num_layers=text.num_hidden_layers,
        hidden_size=text.hidden_size,
        intermediate_size=text.intermediate_size,
        key_value_size=text.num_key_value_heads * head_size,
        vocabulary_size=text.vocab_size,
    )
