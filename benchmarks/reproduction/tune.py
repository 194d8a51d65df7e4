"""The learning rate of GRPO, which every variant then takes.

    python -m benchmarks.reproduction.tune

Seeds of its own: none of them is a seed of the comparison. The best has the largest area under the learning curve,
averaged over regimes and seeds.
"""

import argparse
from pathlib import Path
from statistics import fmean

from .run import Cell, run_cell

LEARNING_RATES = (3e-4, 1e-3, 3e-3)
REGIMES = ("past-3",)
SEEDS = (101, 102)


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/reproduction"), help="(default: %(default)s)")
    parser.add_argument(
        "--results", type=Path, default=Path("runs/reproduction-results/tuning"), help="(default: %(default)s)"
    )
    args = parser.parse_args()
    print("| learning rate | " + " | ".join(f"{regime}: area, final" for regime in REGIMES) + " | mean area |")
    print("|---" * (len(REGIMES) + 2) + "|")
    for learning_rate in LEARNING_RATES:
        areas, texts = [], []
        for regime in REGIMES:
            curves = [_curve(Cell(regime, "grpo", seed, learning_rate), args.work, args.results) for seed in SEEDS]
            areas.append(fmean(fmean(curve) for curve in curves))
            texts.append(f"{areas[-1]:.3f}, {fmean(fmean(curve[-5:]) for curve in curves):.3f}")
        print(f"| {learning_rate:g} | {' | '.join(texts)} | {fmean(areas):.3f} |", flush=True)


def _curve(cell: Cell, work: Path, results: Path) -> list[float]:
    """Exact match step by step."""
    file = results / cell.regime / f"grpo-lr{cell.learning_rate:g}-seed{cell.seed}.json"
    return run_cell(cell, work, file)["curves"]["exact_match"]


if __name__ == "__main__":
    main()
