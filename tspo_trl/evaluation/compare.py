"""A paired comparison of two evaluations on the same questions.

The differences of each score, B minus A, are taken question by question and bootstrapped like the scores of a report.
Only questions with an answer in both evaluations are compared.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from ..trainer.scores import SCORES
from .bootstrap import CONFIDENCE, RESAMPLES, SEED, Array, Estimate, estimate_all
from .report import score_values, table_rows
from .scores import DatasetScores, dataset_order, read_scores, read_settings
from .tables import Table, interval_text, label, number_text, p_value_text

if TYPE_CHECKING:
    from rich.console import Console

Pairs = dict[str, tuple[Array, Array]]

_EXACT_MATCH = SCORES.index("exact_match")


def compare(
    path_a: str | os.PathLike,
    path_b: str | os.PathLike,
    *,
    allow_missing: bool = False,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Any]:
    """
    Compare two evaluations on the same questions.

    Args:
        path_a (`str` or `os.PathLike`):
            Folder or trajectory file of evaluation A, the baseline.
        path_b (`str` or `os.PathLike`):
            Folder or trajectory file of evaluation B.
        allow_missing (`bool`, *optional*, defaults to `False`):
            If `True`, questions with an answer in only one evaluation are left out instead of raising an error.
        resamples (`int`, *optional*, defaults to 1000):
            Number of bootstrap resamples.
        seed (`int`, *optional*, defaults to 0):
            Seed of the bootstrap.

    Returns:
        `dict`: JSON values only, with the keys `a`, `b`, `only_in_a`, `only_in_b`, `datasets`, `macro`,
        `macro_without_bamboogle`, `settings` and `bootstrap`.

    Raises:
        FileNotFoundError: A path does not exist.
        ValueError: The evaluations answered different questions, an id belongs to different questions, or a file is
            not a trajectory file of an evaluation.
    """
    scores_a, scores_b = read_scores(path_a), read_scores(path_b)
    only_in_a, only_in_b = _only_in_first(scores_a, scores_b), _only_in_first(scores_b, scores_a)
    if (only_in_a or only_in_b) and not allow_missing:
        raise ValueError(
            f"A and B answered different questions: {_counted(only_in_a)} only in A, {_counted(only_in_b)} only in B. "
            "Evaluate both on the same questions, or compare the common ones with --allow-missing."
        )
    pairs = _pairs(scores_a, scores_b)
    if not pairs:
        raise ValueError(f"No question was answered in both {path_a} and {path_b}, so there is nothing to compare.")
    return {
        "a": os.fspath(path_a),
        "b": os.fspath(path_b),
        "only_in_a": only_in_a,
        "only_in_b": only_in_b,
        **_compare_pairs(pairs, resamples, seed),
        "settings": settings_differences(read_settings(path_a), read_settings(path_b)),
        "bootstrap": {"resamples": resamples, "seed": seed, "confidence": CONFIDENCE},
    }


def settings_differences(
    settings_a: Mapping[str, Any] | None, settings_b: Mapping[str, Any] | None
) -> dict[str, list[Any]] | None:
    """
    Return the settings that differ between two evaluations.

    Args:
        settings_a (mapping, *optional*):
            Settings of A.
        settings_b (mapping, *optional*):
            Settings of B.

    Returns:
        `dict[str, list]` or `None`: the values in A and in B by name, `None` for a setting that is absent. Names of
        nested settings are joined with dots. `None` if the settings of A or B are unknown.
    """
    if settings_a is None or settings_b is None:
        return None
    flat_a, flat_b = _flat(settings_a), _flat(settings_b)
    names = dict.fromkeys([*flat_a, *flat_b])
    return {name: [flat_a.get(name), flat_b.get(name)] for name in names if flat_a.get(name) != flat_b.get(name)}


def print_comparison(console: "Console", comparison: dict[str, Any]) -> None:
    """
    Print a comparison.

    Args:
        console (`rich.console.Console`):
            Console to print on.
        comparison (`dict`):
            Comparison from [`compare`].
    """
    method = comparison["bootstrap"]
    lines = [f"A: {comparison['a']}", f"B: {comparison['b']}", *_settings_lines(comparison["settings"])]
    if comparison["only_in_a"] or comparison["only_in_b"]:
        counts = [_counted(comparison[key]) for key in ("only_in_a", "only_in_b")]
        lines.append(f"Left out, because only A or B answered them: {counts[0]} in A, {counts[1]} in B.")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    _difference_table(comparison).print(console)
    console.print(
        f"Differences B - A with {method['confidence']:.0%} intervals and two-sided p-values of a paired bootstrap "
        f"({method['resamples']:,} resamples, seed {method['seed']}).\n",
        markup=False,
        highlight=False,
    )
    _exact_match_table(comparison).print(console)


def _only_in_first(first: Mapping[str, DatasetScores], second: Mapping[str, DatasetScores]) -> dict[str, int]:
    """Count the questions of each dataset that only the first has. Datasets without such questions are left out."""
    known = {name: set(scores.ids) for name, scores in second.items()}
    counts = {name: len(set(scores.ids) - known.get(name, set())) for name, scores in first.items()}
    return {name: count for name, count in counts.items() if count}


def _pairs(scores_a: Mapping[str, DatasetScores], scores_b: Mapping[str, DatasetScores]) -> Pairs:
    """Return the scores of A and B on their common questions, one question per row."""
    pairs = {}
    for name in dataset_order(scores_a.keys() & scores_b.keys()):
        a, b = scores_a[name], scores_b[name]
        row_in_b = {id: row for row, id in enumerate(b.ids)}
        rows_a = [row for row, id in enumerate(a.ids) if id in row_in_b]
        rows_b = [row_in_b[a.ids[row]] for row in rows_a]
        changed = np.flatnonzero(a.digests[rows_a] != b.digests[rows_b])
        if len(changed):
            raise ValueError(
                f"{len(changed):,} ids of {name}, such as {a.ids[rows_a[changed[0]]]!r}, have another question or "
                "other gold answers in B than in A. Evaluate both on the same file of questions."
            )
        if rows_a:
            pairs[name] = (a.values[rows_a], b.values[rows_b])
    return pairs


def _compare_pairs(pairs: Pairs, resamples: int, seed: int) -> dict[str, Any]:
    def row(estimate: Estimate, averaged: Sequence[str]) -> dict[str, Any]:
        mean_a, mean_b = (np.mean([pairs[name][side].mean(axis=0) for name in averaged], axis=0) for side in (0, 1))
        low, high = estimate.interval()
        return _discordant([pairs[name] for name in averaged]) | score_values(
            a=mean_a, b=mean_b, difference=estimate.mean, low=low, high=high, p_value=estimate.p_values()
        )

    differences = {name: b - a for name, (a, b) in pairs.items()}
    return estimate_all(differences, resamples=resamples, seed=seed).rows(row)


def _discordant(pairs: list[tuple[Array, Array]]) -> dict[str, Any]:
    """Count the questions that only one evaluation got right, and test them with McNemar's exact test."""
    right_a = np.concatenate([a[:, _EXACT_MATCH] for a, _ in pairs]) == 1.0
    right_b = np.concatenate([b[:, _EXACT_MATCH] for _, b in pairs]) == 1.0
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p_value = float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return {"n": len(right_a), "only_a_right": only_a, "only_b_right": only_b, "mcnemar_p_value": p_value}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _counted(counts: Mapping[str, int]) -> str:
    by_dataset = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return f"{sum(counts.values()):,} ({by_dataset})" if counts else "0"


def _settings_lines(differences: dict[str, list[Any]] | None) -> list[str]:
    if differences is None:
        return ["Settings are not compared: A or B has no settings.json."]
    if not differences:
        return ["Settings: the same."]
    return ["Settings that differ:", *(f"  {name}: {a!r} in A, {b!r} in B" for name, (a, b) in differences.items())]


def _difference_table(comparison: dict[str, Any]) -> Table:
    rows = []
    for name, row in table_rows(comparison):
        for position, score in enumerate(SCORES):
            values = row[score]
            means = [number_text(values[key]) for key in ("a", "b", "difference")]
            interval = interval_text(values["low"], values["high"])
            first = "" if position else label(name)
            rows.append([first, label(score), *means, interval, p_value_text(values["p_value"])])
    return Table(["dataset", "score", "A", "B", "difference", "interval", "p"], rows)


def _exact_match_table(comparison: dict[str, Any]) -> Table:
    rows = [
        [
            label(name),
            f"{row['n']:,}",
            f"{row['only_a_right']:,}",
            f"{row['only_b_right']:,}",
            p_value_text(row["mcnemar_p_value"]),
        ]
        for name, row in table_rows(comparison)
    ]
    return Table(["dataset", "questions", "only A right", "only B right", "McNemar p"], rows)
