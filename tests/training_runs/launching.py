"""Starts `searchworld_run.py` in one or several processes, and compares what they leave."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from .searchworld_run import STEPS, joined, make_searchworld, read_run

SCRIPT = Path(__file__).with_name("searchworld_run.py")
BATCH_SIZE = 12  # of all processes together: with groups of four, one group is shared by two processes


def searchworld(tmp_path_factory):
    """Folder of the world, made once in a session: the policy's warm start takes the better part of a minute."""
    folder = tmp_path_factory.getbasetemp() / "searchworld"
    if not folder.exists():
        make_searchworld(folder)
    return folder


def train(world, output_dir, num_processes, timeout=300, **settings):
    """Train with `torchrun` and return what each process left, whatever the launcher's exit status."""
    return _launch(["--nproc_per_node", str(num_processes)], world, output_dir, num_processes, timeout, settings)


def replay_in_one_process(world, output_dir, replay):
    """Train in one process on the rollouts that an earlier run recorded; returns what the process left."""
    return _launch(["--nproc_per_node", "1"], world, output_dir, 1, 300, {}, replay=str(replay))[0]


def _launch(launcher, world, output_dir, num_processes, timeout, settings, **arguments):
    settings = {"per_device_train_batch_size": BATCH_SIZE // num_processes, **settings}
    run = {"world": str(world), "output_dir": str(output_dir), "settings": settings, **arguments}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", *launcher, str(SCRIPT), json.dumps(run)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["DS_ACCELERATOR"] = "cpu"
    # DeepSpeed looks there for ninja, which is installed beside Python.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, env=environment, check=False, errors="replace"
    )
    # DeepSpeed may abort at exit on a CPU, after all is done.
    left = read_run(output_dir)
    assert len(left) == num_processes, result.stderr[-3000:]
    return left


def assert_equal_parameters(processes):
    """All processes end with the same parameters, bit for bit, and each parameter has been trained."""
    first, *others = processes
    for name, value in first["parameters"].items():
        assert not torch.equal(value, first["before"][name]), name
        for other in others:
            assert torch.equal(other["parameters"][name], value), name


def assert_as_in_one_process(processes, one):
    """Advantages are those of one process on the same rollouts, exactly, and parameters within rounding."""
    advantages = joined(processes, "advantages")
    assert [len(step) for step in advantages] == [BATCH_SIZE] * STEPS
    assert all(any(value != 0 for row in step for value in row) for step in advantages)
    assert advantages == one["advantages"]
    for name, value in processes[0]["parameters"].items():
        # They move by up to 2e-3.
        torch.testing.assert_close(value, one["parameters"][name], rtol=0, atol=1e-5, msg=name)


def most_turns(process):
    """The turns of the longest rollout at each step of a process: how often it had to generate."""
    return [max(len(rollout.turns) for rollout in rollouts) for rollouts in process["rollouts"]]
