"""Advantages of TSPO: GRPO's in groups with a correct rollout, turn by turn in groups without one.

GRPO gives every token of a rollout the advantage `(reward - mean) / (std + EPSILON)`, with the mean and the standard
deviation of the rewards in its group. If all rollouts of a group have the same outcome, these advantages are 0. In
groups without a correct rollout, TSPO compares turns instead: by default, turn k of a rollout with turn k of all
rollouts in its group. A near miss, a wrong rollout that retrieved a gold answer, earns `alpha` in the turn that
retrieved it first. The options of [`group_advantages`] change these rules.

Shapes: N rollouts, with the rollouts of a group next to each other, and T turns in the longest rollout.
"""

from functools import partial
from typing import Literal

import torch

from .checks import Credit, check_batch, check_choice, check_reward_options, check_successes
from .first_occurrence import is_right, latent_rewards

TurnLevelGroups = Literal["all_wrong", "always", "never"]
TurnBaseline = Literal["same_turn", "all_turns"]
AbsentTurns = Literal["skip", "zero"]
ScaleRewards = Literal["group", "batch", "none"]

EPSILON = 1e-4  # added to every standard deviation, as TRL does
ZERO_STD = 1e-6  # a standard deviation of at most this times (1 + |mean|) is rounding error
SIGNAL = 1e-6  # an advantage of at most this magnitude has no effect


def group_advantages(
    outcomes: torch.Tensor,
    num_turns: torch.Tensor,
    first_hits: torch.Tensor,
    group_size: int,
    *,
    alpha: float = 0.5,
    credit: Credit = "first_occurrence",
    turn_level_groups: TurnLevelGroups = "all_wrong",
    turn_baseline: TurnBaseline = "same_turn",
    absent_turns: AbsentTurns = "skip",
    latent_in_mixed_groups: bool = True,
    scale_rewards: ScaleRewards | bool = "group",
    success_threshold: float = 1.0,
    additive_credit: bool = False,
    successes: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Compute the group-relative advantage of every turn.

    With `alpha=0` and `turn_level_groups="never"`, these are the advantages of TRL's GRPO in float32, bit for bit,
    with one exception: if the rewards of a group differ only by rounding, its advantages are exactly 0.

    Args:
        outcomes (`torch.Tensor` of shape `(N,)`, floating point):
            Outcome rewards. NaN marks a rollout that cannot be scored: it enters no mean or standard deviation, and
            its advantages are 0.
        num_turns (`torch.Tensor` of shape `(N,)`, integer):
            Number of turns of each rollout, at least 1.
        first_hits (`torch.Tensor` of shape `(N,)`, integer):
            Zero-based index of the first turn with a gold answer in its evidence, -1 if there is none.
        group_size (`int`):
            Number of rollouts per group. Divides `N`. The rollouts of a group are next to each other. A group of 1 has
            no baseline: its advantages are 0.
        alpha (`float`, *optional*, defaults to `0.5`):
            Latent reward of a near miss, limited so that a near miss stays 0.01 below `success_threshold`
            ([`turn_rewards`]) and below the correct rollouts of its group. If advantages are divided by the group's
            standard deviation, `alpha` cancels in all-wrong groups of equal outcomes.
        credit (`str`, *optional*, defaults to `"first_occurrence"`):
            Turns of a near miss that get `alpha`: `"first_occurrence"` (only that turn) or `"prefix"` (all turns up to
            and including it).
        turn_level_groups (`str`, *optional*, defaults to `"all_wrong"`):
            Groups that are compared turn by turn: `"all_wrong"`, `"always"` or `"never"`.
        turn_baseline (`str`, *optional*, defaults to `"same_turn"`):
            At turn level, the turns of the group that a turn is compared with: `"same_turn"` or `"all_turns"` pooled.
        absent_turns (`str`, *optional*, defaults to `"skip"`):
            With `turn_baseline="same_turn"`, how rollouts that ended before turn k enter its statistics: not at all
            (`"skip"`) or as turns without latent reward, with their outcome (`"zero"`). A turn with fewer than two
            rollouts in its statistics has advantage 0. `"skip"` makes the baseline depend on when rollouts stop, a
            known source of length bias.
        latent_in_mixed_groups (`bool`, *optional*, defaults to `True`):
            If `True`, near misses get `alpha` at trajectory level, too. The default of [`~tspo_trl.TSPOConfig`] is
            `False`.
        scale_rewards (`str` or `bool`, *optional*, defaults to `"group"`):
            Standard deviation to divide by, as in TRL: `"group"` or `True` (of the values that the mean is taken
            over), `"batch"` (of all trajectories at trajectory level, of all turn rewards in turn-level groups at turn
            level), `"none"` or `False` (no division).
        success_threshold (`float`, *optional*, defaults to `1.0`):
            A rollout with at least this success reward (to within 1e-6) is correct.
        additive_credit (`bool`, *optional*, defaults to `False`):
            If `True`, the advantages of every group are `O + alpha * E`. `O` is GRPO's advantage of the outcome, the
            same in every turn. `E` is the turn-level advantage of the evidence alone: reward 1 in the turns that
            `credit` names, also of correct rollouts, and 0 in others. If a rollout found its evidence, its last turn
            is not compared: it counts as absent, and its `E` is 0. `turn_level_groups`, `latent_in_mixed_groups` and
            `success_threshold` then have no effect.
        successes (`torch.Tensor` of shape `(N,)`, floating point, *optional*):
            Success rewards, which decide which rollouts are correct. Defaults to `outcomes`. Pass them if `outcomes`
            are weighted sums of several rewards. A rollout with NaN is neither correct nor wrong.

    Returns:
        `torch.Tensor` of shape `(N, max(num_turns))` and type float32, on the device of `outcomes`:
            Advantage of every turn, 0 after a rollout's last turn.

    Raises:
        `TypeError`: If `outcomes`, `num_turns`, `first_hits` or `successes` is not a tensor.
        `ValueError`: If an argument has a wrong shape or type, is out of range or unknown.
    """
    check_reward_options(alpha, credit, success_threshold)
    check_choice("turn_level_groups", turn_level_groups, TurnLevelGroups)
    check_choice("turn_baseline", turn_baseline, TurnBaseline)
    check_choice("absent_turns", absent_turns, AbsentTurns)
    scale = _scale(scale_rewards)
    check_batch(outcomes, num_turns, first_hits, group_size)

    outcomes = outcomes.to(torch.float32)
    if successes is None:
        successes = outcomes
    else:
        check_successes(successes, len(outcomes))
        successes = successes.to(outcomes).where(~outcomes.isnan(), torch.nan)
    turns = torch.arange(int(num_turns.max()), device=outcomes.device)  # (T,)
    exists = turns < num_turns.unsqueeze(1)  # (N, T)
    if group_size == 1:
        return torch.zeros(exists.shape, dtype=torch.float32, device=outcomes.device)
    hits = first_hits.unsqueeze(1)
    has_evidence = turns == hits if credit == "first_occurrence" else turns <= hits  # (N, T)
    is_scorable = ~outcomes.isnan().unsqueeze(1)
    turn_advantages_of = partial(
        _turn_advantages,
        is_scorable=is_scorable,
        group_size=group_size,
        scale=scale,
        turn_baseline=turn_baseline,
        absent_turns=absent_turns,
    )

    if additive_credit:  # a variant of TSPO: advantages of the outcome plus advantages of the evidence
        # A rollout that has its evidence has nothing left to find in its last turn.
        is_compared = turns < (num_turns - (first_hits >= 0).long()).unsqueeze(1)
        evidence = has_evidence.to(torch.float32).where(is_compared & is_scorable, torch.nan)
        no_evidence = torch.zeros_like(outcomes).unsqueeze(1)
        evidence_advantages = turn_advantages_of(evidence, absent=no_evidence).where(is_compared, 0.0)
        outcome_advantages = _trajectory_advantages(outcomes, group_size, scale).unsqueeze(1)
        return (outcome_advantages + alpha * evidence_advantages).where(exists, 0.0)

    # The latent reward: `alpha` for a wrong rollout that retrieved a gold answer.
    latent = latent_rewards(
        outcomes, successes, first_hits, group_size, alpha=alpha, success_threshold=success_threshold
    )

    # Trajectory level, as in GRPO: one reward per rollout, compared within its group.
    trajectory_rewards = outcomes + latent if latent_in_mixed_groups else outcomes
    trajectory_advantages = _trajectory_advantages(trajectory_rewards, group_size, scale).unsqueeze(1)

    # Turn level: one reward per turn, compared with the same turn in the group.
    turn_level = _in_turn_level_group(successes, group_size, turn_level_groups, success_threshold).unsqueeze(1)
    turn_rewards = outcomes.unsqueeze(1) + latent.unsqueeze(1) * has_evidence
    turn_rewards = turn_rewards.where(exists & turn_level, torch.nan)
    turn_advantages = turn_advantages_of(turn_rewards, absent=outcomes.unsqueeze(1))

    # Every group takes one of the two.
    return turn_advantages.where(turn_level, trajectory_advantages).where(exists, 0.0)


def _trajectory_advantages(rewards: torch.Tensor, group_size: int, scale: ScaleRewards) -> torch.Tensor:
    """GRPO's advantages (N,) of trajectory rewards (N,)."""
    return _normalize(rewards.reshape(-1, group_size), 1, scale, batch=rewards).flatten()


def _turn_advantages(
    rewards: torch.Tensor,
    *,
    absent: torch.Tensor,
    is_scorable: torch.Tensor,
    group_size: int,
    scale: ScaleRewards,
    turn_baseline: TurnBaseline,
    absent_turns: AbsentTurns,
) -> torch.Tensor:
    """
    Advantages (N, T) of turn rewards (N, T). NaN marks an absent turn.

    `is_scorable` and `absent`, the reward that `absent_turns="zero"` counts absent turns with, have shape (N, 1).
    """
    pooled = turn_baseline == "all_turns"
    count_absent = absent_turns == "zero" and not pooled
    values = rewards.where(~rewards.isnan(), absent).where(is_scorable, torch.nan) if count_absent else rewards
    grouped = values.reshape(-1, group_size, rewards.shape[1])
    return _normalize(grouped, (1, 2) if pooled else 1, scale, batch=rewards.flatten()).reshape(rewards.shape)


def _normalize(
    values: torch.Tensor, dim: int | tuple[int, ...], scale: ScaleRewards, *, batch: torch.Tensor
) -> torch.Tensor:
    """
    `(value - mean) / (std + EPSILON)` over `dim`, ignoring NaN; 0 for NaN and for values that differ only by rounding.

    With scale `"batch"`, the standard deviation is that of `batch`.
    """
    mean, std = _mean_and_std(values, dim)
    signal = _varies(mean, std) & ~values.isnan()
    if scale == "batch":
        batch_mean, std = _mean_and_std(batch, 0)
        signal = signal & _varies(batch_mean, std)
    deviation = values - mean
    if scale != "none":
        deviation = deviation / (std + EPSILON)
    return deviation.where(signal, 0.0)


def _mean_and_std(values: torch.Tensor, dim: int | tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and sample standard deviation over `dim`, ignoring NaN. The deviation of fewer than two values is NaN."""
    mean = values.nanmean(dim=dim, keepdim=True)
    count = (~values.isnan()).sum(dim=dim, keepdim=True)
    # In this order: variance over N, then Bessel's factor. Any other order differs from TRL in the last bit.
    variance = ((values - mean) ** 2).nanmean(dim=dim, keepdim=True) * (count / (count - 1))
    return mean, variance.sqrt()


def _varies(mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    return std > ZERO_STD * (1 + mean.abs())  # False for NaN


def _in_turn_level_group(
    successes: torch.Tensor, group_size: int, turn_level_groups: TurnLevelGroups, success_threshold: float
) -> torch.Tensor:
    """Mask (N,) of the rollouts that are compared turn by turn."""
    if turn_level_groups == "all_wrong":
        all_wrong = all_wrong_groups(successes, group_size, success_threshold=success_threshold)
        return all_wrong.repeat_interleave(group_size)
    return torch.full_like(successes, turn_level_groups == "always", dtype=torch.bool)


def _scale(scale_rewards: ScaleRewards | bool) -> ScaleRewards:
    """Translate the booleans that TRL accepts."""
    if isinstance(scale_rewards, bool):
        return "group" if scale_rewards else "none"
    check_choice("scale_rewards", scale_rewards, ScaleRewards)
    return scale_rewards


def all_wrong_groups(successes: torch.Tensor, group_size: int, *, success_threshold: float = 1.0) -> torch.Tensor:
    """
    Return which groups are all wrong: at least one rollout can be scored, and none is correct.

    Args:
        successes (`torch.Tensor` of shape `(N,)`):
            Success rewards, the rollouts of a group next to each other. NaN (cannot be scored) is neither wrong nor
            correct.
        group_size (`int`):
            Number of rollouts per group. Divides `N`.
        success_threshold (`float`, *optional*, defaults to `1.0`):
            A rollout with at least this success reward (to within 1e-6) is correct.

    Returns:
        `torch.Tensor` of shape `(N / group_size,)` and type bool.
    """
    grouped = successes.reshape(-1, group_size)
    correct = is_right(grouped, success_threshold)
    return ~correct.any(dim=1) & ~grouped.isnan().all(dim=1)


def groups_with_signal(advantages: torch.Tensor, group_size: int) -> torch.Tensor:
    """
    Return which groups carry a learning signal: at least one advantage has a magnitude above 1e-6.

    Args:
        advantages (`torch.Tensor` of shape `(N, T)`):
            Advantages, the rollouts of a group next to each other.
        group_size (`int`):
            Number of rollouts per group. Divides `N`.

    Returns:
        `torch.Tensor` of shape `(N / group_size,)` and type bool.
    """
    return (advantages.abs() > SIGNAL).any(dim=1).reshape(-1, group_size).any(dim=1)
