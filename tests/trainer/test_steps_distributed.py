"""Two processes weigh and skip steps alike, although only one of them has failed searches or signal."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "training_runs" / "steps_run.py"


@pytest.fixture(scope="module")
def processes(tmp_path_factory, searching_model_path, index_path):
    output_dir = tmp_path_factory.mktemp("steps")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(SCRIPT)]
    command += [str(searching_model_path), str(index_path), str(output_dir)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return [torch.load(path, weights_only=False) for path in sorted(output_dir.glob("process_*.pt"))]


@pytest.mark.slow
def test_all_processes_weigh_a_step_by_the_kept_rollouts_of_all(processes):
    for step in range(2):
        batches = [batch for process in processes for batch in process["batches"][4 * step : 4 * step + 4]]
        kept = [rows for rows, _, _ in batches]
        assert 0 < sum(map(sum, kept)) < 16
        expected = (16 / sum(map(sum, kept)), 8 / sum(map(any, kept)))
        assert [tuple(weights) for _, *weights in batches] == [pytest.approx(expected)] * 8


@pytest.mark.slow
def test_all_processes_skip_only_steps_without_signal_in_any(processes):
    assert [process["skipped"] for process in processes] == [[0, 1], [0, 1]]
    for name, value in processes[0]["parameters"].items():
        assert torch.equal(processes[1]["parameters"][name], value), name
