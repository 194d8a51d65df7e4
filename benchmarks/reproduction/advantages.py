"""Mean advantage of a turn, by what the turn did, from the trajectories of the runs.

    python -m benchmarks.reproduction.advantages --json runs/reproduction-results/advantages.json

Learning curves show which variant learns faster. These means show why. They cover the first steps of training, in
which all variants still act alike.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from tspo_trl.trajectory import read_json_lines

from .summary import load_runs

FIRST_STEPS = 5

# A near miss searches until it finds the evidence, then searches on, and answers in its last turn. The last turn
# counts as the answer whatever the model wrote there.
KINDS = (
    "right: search",
    "right: answer",
    "near miss: search",
    "near miss: search on",
    "near miss: answer",
    "failure: search",
    "failure: answer",
)


def turn_kinds(record: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """
    Classify the turns of a rollout.

    Args:
        record (`dict`):
            A line of a trajectory file.

    Yields:
        `tuple[str, float]`: for each turn, one of `KINDS` and the turn's advantage.
    """
    hit, last = record["first_occurrence"], len(record["turns"]) - 1
    is_right = bool(record["outcome"])
    name = "right" if is_right else "failure" if hit is None else "near miss"
    for k, turn in enumerate(record["turns"]):
        decision = "answer" if k == last else "search on" if name == "near miss" and k > hit else "search"
        yield f"{name}: {decision}", turn["advantage"]


def mean_advantages(records: Iterable[dict[str, Any]]) -> dict[str, float | None]:
    """
    Average the advantages of each kind of turn.

    Args:
        records (iterable of `dict`):
            Lines of trajectory files.

    Returns:
        `dict[str, float | None]`: the mean for each of `KINDS`, `None` if there was no such turn.
    """
    advantages = defaultdict(list)
    for record in records:
        for kind, advantage in turn_kinds(record):
            advantages[kind].append(advantage)
    return _means(advantages)


def read_run(folder: Path) -> dict[str, float | None]:
    """Mean advantages in the first steps of a run."""
    files = [folder / "trajectories" / f"step_{step:06d}.jsonl" for step in range(1, FIRST_STEPS + 1)]
    return mean_advantages(record for file in files for record in read_json_lines(file))


def advantages_table(means: dict[str, dict[str, dict[str, float | None]]]) -> str:
    """A Markdown table with a row for each regime and variant."""
    lines = [f"| regime | variant | {' | '.join(KINDS)} |", f"|{'---|' * (len(KINDS) + 2)}"]
    for regime, variants in means.items():
        for variant, by_kind in variants.items():
            cells = ["-" if by_kind[kind] is None else f"{by_kind[kind]:+.2f}" for kind in KINDS]
            lines.append(f"| {regime} | {variant} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Read the trajectories of all runs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/reproduction"), help="(default: %(default)s)")
    parser.add_argument(
        "--results", type=Path, default=Path("runs/reproduction-results"), help="(default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="JSON file for the means")
    args = parser.parse_args()
    cells: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for run in load_runs(args.results):
        folder = args.work / run.regime / f"{run.variant}-seed{run.seed}"
        cells[run.regime][run.variant].append(read_run(folder))
    means = {
        regime: {variant: _mean_of_seeds(runs) for variant, runs in variants.items()}
        for regime, variants in cells.items()
    }
    print(advantages_table(means))
    if args.json:
        args.json.write_text(json.dumps({"first_steps": FIRST_STEPS, "mean_advantages": means}, indent=1) + "\n")


def _mean_of_seeds(runs: list[dict[str, float | None]]) -> dict[str, float | None]:
    return _means({kind: [run[kind] for run in runs if run[kind] is not None] for kind in KINDS})


def _means(values: dict[str, list]) -> dict[str, float | None]:
    return {kind: round(fmean(values[kind]), 4) if values[kind] else None for kind in KINDS}


if __name__ == "__main__":
    main()
