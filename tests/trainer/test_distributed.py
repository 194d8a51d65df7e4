"""Two real processes (gloo) train with TSPO on SearchWorld as one process does."""

import json
import shutil

import pytest
import torch

from ..training_runs.launching import (
    BATCH_SIZE,
    assert_as_in_one_process,
    assert_equal_parameters,
    replay_in_one_process,
    searchworld,
    train,
)
from ..training_runs.searchworld_run import STEPS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return searchworld(tmp_path_factory)


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def two_processes(world, output_dir):
    return train(world, output_dir, num_processes=2)


def test_two_processes_end_with_the_same_parameters(two_processes):
    assert_equal_parameters(two_processes)


def test_two_processes_do_not_sample_the_same(two_processes):
    one, other = ([rollout.completion_ids for rollout in process["rollouts"][0]] for process in two_processes)
    # The questions of the second group are shared: two rollouts of it are in each process.
    assert one[4:] != other[:2]


def test_two_processes_learn_what_one_process_learns_from_the_same_rollouts(
    world, output_dir, two_processes, tmp_path
):
    one = replay_in_one_process(world, tmp_path, replay=output_dir)
    assert_as_in_one_process(two_processes, one)


def test_trajectory_files_hold_the_rollouts_of_both_processes_once(output_dir, two_processes):
    for step in range(STEPS):
        path = output_dir / "trajectories" / f"step_{step + 1:06d}.jsonl"
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        expected = [
            [turn.text for turn in one.turns] for process in two_processes for one in process["rollouts"][step]
        ]
        assert [[turn["text"] for turn in record["turns"]] for record in records] == expected
        assert [record["group"] for record in records] == [i // 4 for i in range(BATCH_SIZE)]


def test_two_processes_resume_between_two_generations(world, tmp_path):
    settings = {"num_iterations": 2, "save_strategy": "steps", "save_steps": 3}
    whole = train(world, tmp_path / "whole", num_processes=2, **settings)
    shutil.copytree(tmp_path / "whole" / "checkpoint-3", tmp_path / "resumed" / "checkpoint-3")
    resumed = train(world, tmp_path / "resumed", num_processes=2, **settings)
    # Steps 1, 3 and 5 generate. Step 4 uses the rollouts of step 3 again.
    assert [len(process["rollouts"]) for process in (*whole, *resumed)] == [3, 3, 1, 1]
    for one, other in zip(whole, resumed, strict=True):
        for name, value in one["parameters"].items():
            assert torch.equal(other["parameters"][name], value), name
