"""The memory estimate, computed by hand for a model of 1,000 weights, and real models' sizes."""

import pytest
from peft import LoraConfig
from transformers import Qwen2Config

from tspo_trl.dry_run.launch import Launch
from tspo_trl.dry_run.memory import (
    GIB,
    RESERVED,
    TILE_TOKENS,
    TILE_VOCABULARY,
    MemoryEstimate,
    ModelShape,
    Precision,
    activation_bytes,
    cached_tokens,
    estimate_memory,
    gathered_bytes,
    generation_bytes,
    gradient_bytes,
    head_bytes,
    model_shape,
    optimizer_bytes,
    reference_bytes,
    weight_bytes,
)

from .qwen_shapes import QWEN2_5_3B, QWEN2_5_7B

SIZES = {
    "embedding_parameters": 200,
    "linear_parameters": 700,
    "num_layers": 4,
    "hidden_size": 10,
    "intermediate_size": 30,
    "key_value_size": 5,
    "vocabulary_size": 20,
}
FULL = ModelShape(parameters=1000, trainable=1000, **SIZES)
ADAPTERS = ModelShape(parameters=1100, trainable=100, **SIZES)
SINGLE = Launch(1, "single")
FLOAT32, BFLOAT16 = Precision(4), Precision(2)


@pytest.mark.parametrize(
    ("strategy", "weights", "gradients", "optimizer", "reference", "gathered"),
    [
        # 4 bytes per weight and 2 for autocast's copy; DDP adds buckets as large as the gradients.
        ("ddp", 6000, 8000, 8000, 4000, 0),
        # DeepSpeed: 2 bytes per weight, 2 per gradient, 12 for the optimizer; an eighth of shared states.
        ("zero1", 2000, 2000, 1500, 2000, 0),
        ("zero2", 2000, 250, 1500, 2000, 0),
        ("zero3", 250, 250, 1500, 250, 2000),
        # 4, 4 and 8 bytes, all shared; 200 weights of embeddings and two layers of 200, in 2 bytes.
        ("fsdp", 500, 500, 1000, 500, 1200),
    ],
)
def test_states_of_a_float32_model_on_eight_gpus(strategy, weights, gradients, optimizer, reference, gathered):
    launch = Launch(8, strategy)
    assert weight_bytes(FULL, launch, FLOAT32) == weights
    assert gradient_bytes(FULL, launch, FLOAT32) == gradients
    assert optimizer_bytes(FULL, launch, FLOAT32) == optimizer
    assert reference_bytes(FULL, launch, FLOAT32) == reference
    assert gathered_bytes(FULL, launch) == gathered


def test_states_on_one_gpu():
    assert weight_bytes(FULL, SINGLE, FLOAT32) == 4000 + 2000
    assert gradient_bytes(FULL, SINGLE, FLOAT32) == 4000
    assert optimizer_bytes(FULL, SINGLE, FLOAT32) == 8000
    assert gathered_bytes(FULL, SINGLE) == 0


def test_model_loaded_in_16_bits_keeps_all_states_in_16_bits():
    assert weight_bytes(FULL, SINGLE, BFLOAT16) == 2000
    assert gradient_bytes(FULL, SINGLE, BFLOAT16) == 2000
    assert optimizer_bytes(FULL, SINGLE, BFLOAT16) == 4000


def test_only_adapters_have_gradients_and_optimizer_states():
    # 1,000 frozen weights of 2 bytes, 100 of the adapters of 4, and their copies of 2.
    assert weight_bytes(ADAPTERS, SINGLE, BFLOAT16) == 2000 + 400 + 200
    assert gradient_bytes(ADAPTERS, SINGLE, BFLOAT16) == 400
    assert optimizer_bytes(ADAPTERS, SINGLE, BFLOAT16) == 800
    assert reference_bytes(ADAPTERS, SINGLE, BFLOAT16) == 0


@pytest.mark.parametrize(("bits", "linear"), [(4, 700 * 0.5625), (8, 700)])
def test_quantized_base_model(bits, linear):
    # 300 weights are not quantized; the adapters are in bf16.
    precision = Precision(2, bits)
    assert weight_bytes(ADAPTERS, SINGLE, precision) == linear + 600 + 200
    assert gradient_bytes(ADAPTERS, SINGLE, precision) == 200
    assert optimizer_bytes(ADAPTERS, SINGLE, precision) == 400


def test_activations_with_and_without_checkpointing():
    layer = 100 * (8 * 10 + 2 * 5 + 4 * 30) * 2
    assert layer == 42_000
    assert activation_bytes(FULL, 100, 2, checkpointing=False) == 168_000
    assert activation_bytes(FULL, 100, 2, checkpointing=True) == 4 * 100 * 10 * 2 + 42_000


def test_logits_of_a_small_vocabulary():
    # A tile of 100 x 20 in 2 bytes; gradients of 20 x 10 weights and of 100 x 10 hidden values, in 4 bytes.
    assert head_bytes(FULL, 100) == 4000 + 800 + 4000
    assert head_bytes(ADAPTERS, 100) == 4000 + 4000


def test_logits_never_take_more_than_one_tile():
    large = ModelShape(parameters=1100, trainable=100, **{**SIZES, "vocabulary_size": 151_936})
    assert head_bytes(large, 100_000) == 2 * 4096 * 32768 + 4 * 100_000 * 10


def test_tiles_are_as_large_as_in_trl():
    from trl.kernels.chunked_logprob import TOKEN_CHUNK_SIZE
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    assert (TILE_TOKENS, TILE_VOCABULARY) == (TOKEN_CHUNK_SIZE, _CHUNKED_LOGPROB_CHUNK_SIZE)


def test_rollouts_that_transformers_generates_at_once_keep_keys_and_values():
    # Keys and values of 4 layers x 5 in 2 bytes: 80 bytes a token.
    assert generation_bytes(FULL, 100, 2) == 8000
    # The recipe of the 3B model without vLLM: 8 x 40 rollouts of 4,533 tokens, each of 36,864 bytes.
    generation = generation_bytes(model_shape(Qwen2Config(**QWEN2_5_3B)), 8 * 40 * 4533, 2)
    assert generation == 320 * 4533 * 36_864
    assert round(generation / GIB, 1) == 49.8


def test_generation_takes_turns_with_learning():
    assert MemoryEstimate(1, 2, 3, 4, 5, 6, 7, 0, False, generation=17).peak == RESERVED + 10 + 18
    assert MemoryEstimate(1, 2, 3, 4, 5, 6, 7, 0, False, generation=19).peak == RESERVED + 10 + 19


@pytest.mark.parametrize(("strategy", "value_bytes"), [("single", 4), ("zero2", 2)])
def test_estimate_counts_keys_and_values_in_the_bytes_of_hidden_states(strategy, value_bytes):
    common = {"tokens": 100, "checkpointing": True, "has_reference": False, "generation_tokens": 5000}
    estimate = estimate_memory(FULL, Launch(1, strategy), FLOAT32, **common)
    assert estimate.generation == generation_bytes(FULL, 5000, value_bytes)


def test_vllm_caches_what_its_weights_leave():
    # Keys and values of 4 layers x 5 in 2 bytes: 80 bytes a token.
    assert cached_tokens(FULL, 10_000, 1, BFLOAT16) == (10_000 - 2000) // 80
    assert cached_tokens(FULL, 10_000, 2, BFLOAT16) == (10_000 - 1000) // 40
    assert cached_tokens(ADAPTERS, 10_000, 1, BFLOAT16) == (10_000 - 2000) // 80
    assert cached_tokens(ADAPTERS, 10_000, 1, Precision(2, 4)) == int((10_000 - 600 - 700 * 0.5625) / 80)
    assert cached_tokens(FULL, 1000, 1, BFLOAT16) < 0


def test_estimate_sums_up_its_parts():
    estimate = estimate_memory(
        FULL, SINGLE, FLOAT32, tokens=100, checkpointing=True, has_reference=True, vllm=5000.0, vllm_sleeps=False
    )
    # Under autocast hidden states are in 4 bytes.
    assert estimate.activations == activation_bytes(FULL, 100, 4, checkpointing=True)
    assert estimate.peak == 6000 + 4000 + 8000 + 4000 + 100_000 + 8800 + 5000 + RESERVED
    without = estimate_memory(FULL, SINGLE, FLOAT32, tokens=100, checkpointing=True, has_reference=False)
    assert estimate.peak - without.peak == 4000 + 5000


@pytest.mark.parametrize(
    ("config", "billions", "exactly"), [(QWEN2_5_3B, "3.09", 3_085_938_688), (QWEN2_5_7B, "7.62", 7_615_616_512)]
)
def test_parameters_of_qwen2_5_are_those_published(config, billions, exactly):
    shape = model_shape(Qwen2Config(**config))
    assert f"{shape.parameters / 1e9:.2f}" == billions
    assert shape.parameters == shape.trainable == exactly
    assert not shape.has_adapters


def test_sizes_are_read_from_the_configuration():
    shape = model_shape(Qwen2Config(**QWEN2_5_7B))
    assert shape.embedding_parameters == 2 * 152_064 * 3584
    # q and o of 3584 x 3584, k and v of 3584 x 512, three matrices of 3584 x 18944, in 28 layers
    assert shape.linear_parameters == 28 * (2 * 3584 * 3584 + 2 * 3584 * 512 + 3 * 3584 * 18944)
    assert shape.key_value_size == 4 * 128
    tied = model_shape(Qwen2Config(**QWEN2_5_3B))
    assert tied.embedding_parameters == 151_936 * 2048


def test_adapters_are_counted():
    peft_config = LoraConfig(r=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    shape = model_shape(Qwen2Config(**QWEN2_5_3B), peft_config)
    # r x (in + out): q is 2048 x 2048, v is 2048 x 256
    assert shape.trainable == 36 * 16 * ((2048 + 2048) + (2048 + 256))
    assert shape.parameters == 3_085_938_688 + shape.trainable
    assert shape.has_adapters


def test_3b_model_with_zero2_fits_on_80_gb_and_with_ddp_does_not():
    shape = model_shape(Qwen2Config(**QWEN2_5_3B))
    common = {"tokens": 8 * 4500, "checkpointing": True, "has_reference": True, "vllm": 0.4 * 80 * GIB}
    assert estimate_memory(shape, Launch(8, "zero2"), FLOAT32, **common).peak < 0.9 * 80 * GIB
    assert estimate_memory(shape, Launch(8, "ddp"), FLOAT32, **common).peak > 80 * GIB
