"""TSPO under DeepSpeed's ZeRO-2 and ZeRO-3: two real processes on the CPU.

DeepSpeed builds an operator for the CPU at its first use, which needs a C++ compiler and some minutes.
"""

import math
import shutil
from importlib.util import find_spec

import pytest

from ..training_runs.launching import (
    assert_as_in_one_process,
    assert_equal_parameters,
    most_turns,
    replay_in_one_process,
    searchworld,
    train,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed"),
    pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler"),
]


def config(stage):
    return {
        "zero_optimization": {"stage": stage},
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return searchworld(tmp_path_factory)


@pytest.fixture(scope="module", params=[2, 3], ids=["ZeRO-2", "ZeRO-3"])
def run(request, world, tmp_path_factory):
    """The stage, the folder and the results of both processes."""
    output_dir = tmp_path_factory.mktemp(f"zero-{request.param}")
    processes = train(world, output_dir, num_processes=2, timeout=600, deepspeed=config(request.param))
    return request.param, output_dir, processes


def test_both_processes_trained_in_that_stage(run):
    stage, _, processes = run
    assert [process["deepspeed_stage"] for process in processes] == [stage, stage]
    losses = [entry["loss"] for entry in processes[0]["log"] if "loss" in entry]
    assert len(losses) == 5
    assert all(math.isfinite(loss) for loss in losses)


def test_both_processes_end_with_the_same_parameters(run):
    assert_equal_parameters(run[2])


def test_they_learn_what_one_process_without_deepspeed_learns_from_the_same_rollouts(run, world, tmp_path):
    _, output_dir, processes = run
    one = replay_in_one_process(world, tmp_path, replay=output_dir)
    assert_as_in_one_process(processes, one)


def test_processes_had_unequal_numbers_of_turns(run):
    """With ZeRO-3 generation is collective. If one process stopped early, the other would hang."""
    first, second = run[2]
    assert most_turns(first) != most_turns(second)
