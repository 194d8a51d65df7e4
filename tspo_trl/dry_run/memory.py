"""An estimate of the memory of one GPU in training, from formulas and without a model.

All sizes are in bytes. The formulas leave out what depends on kernels and allocators; `RESERVED` covers it. They tell
a run that cannot fit from one that may fit.
"""

from dataclasses import dataclass

import torch
from peft import PeftConfig, get_peft_model
from transformers import AutoModelForCausalLM, PretrainedConfig

from .launch import Launch

GIB = 2**30
# CUDA context, NCCL's buffers and fragmentation. This is a guess.
RESERVED = 2 * GIB
# TRL's `kernels/chunked_logprob.py` computes logits in tiles of at most this many tokens and vocabulary entries.
TILE_TOKENS, TILE_VOCABULARY = 4096, 32768
# DeepSpeed's `stage3_max_live_parameters`.
_ZERO3_LIVE_PARAMETERS = 10**9
# bitsandbytes' nf4 has blocks of 64 weights, each with a 32-bit scale.
_BYTES_PER_QUANTIZED_WEIGHT = {4: 0.5 + 4 / 64, 8: 1.0}


@dataclass(frozen=True)
class ModelShape:
    """
    Sizes of a model.

    Args:
        parameters (`int`):
            All weights, adapters included. A tied output projection counts once.
        trainable (`int`):
            Weights that learn.
        embedding_parameters (`int`):
            Weights of the embeddings and the output projection, counted once if they are tied.
        linear_parameters (`int`):
            Weights of the base model's linear layers without its output projection. bitsandbytes quantizes these.
        num_layers (`int`):
            Number of layers.
        hidden_size (`int`):
            Width of the hidden states.
        intermediate_size (`int`):
            Width of the MLP.
        key_value_size (`int`):
            Width of a token's keys in one layer.
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
        """Average weights of a layer."""
        return (self.parameters - self.embedding_parameters) // self.num_layers


def model_shape(config: PretrainedConfig, peft_config: PeftConfig | None = None) -> ModelShape:
    """Measure a model with its adapters on the meta device, where weights take no memory and have no values."""
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


@dataclass(frozen=True)
class Precision:
    """
    Number format of the weights.

    Args:
        dtype_bytes (`int`):
            Bytes of a weight in the `dtype` that the model is loaded in: 4 for float32, 2 for bfloat16.
        quantized_bits (`int`, *optional*):
            4 or 8 if bitsandbytes quantizes the base model.
    """

    dtype_bytes: int
    quantized_bits: int | None = None


@dataclass(frozen=True)
class MemoryEstimate:
    """
    Memory of one GPU, in bytes.

    Args:
        weights (`float`):
            Weights of the policy and autocast's copies of them.
        gradients (`float`):
            Gradients of the weights.
        optimizer (`float`):
            Adam's two moments and DeepSpeed's 32-bit copy of the weights.
        reference (`float`):
            The reference model.
        gathered (`float`):
            Weights of other processes while a layer needs them (ZeRO-3, FSDP).
        activations (`float`):
            Hidden states of a micro-batch in the backward pass.
        head (`float`):
            Tiles of logits and the gradient of the output projection.
        vllm (`float`):
            vLLM's share in colocate mode.
        vllm_sleeps (`bool`):
            Whether vLLM returns its share while the policy learns.
        generation (`float`, *optional*, defaults to `0.0`):
            Keys and values of all rollouts of a generation, if Transformers makes them.
    """

    weights: float
    gradients: float
    optimizer: float
    reference: float
    gathered: float
    activations: float
    head: float
    vllm: float
    vllm_sleeps: bool
    generation: float = 0.0

    @property
    def learning(self) -> float:
        """Memory that only the forward and backward passes need."""
        return self.gathered + self.activations + self.head

    @property
    def peak(self) -> float:
        """Memory that is needed at once, with `RESERVED`."""
        kept = self.weights + self.gradients + self.optimizer + self.reference + RESERVED
        learning = max(self.learning, self.generation)
        return kept + (max(learning, self.vllm) if self.vllm_sleeps else learning + self.vllm)

    def describe(self) -> list[str]:
        """Return the lines of the report, in GiB."""
        names = ["weights", "gradients", "optimizer", "reference", "gathered"]
        names += ["activations", "head", "generation", "vllm"]
        sizes = {name: getattr(self, name) for name in names} | {"reserved": RESERVED}
        lines = [f"{name:<12}{size / GIB:6.1f} GiB" for name, size in sizes.items() if size]
        return [*lines, f"{'peak':<12}{self.peak / GIB:6.1f} GiB"]


def weight_bytes(shape: ModelShape, launch: Launch, precision: Precision) -> float:
    """Weights of the policy on one GPU."""
    frozen = shape.parameters - shape.trainable
    if precision.quantized_bits is not None:
        quantized = shape.linear_parameters * _BYTES_PER_QUANTIZED_WEIGHT[precision.quantized_bits]
        frozen_bytes = quantized + (frozen - shape.linear_parameters) * precision.dtype_bytes
    else:
        frozen_bytes = frozen * (2 if launch.is_deepspeed else precision.dtype_bytes)
    own = _trainable_bytes(shape, launch, precision)
    total = frozen_bytes + shape.trainable * own
    if launch.shares_weights:
        return total / launch.num_processes
    if not launch.is_deepspeed and own == 4:
        total += 2 * shape.trainable  # autocast keeps a 16-bit copy of each weight during the forward pass
    return total


def gradient_bytes(shape: ModelShape, launch: Launch, precision: Precision) -> float:
    """Gradients on one GPU. DDP sums them in buckets, which take the same memory again."""
    total = shape.trainable * _trainable_bytes(shape, launch, precision)
    if launch.strategy in ("zero2", "zero3", "fsdp"):
        return total / launch.num_processes
    return 2 * total if launch.strategy == "ddp" else total


def optimizer_bytes(shape: ModelShape, launch: Launch, precision: Precision) -> float:
    """Adam's two moments on one GPU. DeepSpeed keeps them in 32 bits, with a 32-bit copy of the weights."""
    each = 12 if launch.is_deepspeed else 2 * _trainable_bytes(shape, launch, precision)
    shared = launch.is_deepspeed or launch.strategy == "fsdp"
    return shape.trainable * each / (launch.num_processes if shared else 1)


def reference_bytes(shape: ModelShape, launch: Launch, precision: Precision) -> float:
    """The reference model on one GPU. With adapters it is the policy without them and takes no memory."""
    if shape.has_adapters:
        return 0.0
    total = shape.parameters * (2 if launch.is_deepspeed else precision.dtype_bytes)
    return total / launch.num_processes if launch.shares_weights else float(total)


def gathered_bytes(shape: ModelShape, launch: Launch) -> float:
    """16-bit weights gathered at once. FSDP gathers embeddings, output projection and two layers."""
    if launch.strategy == "zero3":
        return 2 * min(shape.parameters, _ZERO3_LIVE_PARAMETERS)
    if launch.strategy == "fsdp":
        return 2 * min(shape.parameters, shape.embedding_parameters + 2 * shape.layer_parameters)
    return 0.0


def activation_bytes(shape: ModelShape, tokens: int, value_bytes: int, *, checkpointing: bool) -> float:
    """
    Hidden states of `tokens` tokens, without an attention matrix (flash or memory-efficient attention).

    A layer keeps about eight values of the hidden size, keys and values, and four values of the MLP's size. With
    gradient checkpointing each layer keeps only its input, and one layer at a time is recomputed.
    """
    layer = tokens * (8 * shape.hidden_size + 2 * shape.key_value_size + 4 * shape.intermediate_size) * value_bytes
    if not checkpointing:
        return shape.num_layers * layer
    return shape.num_layers * tokens * shape.hidden_size * value_bytes + layer


def head_bytes(shape: ModelShape, tokens: int) -> float:
    """A 16-bit tile of logits, and 32-bit gradients of the hidden states and of a trained output projection."""
    tile = 2 * min(tokens, TILE_TOKENS) * min(shape.vocabulary_size, TILE_VOCABULARY)
    gradient = 0 if shape.has_adapters else 4 * shape.vocabulary_size * shape.hidden_size
    return tile + gradient + 4 * tokens * shape.hidden_size


def generation_bytes(shape: ModelShape, tokens: int, value_bytes: int) -> float:
    """Keys and values of `tokens` tokens. Transformers generates all rollouts of a process at once."""
    return 2.0 * tokens * shape.num_layers * shape.key_value_size * value_bytes


def cached_tokens(shape: ModelShape, share: float, tensor_parallel_size: int, precision: Precision) -> int:
    """Tokens that fit vLLM's key-value cache beside its own 16-bit copy of the weights."""
    weights = 2.0 * (shape.parameters - (shape.trainable if shape.has_adapters else 0))
    if precision.quantized_bits is not None:
        weights -= shape.linear_parameters * (2 - _BYTES_PER_QUANTIZED_WEIGHT[precision.quantized_bits])
    per_token = 2 * 2 * shape.num_layers * shape.key_value_size / tensor_parallel_size
    return int((share - weights / tensor_parallel_size) / per_token)


def estimate_memory(
    shape: ModelShape,
    launch: Launch,
    precision: Precision,
    *,
    tokens: int,
    checkpointing: bool,
    has_reference: bool,
    vllm: float = 0.0,
    vllm_sleeps: bool = False,
    generation_tokens: int = 0,
) -> MemoryEstimate:
    """
    Estimate the memory of one GPU.

    Args:
        tokens (`int`):
            Tokens of a micro-batch: rows times the length of the longest prompt plus completion.
        checkpointing (`bool`):
            Whether gradient checkpointing is on.
        has_reference (`bool`):
            Whether there is a reference model (`beta` > 0).
        vllm, vllm_sleeps (*optional*):
            See [`MemoryEstimate`].
        generation_tokens (`int`, *optional*, defaults to `0`):
            Tokens of all rollouts that a process generates at once with Transformers; 0 with vLLM.
    """
    # Under autocast the sums between layers keep the weights' 32 bits.
    value_bytes = 4 if launch.strategy in ("single", "ddp") and precision.dtype_bytes == 4 else 2
    return MemoryEstimate(
        weights=weight_bytes(shape, launch, precision),
        gradients=gradient_bytes(shape, launch, precision),
        optimizer=optimizer_bytes(shape, launch, precision),
        reference=reference_bytes(shape, launch, precision) if has_reference else 0.0,
        gathered=gathered_bytes(shape, launch),
        activations=activation_bytes(shape, tokens, value_bytes, checkpointing=checkpointing),
        head=head_bytes(shape, tokens),
        vllm=vllm,
        vllm_sleeps=vllm_sleeps,
        generation=generation_bytes(shape, generation_tokens, value_bytes),
    )


def _trainable_bytes(shape: ModelShape, launch: Launch, precision: Precision) -> int:
    """Bytes of a trained weight."""
    if launch.is_deepspeed or precision.quantized_bits is not None:
        return 2  # DeepSpeed uses bf16; TRL keeps adapters of a quantized model in bf16
    if shape.has_adapters or launch.strategy == "fsdp":
        return 4  # PEFT makes the adapters of a 16-bit model in 32 bits; Accelerate shards in 32 bits
    return precision.dtype_bytes
