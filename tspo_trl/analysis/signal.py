"""Learning signal of GRPO and TSPO in groups of rollouts."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from ..credit import all_wrong_groups, group_advantages, groups_with_signal
from ..credit.advantages import SIGNAL
from .rollouts import Rollout


def learning_signal(rollouts: Sequence[Rollout], success_threshold: float) -> dict[str, int | float | None]:
    """
    Compute the learning signal in groups of rollouts, with GRPO's advantages and with those of TSPO's defaults.

    Groups of one rollout have no baseline and are left out. Groups may have different sizes.

    Args:
        rollouts (sequence of [`~tspo_trl.analysis.rollouts.Rollout`]):
            Rollouts of any number of groups.
        success_threshold (`float`):
            Minimum success reward of a correct rollout.

    Returns:
        `dict`: `groups`, the number of groups; `groups_with_signal_*` and `turns_with_signal_*`, shares of the groups
        and of their turns; `all_wrong_groups`, a share of the groups; `all_wrong_groups_with_signal_tspo`, a share of
        the all-wrong groups. `None` for a share of nothing.
    """
    counts = Counter[str]()
    for size, batch in _batches(rollouts).items():
        counts.update(_count(batch, size, success_threshold))
    return {
        "groups": counts["groups"],
        "groups_with_signal_grpo": share(counts["groups_grpo"], counts["groups"]),
        "groups_with_signal_tspo": share(counts["groups_tspo"], counts["groups"]),
        "turns_with_signal_grpo": share(counts["turns_grpo"], counts["turns"]),
        "turns_with_signal_tspo": share(counts["turns_tspo"], counts["turns"]),
        "all_wrong_groups": share(counts["all_wrong"], counts["groups"]),
        "all_wrong_groups_with_signal_tspo": share(counts["all_wrong_tspo"], counts["all_wrong"]),
    }


def share(part: float, whole: float) -> float | None:
    """Return `part / whole`, or `None` if `whole` is 0."""
    return part / whole if whole else None


def mean(values: Sequence[float]) -> float | None:
    """Return the mean, or `None` if there are no values."""
    return fmean(values) if values else None


def _batches(rollouts: Sequence[Rollout]) -> dict[int, list[Rollout]]:
    """Sort the groups of two or more by their size. Within a size, each group's rollouts are side by side."""
    groups = defaultdict[int, list[Rollout]](list)
    for rollout in rollouts:
        if rollout.group >= 0:
            groups[rollout.group].append(rollout)
    batches = defaultdict[int, list[Rollout]](list)
    for group in groups.values():
        if len(group) > 1:
            batches[len(group)] += group
    return batches


def _count(batch: Sequence[Rollout], size: int, success_threshold: float) -> dict[str, int]:
    outcomes = torch.tensor([rollout.outcome for rollout in batch], dtype=torch.float64)
    successes = torch.tensor([rollout.success for rollout in batch], dtype=torch.float64)
    num_turns = torch.tensor([rollout.num_turns for rollout in batch])
    first_hits = torch.tensor([rollout.first_hit for rollout in batch])
    credit = (outcomes, num_turns, first_hits, size)
    grpo = group_advantages(*credit, alpha=0.0, turn_level_groups="never")
    options: dict[str, Any] = {"success_threshold": success_threshold, "successes": successes}
    tspo = group_advantages(*credit, latent_in_mixed_groups=False, **options)
    all_wrong = all_wrong_groups(successes, size, success_threshold=success_threshold)
    return {
        "groups": len(batch) // size,
        "groups_grpo": _sum(groups_with_signal(grpo, size)),
        "groups_tspo": _sum(groups_with_signal(tspo, size)),
        "turns": _sum(num_turns),
        "turns_grpo": _sum(grpo.abs() > SIGNAL),
        "turns_tspo": _sum(tspo.abs() > SIGNAL),
        "all_wrong": _sum(all_wrong),
        "all_wrong_tspo": _sum(all_wrong & groups_with_signal(tspo, size)),
    }


def _sum(values: Tensor) -> int:
    return int(values.sum())
