"""Scores of an evaluation: of one rollout, and means over many. This module does not import torch."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from ..answers import cover_exact_match, exact_match, f1_score
from ..trajectory import Trajectory

SCORES = ("exact_match", "f1", "cover_exact_match", "retrieval_recall", "near_miss", "searches")
"""Names of the scores of a rollout, in the order of an evaluation's report."""


def score_rollout(trajectory: Trajectory, golden_answers: Sequence[str], first_hit: int | None) -> dict[str, float]:
    """
    Score a rollout against its gold answers.

    Args:
        trajectory ([`~tspo_trl.trajectory.Trajectory`]):
            The rollout.
        golden_answers (`Sequence[str]`):
            Gold answers to its question.
        first_hit (`int` or `None`):
            Turn whose evidence first contains a gold answer ([`~tspo_trl.credit.first_occurrence`]), `None` if no
            evidence does.

    Returns:
        `dict[str, float]`: a number for each of [`SCORES`]. All are between 0 and 1 except `searches`, the number of
        answered queries. A near miss has no exact match, but its evidence contains a gold answer.
    """
    prediction = trajectory.prediction
    is_right = exact_match(prediction, golden_answers)
    return {
        "exact_match": is_right,
        "f1": f1_score(prediction, golden_answers),
        "cover_exact_match": cover_exact_match(prediction, golden_answers),
        "retrieval_recall": float(first_hit is not None),
        "near_miss": float(first_hit is not None and not is_right),
        "searches": float(sum(len(turn.queries) for turn in trajectory.turns if turn.evidence is not None)),
    }


def mean_scores(scores: Sequence[Mapping[str, float] | None], data_sources: Sequence[str | None]) -> dict[str, float]:
    """
    Average the scores of an evaluation.

    Args:
        scores (sequence of mappings or `None`):
            Result of [`score_rollout`] for each rollout, at least one. `None` for a rollout with a failed search,
            which counts in no mean.
        data_sources (sequence of `str` or `None`):
            Data source of each question, `None` if it is unknown.

    Returns:
        `dict[str, float]`: the mean of each score. With several data sources, also `<data_source>/<score>` for each of
        them and `macro/<score>`, the mean over the data sources. NaN if no rollout has a score.
    """
    means = _means(scores)
    sources = list(dict.fromkeys(data_sources))
    if len(sources) > 1:
        of_sources = [
            _means([s for s, its in zip(scores, data_sources, strict=True) if its == one]) for one in sources
        ]
        for source, values in zip(sources, of_sources, strict=True):
            means |= {f"{source}/{name}": value for name, value in values.items()}
        means |= {f"macro/{name}": fmean(values[name] for values in of_sources) for name in SCORES}
    return means


def _means(scores: Sequence[Mapping[str, float] | None]) -> dict[str, float]:
    scored = [one for one in scores if one is not None]
    return {name: fmean(one[name] for one in scored) if scored else math.nan for name in SCORES}
