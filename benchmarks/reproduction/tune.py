"""Find the learning rate of GRPO, which every variant then uses.

    python -m benchmarks.reproduction.tune

The seeds are not those of the comparison. The best rate has the largest area under the learning curve.
"""

import argparse
from pathlib import Path

from .report import learning_rates_table
from .run import Cell, run_cell

LEARNING_RATES = (3e-4, 1e-3, 3e-3)
REGIME = "past-3"
SEEDS = (101, 102)


def main() -> None:
    """Run the missing cells and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/reproduction"), help="(default: %(default)s)")
    parser.add_argument(
        "--results", type=Path, default=Path("runs/reproduction-results/tuning"), help="(default: %(default)s)"
    )
    args = parser.parse_args()
    for learning_rate in LEARNING_RATES:
        for seed in SEEDS:
            file = args.results / REGIME / f"grpo-lr{learning_rate:g}-seed{seed}.json"
            run_cell(Cell(REGIME, "grpo", seed, learning_rate), args.work, file)
    print(learning_rates_table(args.results))


if __name__ == "__main__":
    main()
