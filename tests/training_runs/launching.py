"""Start `searchworld_run.py` in one or several processes, and compare the results."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from .searchworld_run import STEPS, joined, make_searchworld, read_run

SCRIPT = Path(__file__).with_name("searchworld_run.py")
BATCH_SIZE = 12  # of all processes together; with groups of four, two processes share one group


def searchworld(tmp_path_factory):
    """Folder of the world, created once per session, because the warm start takes most of a minute."""
    folder = tmp_path_factory.getbasetemp() / "searchworld"
    if not folder.exists():
        make_searchworld(folder)
    return folder


def train(world, output_dir, num_processes, timeout=300, **settings):
    """Train with `torchrun` and return the results of each process, even if the launcher fails."""
    return _launch(["--nproc_per_node", str(num_processes)], world, output_dir, num_processes, timeout, settings)


def replay_in_one_process(world, output_dir, replay):
    """Train in one process on the recorded rollouts of an earlier run, and return its results."""
    return _launch(["--nproc_per_node", "1"], world, output_dir, 1, 300, {}, replay=str(replay))[0]


def _launch(launcher, world, output_dir, num_processes, timeout, settings, **arguments):
    settings = {"per_device_train_batch_size": BATCH_SIZE // num_processes, **settings}
    run = {"world": str(world), "output_dir": str(output_dir), "settings": settings, **arguments}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", *launcher, str(SCRIPT), json.dumps(run)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["DS_ACCELERATOR"] = "cpu"
    # DeepSpeed needs ninja, which is installed beside Python.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, env=environment, check=False, errors="replace"
    )
    # DeepSpeed may abort at exit on a CPU, after training.
    left = read_run(output_dir)
    assert len(left) == num_processes, result.stderr[-3000:]
    return left


def assert_equal_parameters(processes):
    """All processes end with the same parameters, bit for bit, and all parameters have changed."""
    first, *others = processes
    for name, value in first["parameters"].items():
        assert not torch.equal(value, first["before"][name]), name
        for other in others:
            assert torch.equal(other["parameters"][name], value), name


def assert_as_in_one_process(processes, one):
    """Compared with one process on the same rollouts, advantages are equal and parameters differ by rounding."""
    advantages = joined(processes, "advantages")
    assert [len(step) for step in advantages] == [BATCH_SIZE] * STEPS
    assert all(any(value != 0 for row in step for value in row) for step in advantages)
    assert advantages == one["advantages"]
    for name, value in processes[0]["parameters"].items():
        # They move by up to 2e-3.
        torch.testing.assert_close(value, one["parameters"][name], rtol=0, atol=1e-5, msg=name)


def most_turns(process):
    """Turns of the longest rollout at each step of a process."""
    return [max(len(rollout.turns) for rollout in rollouts) for rollouts in process["rollouts"]]
