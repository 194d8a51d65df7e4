"""Every argument that changes the memory of a run changes the report. The numbers are computed by hand.

The model has 36 layers of keys and values of 256 and hidden states of 2,048; the numbers are of one GPU of 80 GiB.
"""

import json
import re

import pytest

from tspo_trl.dry_run.launch import Launch

from .dry_runs import check_fixture, lines, model_fixture, questions_fixture  # noqa: F401

MEMORY = "Memory of a GPU (an estimate)"
SINGLE, DDP, ZERO2 = Launch(1, "single"), Launch(2, "ddp"), Launch(2, "zero2")
PARAMETERS = 3_085_938_688
GIB = 2**30
FULL = {"model": {"use_peft": False, "dtype": "float32"}}
SMALL_VLLM = {"use_vllm": True, "gpu": 24, "vllm_gpu_memory_utilization": 0.3}
TOO_SMALL, NEARLY_FULL = "fewer than one rollout", "less than a tenth"


def sizes(report):
    """GiB of each part."""
    found = re.findall(r"^(\w+) +([\d.]+) GiB$", lines(report, MEMORY), flags=re.MULTILINE)
    return {name: float(value) for name, value in found}


def cached(report):
    return int(re.search(r"about ([\d,]+) tokens in its cache", lines(report, MEMORY))[1].replace(",", ""))


def rollout_tokens(report):
    return int(lines(report, "Context").split(" = ")[1].split()[0])


def test_rows_and_length_of_a_micro_batch_make_the_activations(check):
    # With checkpointing: 36 layers of hidden states; one layer adds 8 of them, 2 of 256 and 4 of 11,008. 2 bytes each.
    each = 36 * 2048 * 2 + (8 * 2048 + 2 * 256 + 4 * 11008) * 2
    for rows, length in ((4, 4096), (4, 8192), (8, 4096)):
        changes = {"per_device_train_batch_size": rows, "max_completion_length": length}
        report = check(**changes, gradient_checkpointing=True)
        assert sizes(report)["activations"] == round(rows * rollout_tokens(report) * each / GIB, 1)


def test_without_checkpointing_every_layer_keeps_all(check):
    report = check(gradient_checkpointing=False, max_completion_length=2200, gpu=200)
    each = 36 * (8 * 2048 + 2 * 256 + 4 * 11008) * 2
    assert sizes(report)["activations"] == round(4 * rollout_tokens(report) * each / GIB, 1)


def test_longest_prompt_counts(check, tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"question": "Who? " * 3000, "golden_answers": ["I"]}) + "\n", encoding="utf-8")
    report, short = check(files={"train_file": str(path)}), check()
    assert rollout_tokens(report) > 2 * rollout_tokens(short)
    for part in ("activations", "generation"):
        expected = sizes(short)[part] * rollout_tokens(report) / rollout_tokens(short)
        assert sizes(report)[part] == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("beta", "reference"), [(0.0, None), (0.001, 11.5)])
def test_reference_model_is_there_with_beta_only(check, beta, reference):
    assert sizes(check(gpu=100, beta=beta, **FULL)).get("reference") == reference
    assert round(PARAMETERS * 4 / GIB, 1) == 11.5


def test_rollouts_that_transformers_makes_keep_their_keys_and_values(check, tmp_path):
    path = tmp_path / "many.jsonl"
    path.write_text('{"question": "Who?", "golden_answers": ["I"]}\n' * 80, encoding="utf-8")
    changes = {"steps_per_generation": 80, "files": {"train_file": str(path)}}
    report = check(**changes)
    # Keys and values of 256 in 36 layers of 2 bytes, 4 x 80 rollouts.
    assert sizes(report)["generation"] == round(4 * 80 * rollout_tokens(report) * 36_864 / GIB, 1)
    assert "generation" not in sizes(check(use_vllm=True, **changes))


@pytest.mark.parametrize(
    ("bits", "bytes_per_weight"), [({}, 2), ({"load_in_8bit": True}, 1), ({"load_in_4bit": True}, 0.5625)]
)
def test_quantized_linear_layers_take_fewer_bytes(check, bits, bytes_per_weight):
    linear = 36 * (2 * 2048 * 2048 + 2 * 2048 * 256 + 3 * 2048 * 11008)
    expected = (linear * bytes_per_weight + (PARAMETERS - linear) * 2) / GIB
    assert sizes(check(model=bits))["weights"] == pytest.approx(expected, abs=0.08)  # adapters take 7 or 22 MB


def test_vllm_that_sleeps_takes_turns_with_learning(check):
    awake, asleep = (sizes(check(use_vllm=True, vllm_enable_sleep_mode=sleeps)) for sleeps in (False, True))
    learning = awake["activations"] + awake["head"]
    assert awake["vllm"] == asleep["vllm"] > learning
    assert awake["peak"] - asleep["peak"] == pytest.approx(learning, abs=0.2)


def test_share_of_vllm_is_of_the_gpu(check):
    changes = {"use_vllm": True, "gpu": 40}
    assert sizes(check(vllm_gpu_memory_utilization=0.5, **changes))["vllm"] == 20.0
    assert sizes(check(vllm_gpu_memory_utilization=0.25, **changes))["vllm"] == 10.0


def test_cache_of_vllm_holds_what_its_weights_leave(check):
    share = 0.3 * 80 * GIB
    changes = {"launch": DDP, "use_vllm": True, "vllm_gpu_memory_utilization": 0.3}
    assert cached(check(**changes)) == int((share - 2 * PARAMETERS) / 36_864)
    # Shared by two GPUs, each keeps half of the weights and half of every token.
    shared = cached(check(**changes, vllm_tensor_parallel_size=2))
    assert shared == int((share - PARAMETERS) / 18_432)


def test_cache_of_vllm_has_to_hold_its_longest_rollout(check):
    # 7.2 GiB less 5.75 of weights leave room for 42,000 tokens.
    assert check(**SMALL_VLLM, vllm_max_model_length=40_000).problems == []
    (problem,) = check(**SMALL_VLLM, vllm_max_model_length=45_000).problems
    assert TOO_SMALL in problem
    assert "one rollout of 45,000" in problem
    (problem,) = check(**{**SMALL_VLLM, "vllm_gpu_memory_utilization": 0.245}).problems
    assert f"one rollout of {rollout_tokens(check()):,}" in problem


@pytest.mark.parametrize(
    ("launch", "model", "warned"),
    [
        (SINGLE, {"use_peft": False}, True),
        (DDP, {"use_peft": False}, True),
        (ZERO2, {"use_peft": False}, False),
        (SINGLE, {"use_peft": False, "dtype": "float32"}, False),
        (SINGLE, {}, False),
    ],
)
def test_learning_16_bit_weights_is_warned_about(check, launch, model, warned):
    report = check(launch, gpu=200, model=model)
    assert any("trains 16-bit weights" in warning for warning in report.warnings) is warned


def test_nearly_full_gpu_is_warned_about(check):
    peak = sizes(check())["peak"]
    assert not any(NEARLY_FULL in warning for warning in check(gpu=peak / 0.88).warnings)
    report = check(gpu=peak / 0.92)
    assert report.problems == []
    assert any(NEARLY_FULL in warning for warning in report.warnings)


def test_unknown_gpu_is_warned_about(check):
    def warned(report):
        return any("pass `dry_run_gpu_memory`" in warning for warning in report.warnings)

    assert warned(check(gpu=None))
    assert not warned(check())
