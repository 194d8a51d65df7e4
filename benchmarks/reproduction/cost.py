"""Cost of TSPO compared with GRPO: seconds per step and memory, on the same rollouts.

    python -m benchmarks.reproduction.cost --json runs/reproduction-cost.json

Both methods run with the same seed and a learning rate of 0. The policy does not change, so step k has the same
rollouts in both, and its two times can be compared. The runs alternate between the methods. The time spent on
assigning credit is also measured separately, because nothing else differs.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

from benchmarks.machine import PeakMemory, describe_machine
from tspo_trl import TSPOTrainer

from .policies import open_policy, open_retriever
from .regimes import REGIMES
from .run import Cell, make_trainer

METHODS = ("grpo", "tspo")


def measure(cell: Cell, work: Path) -> dict[str, Any]:
    """
    Run one method.

    Args:
        cell ([`Cell`]):
            What to run.
        work (`Path`):
            Folder of worlds, indexes and start policies.

    Returns:
        `dict`: `step_seconds`, `credit_seconds` and `completion_length` of each step, and `peak_memory_mb`. Equal
        completion lengths show that the rollouts are the same.
    """
    retriever = open_retriever(REGIMES[cell.regime].world, work)
    policy = open_policy(cell.regime, retriever, work)
    credit_seconds: list[float] = []
    assign_credit = TSPOTrainer._assign_credit

    def timed(*args: Any) -> None:
        start = time.perf_counter()
        assign_credit(*args)
        credit_seconds.append(time.perf_counter() - start)

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as output, PeakMemory() as memory:
        trainer = make_trainer(cell, policy, retriever, work, Path(output))
        TSPOTrainer._assign_credit = timed
        try:
            trainer.train()
        finally:
            TSPOTrainer._assign_credit = assign_credit
    rows = [row for row in trainer.state.log_history if "step_time" in row]
    return {
        "step_seconds": [row["step_time"] for row in rows],
        "credit_seconds": credit_seconds,
        "completion_length": [row["completions/mean_length"] for row in rows],
        "peak_memory_mb": memory.peak["resident_mb"],
    }


def main() -> None:
    """Run both methods and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--regime", choices=REGIMES, default="misread-3", help="(default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs per method (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("runs/reproduction"), help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, help="JSON file for the figures")
    args = parser.parse_args()
    machine = describe_machine()
    runs: dict[str, list[dict[str, Any]]] = {method: [] for method in METHODS}
    for repeat in range(args.repeats):
        for method in METHODS if repeat % 2 == 0 else METHODS[::-1]:
            cell = Cell(args.regime, method, seed=0, learning_rate=0.0)
            # A new process for each run, so that memory left by one run does not count for the next.
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                runs[method].append(pool.apply(measure, (cell, args.work)))
    summary = summarize(runs)
    print(json.dumps(summary, indent=2))
    if args.json:
        args.json.write_text(json.dumps({"machine": machine, "summary": summary, "runs": runs}, indent=1) + "\n")


def summarize(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """
    Compute the figures of the comparison.

    Args:
        runs (`dict[str, list[dict]]`):
            Results of [`measure`] by method, in the order of the runs.

    Returns:
        `dict`: median seconds per step and peak memory of each method; `step_ratio`, the median ratio of TSPO's time
        to GRPO's time for the same step; and `credit_share`, TSPO's additional time for credit as a share of a step.
    """
    pairs = [
        (one, other)
        for grpo, tspo in zip(runs["grpo"], runs["tspo"], strict=True)
        for one, other in zip(grpo["step_seconds"], tspo["step_seconds"], strict=True)
    ]
    credit = {method: fmean(s for run in runs[method] for s in run["credit_seconds"]) for method in METHODS}
    return {
        "same_rollouts": all(run["completion_length"] == runs["grpo"][0]["completion_length"] for run in _all(runs)),
        "median_step_seconds": {m: median(s for run in runs[m] for s in run["step_seconds"]) for m in METHODS},
        "step_ratio": median(other / one for one, other in pairs),
        "credit_ms": {method: 1000 * seconds for method, seconds in credit.items()},
        "credit_share": (credit["tspo"] - credit["grpo"]) / fmean(one for one, _ in pairs),
        "peak_memory_mb": {method: max(run["peak_memory_mb"] for run in runs[method]) for method in METHODS},
    }


def _all(runs: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [run for method in METHODS for run in runs[method]]


if __name__ == "__main__":
    main()
