"""Metrics of a batch of rollouts, and scores of an evaluation: pure functions that return named numbers."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from torch import Tensor

from ..answers import cover_exact_match, exact_match, f1_score
from ..credit import group_advantages, groups_with_signal, trajectory_kinds
from ..search.statistics import SearchStatistics
from ..trajectory import Trajectory

SCORES = ("exact_match", "f1", "cover_exact_match", "retrieval_recall", "near_miss", "searches")
"""Names of the scores of a rollout, in the order of an evaluation's report."""

_SEARCH_COUNTS = ("queries", "sent", "cached", "failed", "empty")
END_REASONS = ("answered", "max_turns", "max_length", "no_action", "search_failed")


def _mean(values: Tensor) -> float:
    """Mean, NaN if there are no values. TRL skips NaN when it averages over the steps of a log entry."""
    return values.float().mean().item() if values.numel() else float("nan")


def credit_metrics(
    outcomes: Tensor,
    num_turns: Tensor,
    first_hits: Tensor,
    advantages: Tensor,
    group_size: int,
    success_threshold: float,
) -> dict[str, float]:
    """
    Measure what the policy can learn from a batch, with TSPO and with GRPO.

    Args:
        outcomes (`torch.Tensor` of shape `(N,)`):
            Outcome rewards, NaN if unscorable. The rollouts of a group are adjacent.
        num_turns (`torch.Tensor` of shape `(N,)`):
            Turns of each rollout.
        first_hits (`torch.Tensor` of shape `(N,)`):
            Turn whose evidence first contains a gold answer, from 0. -1 if there is none.
        advantages (`torch.Tensor` of shape `(N, turns)`):
            Advantage of each turn, 0 after the last turn.
        group_size (`int`):
            Rollouts per group.
        success_threshold (`float`):
            Outcome from which a rollout is correct.

    Returns:
        `dict[str, float]`: metrics under `tspo/`. Shares are between 0 and 1. `first_occurrence_turn` is a mean over
        the rollouts with an occurrence, NaN if there is none.
    """
    kinds = trajectory_kinds(outcomes, first_hits, success_threshold)
    scorable = ~outcomes.isnan()
    grouped_correct = (outcomes >= success_threshold).view(-1, group_size).any(dim=1)
    grouped_scorable = scorable.view(-1, group_size).any(dim=1)
    grpo = group_advantages(outcomes, num_turns, first_hits, group_size, alpha=0.0, turn_level_groups="never")
    mean_advantage = advantages.sum(dim=1) / num_turns
    turns_of_group = num_turns.view(-1, group_size).float().mean(dim=1).repeat_interleave(group_size)
    return {
        **{f"tspo/{kind}": _mean(mask[scorable]) for kind, mask in kinds.items()},
        "tspo/all_wrong_groups": _mean(grouped_scorable & ~grouped_correct),
        "tspo/groups_without_signal": _mean(~groups_with_signal(advantages, group_size)),
        "tspo/groups_without_signal_grpo": _mean(~groups_with_signal(grpo, group_size)),
        "tspo/first_occurrence_turn": _mean(first_hits[first_hits >= 0]),
        "tspo/advantage/early_stopping": _mean(mean_advantage[scorable & (num_turns < turns_of_group)]),
        "tspo/advantage/late_stopping": _mean(mean_advantage[scorable & (num_turns > turns_of_group)]),
    }


def rollout_metrics(trajectories: Sequence[Trajectory]) -> dict[str, Tensor]:
    """
    Count the turns, searches and queries of each rollout, and mark its end.

    Args:
        trajectories (sequence of [`Trajectory`]):
            Rollouts of this process.

    Returns:
        `dict[str, torch.Tensor]`: under `rollout/`, one value per rollout.
    """
    invalid = [sum(turn.action is None for turn in one.turns) for one in trajectories]
    queries = [sum(len(turn.queries) for turn in one.turns) for one in trajectories]
    return {
        "rollout/turns": torch.tensor([float(len(one.turns)) for one in trajectories]),
        "rollout/searches": torch.tensor([float(one.num_searches) for one in trajectories]),
        "rollout/queries": torch.tensor([float(count) for count in queries]),
        "rollout/duplicate_queries": torch.tensor([float(one.num_duplicate_queries) for one in trajectories]),
        "rollout/invalid_actions": torch.tensor([float(count) for count in invalid]),
        **{
            f"rollout/end/{reason}": torch.tensor([float(one.end_reason == reason) for one in trajectories])
            for reason in END_REASONS
        },
    }


def length_metrics(lengths: Tensor, is_clipped: Tensor) -> dict[str, float]:
    """
    Compute TRL's metrics of the completions that were not clipped.

    Args:
        lengths (`torch.Tensor` of shape `(N,)`, floating point):
            Tokens of each completion.
        is_clipped (`torch.Tensor` of shape `(N,)` and type bool):
            Completions that ran out of budget.

    Returns:
        `dict[str, float]`: under `completions/`, the share of clipped completions, and the mean, minimum and maximum
        length of the others, 0 if all are clipped.
    """
    terminated = lengths[~is_clipped]
    terminated = terminated if terminated.numel() else torch.zeros(1)
    return {
        "completions/clipped_ratio": is_clipped.float().mean().item(),
        "completions/mean_terminated_length": terminated.mean().item(),
        "completions/min_terminated_length": terminated.min().item(),
        "completions/max_terminated_length": terminated.max().item(),
    }


def search_metrics(statistics: Sequence[SearchStatistics]) -> dict[str, float]:
    """
    Sum up the cost of the searches of a batch.

    Args:
        statistics (sequence of [`~tspo_trl.search.statistics.SearchStatistics`]):
            Statistics of each process.

    Returns:
        `dict[str, float]`: under `search/`, counts summed over the processes, the retriever's own counters, and
        `latency` in seconds per call of the retriever (NaN without a call). If the retriever counts `cache_hits` and
        `cache_misses`, also their `cache_hit_rate` (NaN without either).
    """
    counters = Counter[str]()
    for one in statistics:
        counters.update(one.counters)
    sums = {name: sum(getattr(one, name) for one in statistics) for name in (*_SEARCH_COUNTS, "calls", "seconds")}
    values = {**counters, **{name: sums[name] for name in _SEARCH_COUNTS}}
    values["latency"] = _ratio(sums["seconds"], sums["calls"])
    if "cache_hits" in counters:
        values["cache_hit_rate"] = _ratio(counters["cache_hits"], counters["cache_hits"] + counters["cache_misses"])
    return {f"search/{name}": float(value) for name, value in values.items()}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def score_rollout(trajectory: Trajectory, golden_answers: Sequence[str], first_hit: int | None) -> dict[str, float]:
    """
    Score a rollout against its gold answers.

    Args:
        trajectory ([`~tspo_trl.trajectory.Trajectory`]):
            The rollout.
        golden_answers (`Sequence[str]`):
            Gold answers to its question.
        first_hit (`int` or `None`):
            Turn whose evidence first contains a gold answer ([`~tspo_trl.credit.first_occurrence`]), `None` if there
            is none.

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
