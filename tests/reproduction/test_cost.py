"""Arithmetic of the cost of TSPO compared with GRPO."""

import pytest

from benchmarks.reproduction.cost import summarize


def run_of(steps, credit, memory, lengths=(10.0, 12.0)):
    return {
        "step_seconds": steps,
        "credit_seconds": credit,
        "completion_length": list(lengths),
        "peak_memory_mb": memory,
    }


def test_steps_are_compared_with_their_twins():
    runs = {
        "grpo": [run_of([1.0, 2.0], [0.010, 0.010], 900.0), run_of([1.0, 2.0], [0.010, 0.010], 910.0)],
        "tspo": [run_of([1.1, 2.0], [0.012, 0.012], 905.0), run_of([1.2, 2.0], [0.012, 0.012], 901.0)],
    }
    summary = summarize(runs)
    assert summary["step_ratio"] == pytest.approx(1.05)  # median of 1.1, 1.0, 1.2, 1.0
    assert summary["credit_share"] == pytest.approx(0.002 / 1.5)
    assert summary["peak_memory_mb"] == {"grpo": 910.0, "tspo": 905.0}
    assert summary["same_rollouts"] is True


def test_other_rollouts_are_told():
    runs = {"grpo": [run_of([1.0], [0.01], 1.0)], "tspo": [run_of([1.0], [0.01], 1.0, lengths=(10.0, 13.0))]}
    assert summarize(runs)["same_rollouts"] is False
