"""Metrics of a batch of rollouts: pure functions that return named numbers."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from ..credit import all_wrong_groups, group_advantages, groups_with_signal, trajectory_kinds
from ..search.statistics import SearchStatistics
from ..trajectory import Trajectory

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
    successes: Tensor | None = None,
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
            Success reward from which a rollout is correct.
        successes (`torch.Tensor` of shape `(N,)`, *optional*):
            Success rewards, NaN if unknown. Defaults to `outcomes`.

    Returns:
        `dict[str, float]`: metrics under `tspo/`. Shares are between 0 and 1. `first_occurrence_turn` is a mean over
        the rollouts with an occurrence, NaN if there is none.
    """
    successes = outcomes if successes is None else successes
    kinds = trajectory_kinds(successes, first_hits, success_threshold)
    scorable = ~outcomes.isnan()
    all_wrong = all_wrong_groups(successes, group_size, success_threshold=success_threshold)
    grpo = group_advantages(outcomes, num_turns, first_hits, group_size, alpha=0.0, turn_level_groups="never")
    mean_advantage = advantages.sum(dim=1) / num_turns
    turns_of_group = num_turns.view(-1, group_size).float().mean(dim=1).repeat_interleave(group_size)
    return {
        **{f"tspo/{kind}": _mean(mask[~successes.isnan()]) for kind, mask in kinds.items()},
        "tspo/all_wrong_groups": _mean(all_wrong),
        "tspo/groups_without_signal": _mean(~groups_with_signal(advantages, group_size)),
        "tspo/groups_without_signal_grpo": _mean(~groups_with_signal(grpo, group_size)),
        "tspo/first_occurrence_turn": _mean(first_hits[first_hits >= 0]),
        "tspo/advantage/early_stopping": _mean(mean_advantage[scorable & (num_turns < turns_of_group)]),
        "tspo/advantage/late_stopping": _mean(mean_advantage[scorable & (num_turns > turns_of_group)]),
    }


def rollout_metrics(trajectories: Sequence[Trajectory]) -> dict[str, Tensor]:
    """
    Count the turns, cut turns, searches and queries of each rollout, and mark its end.

    Args:
        trajectories (sequence of [`Trajectory`]):
            Rollouts of this process.

    Returns:
        `dict[str, torch.Tensor]`: under `rollout/`, one value per rollout.
    """
    cut = [sum(turn.is_cut for turn in one.turns) for one in trajectories]
    invalid = [sum(turn.action is None for turn in one.turns) for one in trajectories]
    queries = [sum(len(turn.queries) for turn in one.turns) for one in trajectories]
    return {
        "rollout/turns": torch.tensor([float(len(one.turns)) for one in trajectories]),
        "rollout/searches": torch.tensor([float(one.num_searches) for one in trajectories]),
        "rollout/queries": torch.tensor([float(count) for count in queries]),
        "rollout/duplicate_queries": torch.tensor([float(one.num_duplicate_queries) for one in trajectories]),
        "rollout/invalid_actions": torch.tensor([float(count) for count in invalid]),
        "rollout/cut_turns": torch.tensor([float(count) for count in cut]),
        **{
            f"rollout/end/{reason}": torch.tensor([float(one.end_reason == reason) for one in trajectories])
            for reason in END_REASONS
        },
    }


def length_metrics(lengths: Tensor, is_clipped: Tensor) -> dict[str, float]:
    """
    Compute TRL's metrics of the completions' lengths.

    Args:
        lengths (`torch.Tensor` of shape `(N,)`, floating point):
            Tokens of each completion.
        is_clipped (`torch.Tensor` of shape `(N,)` and type bool):
            Completions that ran out of budget.

    Returns:
        `dict[str, float]`: under `completions/`, the share of clipped completions and the mean, minimum and maximum
        length of all, NaN without completions, and of those that were not clipped, 0 if all were.
    """
    if not lengths.numel():
        lengths, is_clipped = torch.full((1,), torch.nan), torch.zeros(1, dtype=torch.bool)
    terminated = lengths[~is_clipped]
    terminated = terminated if terminated.numel() else torch.zeros(1)
    return {
        "completions/mean_length": lengths.mean().item(),
        "completions/min_length": lengths.min().item(),
        "completions/max_length": lengths.max().item(),
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
