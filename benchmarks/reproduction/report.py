"""Tables and figures of the reproduction, made from the result files alone.

    python -m benchmarks.reproduction.report

Means are over seeds, with 95% t-intervals. Differences are to GRPO and paired by seed.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from tspo_trl.evaluation.folder import read_json

from .advantages import advantages_table
from .estimates import Estimate, StepsToTarget
from .length_bias import WORLDS, table
from .regimes import REGIMES
from .summary import (
    BASELINE,
    METHOD,
    Cell,
    Regime,
    Run,
    expectation,
    final_training,
    learning_area,
    load_runs,
    read_run,
    summarize,
)
from .variants import VARIANTS

VARIANT_ORDER = tuple(VARIANTS)
FIGURES = ("misread-0.3", "past-0.3")  # where TSPO starts sooner, and where it fails
NONE = "-"


def regimes_table(regimes: Sequence[Regime]) -> str:
    """
    Compare TSPO with GRPO, in a row for each regime.

    Args:
        regimes (`Sequence[Regime]`):
            The regimes.

    Returns:
        `str`: a Markdown table.
    """
    header = (
        "regime",
        "start EM",
        "near misses at the start",
        "all wrong in the first groups",
        "GRPO: final EM",
        "TSPO: final EM",
        "difference",
        "GRPO: steps to its final EM",
        "TSPO: steps to it",
        "ratio",
        "at most half the steps",
    )
    return _table(header, [_regime_row(regime) for regime in regimes])


def variants_table(regime: Regime) -> str:
    """
    Compare the variants of a regime, each with the command that repeats its runs.

    Args:
        regime ([`Regime`]):
            The regime.

    Returns:
        `str`: a Markdown table.
    """
    header = (
        "variant",
        "seeds",
        "final EM",
        "difference",
        "area under the curve",
        "difference of areas",
        "steps to an EM of 0.5",
        "steps to GRPO's final EM",
        "groups with signal, first 5 steps",
        "groups with signal, all steps",
        "searches per rollout",
        "turns per rollout",
        "command",
    )
    return _table(header, [_variant_row(regime.name, cell) for cell in regime.cells.values()])


def learning_rates_table(folder: Path) -> str:
    """
    List the runs at other learning rates.

    Args:
        folder (`Path`):
            Folder of the results of `tune`.

    Returns:
        `str`: a Markdown table. It has no rows if there are no such runs.
    """
    runs = [read_run(path) for path in folder.glob("*/*-seed*.json")]
    runs.sort(key=lambda run: (run.regime, run.variant, run.settings["learning_rate"], run.seed))
    header = (
        "regime",
        "variant",
        "learning rate",
        "seed",
        "area under the curve",
        "EM of the last 5 steps",
        "final EM",
    )
    rows = [
        (
            run.regime,
            run.variant,
            f"{run.settings['learning_rate']:g}",
            str(run.seed),
            *(f"{value:.3f}" for value in (learning_area(run), final_training(run), run.end["exact_match"])),
        )
        for run in runs
    ]
    return _table(header, rows)


def cost_table(runs: Sequence[Run]) -> str:
    """
    Summarize time, memory, commits and versions of the runs.

    Args:
        runs (`Sequence[Run]`):
            All runs.

    Returns:
        `str`: a Markdown table.
    """
    versions = {f"{name} {version}" for run in runs for name, version in run.machine["versions"].items() if version}
    seconds = [run.seconds for run in runs]
    rows = [
        ("runs", str(len(runs))),
        ("time of all", f"{sum(seconds) / 3600:.1f} h"),
        ("seconds per run", f"{sum(seconds) / len(runs):.0f}, at most {max(seconds):.0f}"),
        ("peak memory", f"{max(run.peak_memory_mb for run in runs):.0f} MiB"),
        ("commits", ", ".join(sorted({str(run.machine["commit"]) for run in runs}))),
        ("versions", ", ".join(sorted(versions))),
    ]
    return _table(("", "all runs"), rows)


def report(runs: Sequence[Run], regimes: Sequence[Regime], folder: Path) -> str:
    """
    Write all tables.

    Args:
        runs (`Sequence[Run]`), regimes (`Sequence[Regime]`):
            All runs, and their summary.
        folder (`Path`):
            Folder of results. The tables of `tune`, `advantages` and `length_bias` follow if their results exist.

    Returns:
        `str`: Markdown.
    """
    sections = ["## Regimes", regimes_table(regimes)]
    for regime in regimes:
        sections += [f"## {regime.name}", variants_table(regime)]
    if (folder / "tuning").exists():
        sections += ["## Learning rates", learning_rates_table(folder / "tuning")]
    if (folder / "advantages.json").exists():
        means = read_json(folder / "advantages.json")["mean_advantages"]
        sections += ["## Mean advantage of a turn in the first 5 steps", advantages_table(means)]
    if (folder / "length_bias.json").exists():
        results = read_json(folder / "length_bias.json")["results"]
        for world, (_, states) in WORLDS.items():
            sections += [f"## Length: {world.replace('_', ' ')}", table(results[world], states)]
    sections += ["## Cost", cost_table(runs)]
    return "\n\n".join(sections) + "\n"


def _regime_row(regime: Regime) -> list[str]:
    baseline, method = regime.cells.get(BASELINE), regime.cells.get(METHOD)
    first = next(iter(regime.cells.values()))
    return [
        regime.name,
        f"{first.start.mean:.3f}",
        f"{first.start_near_misses.mean:.3f}",
        f"{first.all_wrong.mean:.2f}",
        estimate_text(baseline.final if baseline else None),
        estimate_text(method.final if method else None),
        estimate_text(method.final_difference if method else None, signed=True),
        steps_text(baseline.steps_to_target if baseline else None),
        steps_text(method.steps_to_target if method else None),
        NONE if regime.steps_ratio is None else f"{regime.steps_ratio:.2f}",
        expectation(regime),
    ]


def _variant_row(regime: str, cell: Cell) -> list[str]:
    return [
        cell.variant,
        str(len(cell.runs)),
        estimate_text(cell.final),
        estimate_text(cell.final_difference, signed=True),
        estimate_text(cell.area),
        estimate_text(cell.area_difference, signed=True),
        steps_text(cell.steps_to_half),
        steps_text(cell.steps_to_target),
        f"{cell.signal_start.mean:.2f}",
        f"{cell.signal.mean:.2f}",
        f"{cell.searches_start.mean:.2f} → {cell.searches_end.mean:.2f}",
        f"{cell.turns_start.mean:.2f} → {cell.turns_end.mean:.2f}",
        f"`{command(regime, cell)}`",
    ]


def estimate_text(estimate: Estimate | None, *, signed: bool = False) -> str:
    """Format a mean with its interval, such as `0.531 [0.502, 0.560]`."""
    if estimate is None or math.isnan(estimate.mean):
        return NONE
    sign = "+" if signed else ""
    if estimate.margin is None:
        return f"{estimate.mean:{sign}.3f}"
    low, high = estimate.mean - estimate.margin, estimate.mean + estimate.margin
    return f"{estimate.mean:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def steps_text(steps: StepsToTarget | None) -> str:
    """Format the median, then range and number of seeds that reached the target: `12 [9, 15] (3/5)`."""
    if steps is None:
        return NONE
    median = "never" if steps.median is None else f"{steps.median:g}"
    bounds = f" [{steps.least}, {steps.most}]" if steps.reached else ""
    return f"{median}{bounds} ({steps.reached}/{steps.total})"


def command(regime: str, cell: Cell) -> str:
    """The shell command that repeats all runs of a cell."""
    once = f"python -m benchmarks.reproduction.run --regime {regime} --variant {cell.variant} --seed"
    seeds = [str(run.seed) for run in cell.runs]
    return f"{once} {seeds[0]}" if len(seeds) == 1 else f"for s in {' '.join(seeds)}; do {once} $s; done"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Write the tables and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results = Path("benchmarks/results/reproduction")
    parser.add_argument("--results", type=Path, default=results, help="folder of result files (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=results / "tables.md", help="(default: %(default)s)")
    parser.add_argument(
        "--figures", type=Path, default=Path("docs/images"), help="folder of the figures (default: %(default)s)"
    )
    args = parser.parse_args()
    try:
        runs = load_runs(args.results)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))

    from .figures import save_figures

    regimes = summarize(runs, tuple(REGIMES), VARIANT_ORDER)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = args.output.with_name(args.output.name + ".part")
    unfinished.write_text(report(runs, regimes, args.results), encoding="utf-8")
    unfinished.replace(args.output)
    drawn = [regime for regime in regimes if regime.name in FIGURES]
    for path in (args.output, *save_figures(drawn, args.figures)):
        print(path)


if __name__ == "__main__":
    main()
