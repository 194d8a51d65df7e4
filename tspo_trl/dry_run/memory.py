"""An estimate of what one GPU holds in training: formulas, without any model.

All sizes are bytes. The formulas leave out what depends on kernels and allocators; `RESERVED` stands for it. They are
for telling a run that cannot fit from one that may.
"""

from dataclasses import dataclass

from .launch import Launch
from .model_shape import ModelShape

GIB = 2**30
# CUDA context, NCCL's buffers and fragmentation: a guess of ours.
RESERVED = 2 * GIB
# TRL projects hidden states to the vocabulary in tiles of at most so many tokens and entries, see its
# `kernels/chunked_logprob.py`: the logits of a micro-batch never exist as a whole.
TILE_TOKENS, TILE_VOCABULARY = 4096, 32768
# DeepSpeed's `stage3_max_live_parameters`.
_ZERO3_LIVE_PARAMETERS = 10**9
# bitsandbytes' nf4 in blocks of 64 weights, each with a 32-bit scale.
_BYTES_PER_QUANTIZED_WEIGHT = {4: 0.5 + 4 / 64, 8: 1.0}


@dataclass(frozen=True)
class Precision:
    """
    How the weights are kept.

    Args:
        dtype_bytes (`int`):
            Bytes of a weight in the `dtype` that the model is loaded in: 4 for float32, 2 for bfloat16.
        quantized_bits (`int`, *optional*):
            4 or 8 for a base model that bitsandbytes quantizes.
    """

    dtype_bytes: int
    quantized_bits: int | None = None


@dataclass(frozen=True)
class MemoryEstimate:
    """
    What one GPU holds, in bytes.

    Args:
        weights (`float`):
            Weights of the policy, with what autocast copies of them.
        gradients (`float`):
            Their gradients.
        optimizer (`float`):
            Adam's two moments, and DeepSpeed's 32-bit copy of the weights.
        reference (`float`):
            The reference model.
        gathered (`float`):
            Weights of other processes, while a layer needs them (ZeRO-3, FSDP).
        activations (`float`):
            Hidden states of a micro-batch, kept for or made again in the backward pass.
        head (`float`):
            Tiles of logits and the gradient of the output projection.
        vllm (`float`):
            The share of vLLM in colocate mode.
        vllm_sleeps (`bool`):
            Whether vLLM gives its share back while the policy learns.
        generation (`float`, *optional*, defaults to `0.0`):
            Keys and values of all rollouts of a generation, where Transformers makes them in place of vLLM.
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
        """What only the forward and backward passes need."""
        return self.gathered + self.activations + self.head

    @property
    def peak(self) -> float:
        """What must fit at once, `RESERVED` included."""
        kept = self.weights + self.gradients + self.optimizer + self.reference + RESERVED
        learning = max(self.learning, self.generation)
        return kept + (max(learning, self.vllm) if self.vllm_sleeps else learning + self.vllm)


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
    if launch.strategy in ("zero3", "fsdp"):
        return total / launch.num_processes
    if not launch.is_deepspeed and own == 4:
        total += 2 * shape.trainable  # autocast keeps a 16-bit copy of each weight during the forward pass
    return total


def gradient_bytes(shape: ModelShape, launch: Launch, precision: Precision) -> float:
    """Gradients on one GPU. DDP sums them up in buckets of the same size, beside them."""
    total = shape.trainable * _trainable_bytes(shape, launch, precision)
    if launch.strategy in ("zero2", "zero3", "fsdp"):
        return total / launch.num_processes
    return 2 * total if launch.strategy == "ddp" else total


def optimizer_bytes(shape: ModelShape, launch: Launch, precision: Precision) -> float:
    """Adam's states on one GPU: two moments, for DeepSpeed in 32 bits and with a 32-bit copy of the weights."""
    each = 12 if launch.is_deepspeed else 2 * _trainable_bytes(shape, launch, precision)
    shared = launch.is_deepspeed or launch.strategy == "fsdp"
    return shape.trainable * each / (launch.num_processes if shared else 1)


def reference_bytes(shape: ModelShape, launch: Launch, precision: Precision) -> float:
    """The reference model on one GPU. With adapters there is none: the policy without them is the reference."""
    if shape.has_adapters:
        return 0.0
    total = shape.parameters * (2 if launch.is_deepspeed else precision.dtype_bytes)
    return total / launch.num_processes if launch.strategy in ("zero3", "fsdp") else float(total)


def gathered_bytes(shape: ModelShape, launch: Launch) -> float:
    """Weights that are gathered at once, in 16 bits: with FSDP embeddings, output projection and two layers."""
    if launch.strategy == "zero3":
        return 2 * min(shape.parameters, _ZERO3_LIVE_PARAMETERS)
    if launch.strategy == "fsdp":
        return 2 * min(shape.parameters, shape.embedding_parameters + 2 * shape.layer_parameters)
    return 0.0


def activation_bytes(shape: ModelShape, tokens: int, value_bytes: int, *, checkpointing: bool) -> float:
    """
    Hidden states of `tokens` tokens, without an attention matrix (as flash and memory-efficient attention do).

    A layer keeps about eight values of the hidden size, keys and values, and four of the MLP's size. With gradient
    checkpointing each layer keeps its input only, and one layer at a time is made again.
    """
    layer = tokens * (8 * shape.hidden_size + 2 * shape.key_value_size + 4 * shape.intermediate_size) * value_bytes
    if not checkpointing:
        return shape.num_layers * layer
    return shape.num_layers * tokens * shape.hidden_size * value_bytes + layer


def head_bytes(shape: ModelShape, tokens: int) -> float:
    """A 16-bit tile of logits, and 32-bit gradients of the hidden states and of an output projection that learns."""
    tile = 2 * min(tokens, TILE_TOKENS) * min(shape.vocabulary_size, TILE_VOCABULARY)
    gradient = 0 if shape.has_adapters else 4 * shape.vocabulary_size * shape.hidden_size
    return tile + gradient + 4 * tokens * shape.hidden_size


def generation_bytes(shape: ModelShape, tokens: int, value_bytes: int) -> float:
    """Keys and values of `tokens` tokens. Transformers generates the rollouts of a process all at once."""
    return 2.0 * tokens * shape.num_layers * shape.key_value_size * value_bytes


def cached_tokens(shape: ModelShape, share: float, tensor_parallel_size: int, precision: Precision) -> int:
    """Tokens that vLLM's cache of keys and values holds, next to its own 16-bit copy of the weights."""
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
    Estimate what one GPU holds.

    Args:
        shape ([`ModelShape`]):
            Sizes of the model.
        launch ([`Launch`]):
            Processes and what they share.
        precision ([`Precision`]):
            How the weights are kept.
        tokens (`int`):
            Tokens of a micro-batch: rows times the longest prompt and completion.
        checkpointing (`bool`):
            Whether gradient checkpointing is on.
        has_reference (`bool`):
            Whether there is a reference model (`beta` above 0).
        vllm (`float`, *optional*, defaults to `0.0`):
            vLLM's share of this GPU, in bytes.
        vllm_sleeps (`bool`, *optional*, defaults to `False`):
            Whether vLLM gives it back while the policy learns.
        generation_tokens (`int`, *optional*, defaults to `0`):
            Tokens of all rollouts that this process generates at once with Transformers; 0 with vLLM.

    Returns:
        [`MemoryEstimate`]
    """
    # Under autocast the sums between layers stay in the weights' own 32 bits.
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
    """Bytes of a weight that learns."""
    if launch.is_deepspeed or precision.quantized_bits is not None:
        return 2  # DeepSpeed's bf16; TRL keeps adapters of a quantized model in bf16, too
    if shape.has_adapters or launch.strategy == "fsdp":
        return 4  # PEFT makes adapters of a 16-bit model in 32 bits, Accelerate shards in 32 bits
    return precision.dtype_bytes
