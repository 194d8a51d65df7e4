"""Means over seeds with 95% intervals, and steps to a target. NaN marks a missing value."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

WINDOW = 5  # steps averaged for the start and the end of a run, and for each comparison with a target
CONFIDENCE = 0.95
ROUNDING = 1e-9


@dataclass(frozen=True)
class Estimate:
    """
    A mean over seeds.

    Args:
        mean (`float`):
            The mean. NaN if there is no seed.
        margin (`float` or `None`):
            Half the width of the 95% t-interval. `None` for fewer than two seeds.
    """

    mean: float
    margin: float | None


@dataclass(frozen=True)
class StepsToTarget:
    """
    Steps that the runs of a cell need to reach the target.

    Args:
        median (`float` or `None`):
            Median over all seeds. A seed that never reaches the target counts as infinity. `None` if the median is
            infinite.
        reached (`int`), total (`int`):
            Number of seeds that reached the target, and number of all seeds.
        least (`int` or `None`), most (`int` or `None`):
            Fewest and most steps of the seeds that reached the target.
    """

    median: float | None
    reached: int
    total: int
    least: int | None
    most: int | None


def known_mean(values: Array) -> float:
    """Mean of the values that are not NaN. NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def estimate(values: Sequence[float]) -> Estimate:
    """Mean over seeds without NaNs, with its 95% t-interval."""
    known = [value for value in values if not math.isnan(value)]
    mean = statistics.fmean(known) if known else math.nan
    if len(known) < 2:
        return Estimate(mean, None)
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, df=len(known) - 1)
    return Estimate(mean, float(quantile * statistics.stdev(known) / math.sqrt(len(known))))


def trailing_means(curve: Array, window: int) -> Array:
    """Means over the last `window` steps, from step `window` on. The result is `window - 1` shorter than the curve."""
    windows = np.lib.stride_tricks.sliding_window_view(curve, window)
    return np.array([known_mean(values) for values in windows])


def steps_to(curve: Array, target: float) -> int | None:
    """First step, counted from 1, at which the mean of the last 5 reaches the target. `None` if there is none."""
    reached = np.flatnonzero(trailing_means(curve, WINDOW) >= target - ROUNDING)
    return int(reached[0]) + WINDOW if len(reached) else None


def steps_to_target(curves: Sequence[Array], target: float) -> StepsToTarget:
    """Summarize the steps that the curves need to reach the target."""
    steps = [steps_to(curve, target) for curve in curves]
    reached = [step for step in steps if step is not None]
    median = statistics.median(math.inf if step is None else step for step in steps)
    return StepsToTarget(
        median=median if math.isfinite(median) else None,
        reached=len(reached),
        total=len(steps),
        least=min(reached, default=None),
        most=max(reached, default=None),
    )
