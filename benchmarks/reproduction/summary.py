"""Summary of the runs: means with 95% intervals, differences paired by seed, and steps to a target.

A cell is all runs of one variant in one regime, one run per seed. Missing values of a curve (null in the file) are NaN
and left out of every mean. Exact match is that of the training batches unless it is called held-out. No question is
asked twice, so it is an unbiased estimate of the policy before the step's update.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tspo_trl.evaluation.folder import read_json

from .estimates import ROUNDING, WINDOW, Array, Estimate, StepsToTarget, estimate, known_mean, steps_to_target

BASELINE, METHOD = "grpo", "tspo"
# Expectation: TSPO needs at most this share of GRPO's steps if at least this share of the first groups is all wrong.
STEPS_RATIO, ALL_WRONG = 0.5, 0.7
HALF = 0.5


@dataclass(frozen=True)
class Run:
    """
    One training run.

    Args:
        regime (`str`), variant (`str`), seed (`int`):
            Cell and seed of the run.
        settings (`dict`):
            Settings, without the options that define the variant.
        policy (`str`):
            Digest of the start weights.
        start (`dict[str, float]`), end (`dict[str, float]`):
            Held-out figures before and after training.
        curves (`dict[str, np.ndarray]`):
            One value per step, NaN if it is missing.
        machine (`dict`), seconds (`float`), peak_memory_mb (`float`):
            Machine, time and peak memory of the run.
    """

    regime: str
    variant: str
    seed: int
    settings: dict[str, Any]
    policy: str
    start: dict[str, float]
    end: dict[str, float]
    curves: dict[str, Array]
    machine: dict[str, Any]
    seconds: float
    peak_memory_mb: float


@dataclass(frozen=True)
class Cell:
    """
    A variant in a regime. `*_start` and `*_end` are means over the first and the last 5 steps.

    Args:
        variant (`str`), runs (`tuple[Run, ...]`):
            The variant, and its runs ordered by seed.
        start ([`Estimate`]), start_near_misses ([`Estimate`]):
            Held-out exact match and share of near misses before training.
        final ([`Estimate`]), final_training ([`Estimate`]):
            Held-out exact match after training, and exact match of the last 5 steps.
        area ([`Estimate`]):
            Area under the learning curve: mean exact match over all steps.
        steps_to_target ([`StepsToTarget`] or `None`):
            Steps to the regime's target. `None` if the baseline did not run.
        steps_to_half ([`StepsToTarget`]):
            Steps to an exact match of 0.5.
        final_difference ([`Estimate`] or `None`), area_difference ([`Estimate`] or `None`):
            Difference to the baseline, paired by seed. `None` for the baseline, and if no seed is shared.
        signal_start ([`Estimate`]), signal ([`Estimate`]):
            Share of groups with signal in the first 5 steps and in all steps.
        all_wrong ([`Estimate`]):
            Share of all-wrong groups in the first step.
        turns_start, turns_end, searches_start, searches_end ([`Estimate`]):
            Turns and searches per rollout.
    """

    variant: str
    runs: tuple[Run, ...]
    start: Estimate
    start_near_misses: Estimate
    final: Estimate
    final_training: Estimate
    area: Estimate
    steps_to_target: StepsToTarget | None
    steps_to_half: StepsToTarget
    final_difference: Estimate | None
    area_difference: Estimate | None
    signal_start: Estimate
    signal: Estimate
    all_wrong: Estimate
    turns_start: Estimate
    turns_end: Estimate
    searches_start: Estimate
    searches_end: Estimate


@dataclass(frozen=True)
class Regime:
    """
    All cells of a regime.

    Args:
        name (`str`), cells (`dict[str, Cell]`):
            The regime, and its cells by variant.
        target (`float` or `None`):
            GRPO's exact match over its last 5 steps, mean over seeds. `None` if GRPO did not run.
        steps_ratio (`float` or `None`):
            TSPO's steps to the target divided by GRPO's steps, see [`steps_ratio`].
    """

    name: str
    cells: dict[str, Cell]
    target: float | None
    steps_ratio: float | None


def load_runs(folder: Path) -> list[Run]:
    """
    Read all runs in a folder.

    Args:
        folder (`Path`):
            Folder with files `REGIME/VARIANT-seedSEED.json`, one per run.

    Returns:
        `list[Run]`: the runs, ordered by regime, variant and seed.

    Raises:
        `FileNotFoundError`: If there is no run.
        `ValueError`: If a run is shorter than 5 steps, or if runs of a regime differ in settings or start policy.
    """
    runs = [read_run(path) for path in folder.glob("*/*-seed*.json")]
    if not runs:
        raise FileNotFoundError(
            f"The folder {folder} contains no run. Make runs with python -m benchmarks.reproduction.run."
        )
    runs.sort(key=lambda run: (run.regime, run.variant, run.seed))
    _check_comparable(runs)
    return runs


def summarize(runs: Sequence[Run], regimes: Sequence[str] = (), variants: Sequence[str] = ()) -> list[Regime]:
    """
    Summarize runs regime by regime.

    Args:
        runs (`Sequence[Run]`):
            The runs.
        regimes (`Sequence[str]`, *optional*), variants (`Sequence[str]`, *optional*):
            Order of the names. Other names follow in alphabetical order.

    Returns:
        `list[Regime]`: one summary per regime.
    """
    cells: dict[str, dict[str, list[Run]]] = {}
    for run in sorted(runs, key=lambda run: (*_place(run.regime, regimes), *_place(run.variant, variants), run.seed)):
        cells.setdefault(run.regime, {}).setdefault(run.variant, []).append(run)
    return [_regime(name, of_regime) for name, of_regime in cells.items()]


def paired_difference(
    runs: Sequence[Run], baseline: Sequence[Run], measure: Callable[[Run], float]
) -> Estimate | None:
    """Mean difference to the baseline over the seeds that both have. `None` if they share no seed."""
    by_seed = {run.seed: measure(run) for run in baseline}
    differences = [measure(run) - by_seed[run.seed] for run in runs if run.seed in by_seed]
    return estimate(differences) if differences else None


def steps_ratio(method: StepsToTarget, baseline: StepsToTarget, num_steps: int) -> float | None:
    """
    Divide the method's median steps to the target by those of the baseline.

    Args:
        method ([`StepsToTarget`]), baseline ([`StepsToTarget`]):
            Steps of both.
        num_steps (`int`):
            Length of the runs. It is used as the baseline's steps if the baseline's median never reaches the target.
            This does not favor the method.

    Returns:
        `float` or `None`: the ratio, or `None` if the method's median never reaches the target.
    """
    if method.median is None:
        return None
    return method.median / (num_steps if baseline.median is None else baseline.median)


def expectation(regime: Regime) -> str:
    """
    Check that TSPO needs at most half of GRPO's steps if at least 70% of the first groups are all wrong.

    Returns:
        `str`: `"holds"`, `"fails"`, `"does not apply"` (also if GRPO learns nothing), or `"unknown"` if GRPO or TSPO
        did not run.
    """
    if BASELINE not in regime.cells or METHOD not in regime.cells:
        return "unknown"
    if regime.cells[BASELINE].all_wrong.mean < ALL_WRONG - ROUNDING or not regime.target:
        return "does not apply"
    return "holds" if regime.steps_ratio is not None and regime.steps_ratio <= STEPS_RATIO else "fails"


def read_run(path: Path) -> Run:
    """Read a result file."""
    record = read_json(path)
    curves = {name: np.array(values, dtype=np.float64) for name, values in record["curves"].items()}
    names = ("regime", "variant", "seed", "policy", "start", "end", "machine", "seconds", "peak_memory_mb")
    settings = {name: value for name, value in record["settings"].items() if name != "options"}
    return Run(settings=settings, curves=curves, **{name: record[name] for name in names})


def _check_comparable(runs: Sequence[Run]) -> None:
    first: dict[str, Run] = {}
    for run in runs:
        other = first.setdefault(run.regime, run)
        name, other_name = f"{run.variant}-seed{run.seed} of {run.regime}", f"{other.variant}-seed{other.seed}"
        if len(run.curves["exact_match"]) < WINDOW:
            raise ValueError(f"{name} has fewer than {WINDOW} steps. Run it with more steps.")
        if run.policy != other.policy:
            raise ValueError(
                f"{name} started from another policy than {other_name}. Run both again with the same --work."
            )
        if run.settings != other.settings:
            raise ValueError(
                f"{name} has the settings {run.settings}, {other_name} has {other.settings}. Run both with the same."
            )


def _place(name: str, order: Sequence[str]) -> tuple[int, str]:
    """Sort key for that order. Other names follow in alphabetical order."""
    return (order.index(name) if name in order else len(order), name)


def _regime(name: str, runs: dict[str, list[Run]]) -> Regime:
    baseline = runs.get(BASELINE, [])
    target = statistics.fmean(map(final_training, baseline)) if baseline else None
    cells = {variant: _cell(variant, own, baseline, target) for variant, own in runs.items()}
    method, other = (cells[variant].steps_to_target if variant in cells else None for variant in (METHOD, BASELINE))
    ratio = None
    if method is not None and other is not None:
        ratio = steps_ratio(method, other, len(baseline[0].curves["exact_match"]))
    return Regime(name, cells, target, ratio)


def _cell(variant: str, runs: Sequence[Run], baseline: Sequence[Run], target: float | None) -> Cell:
    others = [] if variant == BASELINE else baseline
    curves = [run.curves["exact_match"] for run in runs]
    without_signal = "groups_without_signal"
    return Cell(
        variant=variant,
        runs=tuple(runs),
        start=estimate([run.start["exact_match"] for run in runs]),
        start_near_misses=estimate([run.start["near_miss"] for run in runs]),
        final=estimate([_final(run) for run in runs]),
        final_training=estimate([final_training(run) for run in runs]),
        area=estimate([learning_area(run) for run in runs]),
        steps_to_target=None if target is None else steps_to_target(curves, target),
        steps_to_half=steps_to_target(curves, HALF),
        final_difference=paired_difference(runs, others, _final),
        area_difference=paired_difference(runs, others, learning_area),
        signal_start=estimate([1 - known_mean(run.curves[without_signal][:WINDOW]) for run in runs]),
        signal=estimate([1 - known_mean(run.curves[without_signal]) for run in runs]),
        all_wrong=estimate([run.curves["all_wrong_groups"][0] for run in runs]),
        turns_start=estimate([known_mean(run.curves["turns"][:WINDOW]) for run in runs]),
        turns_end=estimate([known_mean(run.curves["turns"][-WINDOW:]) for run in runs]),
        searches_start=estimate([known_mean(run.curves["searches"][:WINDOW]) for run in runs]),
        searches_end=estimate([known_mean(run.curves["searches"][-WINDOW:]) for run in runs]),
    )


def _final(run: Run) -> float:
    return run.end["exact_match"]


def final_training(run: Run) -> float:
    """Exact match of the last 5 steps."""
    return known_mean(run.curves["exact_match"][-WINDOW:])


def learning_area(run: Run) -> float:
    """Mean exact match of all steps."""
    return known_mean(run.curves["exact_match"])
