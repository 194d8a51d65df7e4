"""Means of scores with bootstrap confidence intervals over questions.

The seed and the name of a dataset decide its resamples, so its interval does not depend on the other datasets. An
average over datasets combines one resample of each: a stratified bootstrap. A dataset with fewer than two questions
has a NaN interval, and so has an average over it.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

RESAMPLES = 1000
SEED = 0
CONFIDENCE = 0.95
_VALUES_AT_ONCE = 3_000_000  # resampled scores in memory


@dataclass(frozen=True)
class Estimate:
    """
    Means of S scores, and the same means of R resamples.

    Args:
        mean (`np.ndarray` of shape `(S,)`):
            Means, NaN without questions.
        resampled (`np.ndarray` of shape `(R, S)`):
            Means of the resamples, NaN with fewer than two questions.
    """

    mean: Array
    resampled: Array

    def interval(self) -> tuple[Array, Array]:
        """
        Return the 95% percentile intervals.

        Returns:
            `tuple[np.ndarray, np.ndarray]`: lower and upper ends, each of shape `(S,)`.
        """
        tail = 100 * (1 - CONFIDENCE) / 2
        low, high = np.percentile(self.resampled, [tail, 100 - tail], axis=0)
        return low, high

    def p_values(self) -> Array:
        """
        Return two-sided p-values of the hypothesis that a mean of paired differences is zero.

        A p-value is twice the smaller of two shares: the resamples that are at most zero, and those that are at least
        zero. Each share counts one additional resample, and the p-value is at most 1. It falls below 0.05 about when
        the 95% interval excludes zero, and never below `2 / (R + 1)`.

        Returns:
            `np.ndarray` of shape `(S,)`: p-values, NaN with fewer than two questions.
        """
        count = len(self.resampled) + 1
        below = (1 + (self.resampled <= 0).sum(axis=0)) / count
        above = (1 + (self.resampled >= 0).sum(axis=0)) / count
        p_values = np.minimum(1.0, 2 * np.minimum(below, above))
        return np.where(np.isnan(self.resampled).any(axis=0), np.nan, p_values)


@dataclass(frozen=True)
class Estimates:
    """
    Estimates of every dataset and of the averages over datasets.

    Args:
        datasets (`dict[str, Estimate]`):
            Estimates by name, in the order given.
        macro ([`Estimate`], *optional*):
            Unweighted average over the datasets, `None` without datasets.
        macro_without_bamboogle ([`Estimate`], *optional*):
            The same without Bamboogle, which makes the average noisy with its 125 questions. `None` if Bamboogle is
            absent or the only dataset.
    """

    datasets: dict[str, Estimate]
    macro: Estimate | None
    macro_without_bamboogle: Estimate | None

    def rows(self, row: Callable[[Estimate, Sequence[str]], dict[str, Any]]) -> dict[str, Any]:
        """
        Make the rows of a report.

        Args:
            row (`Callable`):
                Makes a row from an estimate and the names of the datasets that it averages.

        Returns:
            `dict`: rows by name in `datasets`, and a row or `None` in `macro` and `macro_without_bamboogle`.
        """
        names = list(self.datasets)
        averages = {
            "macro": (self.macro, names),
            "macro_without_bamboogle": (self.macro_without_bamboogle, [name for name in names if name != "bamboogle"]),
        }
        return {
            "datasets": {name: row(estimate, [name]) for name, estimate in self.datasets.items()},
            **{key: None if average is None else row(average, of) for key, (average, of) in averages.items()},
        }


def estimate_means(values: Array, name: str, *, resamples: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """
    Estimate the mean scores of one dataset.

    Args:
        values (`np.ndarray` of shape `(N, S)`):
            S scores of N questions.
        name (`str`):
            Name of the dataset. Together with `seed` it decides the resamples.
        resamples (`int`, *optional*, defaults to 1000):
            Number of resamples R.
        seed (`int`, *optional*, defaults to 0):
            Seed.

    Returns:
        [`Estimate`]

    Raises:
        ValueError: `resamples` is less than 1.
    """
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}, but must be at least 1. Use 1000 or more.")
    mean = values.mean(axis=0) if len(values) else np.full(values.shape[1], np.nan)
    if len(values) < 2:
        return Estimate(mean, np.full((resamples, values.shape[1]), np.nan))
    result = stats.bootstrap(
        (values.T,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, _VALUES_AT_ONCE // values.size),
        axis=-1,
        method="percentile",
        rng=np.random.default_rng([seed, zlib.crc32(name.encode())]),
    )
    return Estimate(mean, result.bootstrap_distribution.T)


def estimate_all(values: Mapping[str, Array], *, resamples: int = RESAMPLES, seed: int = SEED) -> Estimates:
    """
    Estimate the mean scores of every dataset, and their averages over datasets.

    Args:
        values (mapping of `str` to `np.ndarray` of shape `(N, S)`):
            S scores of N questions, by name of the dataset.
        resamples (`int`, *optional*, defaults to 1000):
            Number of resamples.
        seed (`int`, *optional*, defaults to 0):
            Seed.

    Returns:
        [`Estimates`]

    Raises:
        ValueError: `resamples` is less than 1.
    """
    datasets = {name: estimate_means(array, name, resamples=resamples, seed=seed) for name, array in values.items()}
    others = [estimate for name, estimate in datasets.items() if name != "bamboogle"]
    return Estimates(
        datasets=datasets,
        macro=_average(list(datasets.values())) if datasets else None,
        macro_without_bamboogle=_average(others) if 0 < len(others) < len(datasets) else None,
    )


def _average(estimates: Sequence[Estimate]) -> Estimate:
    return Estimate(
        mean=np.mean([estimate.mean for estimate in estimates], axis=0),
        resampled=np.mean([estimate.resampled for estimate in estimates], axis=0),
    )
