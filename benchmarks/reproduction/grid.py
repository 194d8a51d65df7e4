"""Run all cells of the reproduction that are not finished.

    python -m benchmarks.reproduction.grid --processes 2

GRPO and TSPO come first, in every regime, then the ablations. An interrupted grid continues with the missing cells.
"""

import argparse
import functools
import multiprocessing
import traceback
from pathlib import Path

from filelock import FileLock, Timeout

from .regimes import REGIMES
from .run import Cell, run_cell
from .variants import VARIANTS

SEEDS = (1, 2, 3, 4, 5)
ABLATION_SEEDS = SEEDS[:3]
_OTHERS = tuple(variant for variant in VARIANTS if variant not in ("grpo", "tspo"))
ABLATIONS = {
    "misread-0.3": ("additive", "latent_in_mixed"),
    "misread-3": _OTHERS,
    "past-3": ("additive", "shuffled", "latent_in_mixed"),
    "late-3": ("additive", "latent_in_mixed"),
    "wander-3": ("shuffled",),
}


def all_cells() -> list[Cell]:
    main = [Cell(regime, variant, seed) for regime in REGIMES for seed in SEEDS for variant in ("grpo", "tspo")]
    ablations = [
        Cell(regime, variant, seed)
        for regime, variants in ABLATIONS.items()
        for seed in ABLATION_SEEDS
        for variant in variants
    ]
    return main + ablations


def run_missing(cell: Cell, work: Path, results: Path) -> bool:
    """
    Run a cell unless it is finished or another process runs it.

    Args:
        cell ([`Cell`]):
            What to run.
        work (`Path`):
            Folder of worlds, indexes, start policies and trajectories.
        results (`Path`):
            Folder of the results.

    Returns:
        `bool`: `False` if the run failed. The traceback is printed.
    """
    file = cell.file(results)
    (work / cell.regime).mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work / cell.regime / f"{file.stem}.lock", timeout=0):
            if not file.exists():
                result = run_cell(cell, work, file)
                scores = f"{result['start']['exact_match']:.3f} -> {result['end']['exact_match']:.3f}"
                print(f"{file}: {scores} in {result['seconds']:.0f} s", flush=True)
    except Timeout:
        print(f"{file}: another process runs it", flush=True)
    except Exception:
        print(f"{file} failed:\n{traceback.format_exc()}", flush=True)
        return False
    return True


def main() -> None:
    """Run the cells that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2, help="cells to run at once (default: %(default)s)")
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=list(REGIMES), help="(default: all)")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="(default: all)")
    parser.add_argument("--work", type=Path, default=Path("runs/reproduction"), help="(default: %(default)s)")
    parser.add_argument(
        "--results", type=Path, default=Path("runs/reproduction-results"), help="(default: %(default)s)"
    )
    args = parser.parse_args()
    cells = [cell for cell in all_cells() if cell.regime in args.regimes and cell.variant in args.variants]
    run = functools.partial(run_missing, work=args.work, results=args.results)
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        failed = sum(not done for done in pool.imap_unordered(run, cells))
    raise SystemExit(f"{failed} cells failed." if failed else 0)


if __name__ == "__main__":
    main()
