"""Credit: the first-occurrence latent reward (FOLR) and group-relative advantages, as pure functions.

Implements *TSPO: Breaking the Double Homogenization Dilemma in Multi-turn Search Policy Optimization* (arXiv
2601.22776) from its abstract and secondary summaries. In the docstrings, "stated" marks what those texts say and
"ours" what we chose where they are silent; every choice of ours is an option. A group is all rollouts of one question,
a turn is one block of generated tokens with the feedback that the search returned for it, and a NaN outcome marks an
unscorable rollout, which is left out of every statistic and gets no advantage. No function here changes its arguments.
"""

from functools import partial
from typing import Literal

import torch

from .checks import Credit, check_batch, check_choice, check_reward_options
from .first_occurrence import near_misses

TurnLevelGroups = Literal["all_wrong", "always", "never"]
TurnBaseline = Literal["same_turn", "all_turns"]
AbsentTurns = Literal["skip", "zero"]
ScaleRewards = Literal["group", "batch", "none"]

EPSILON = 1e-4  # added to every standard deviation, as TRL does
ZERO_STD = 1e-6  # a standard deviation up to this times (1 + |mean|) is rounding, not signal
SIGNAL = 1e-6  # an advantage up to this moves nothing


def all_wrong_groups(outcomes: torch.Tensor, group_size: int, *, success_threshold: float = 1.0) -> torch.Tensor:
    """
    Tells which groups are all wrong: at least one rollout can be scored, and none is correct.

    Args:
        outcomes (`torch.Tensor` of shape `(N,)`):
            Outcome rewards, the rollouts of a group side by side; NaN is unscorable and counts neither way.
        group_size (`int`):
            Number of rollouts per group; divides `N`.
        success_threshold (`float`, *optional*, defaults to `1.0`):
            Least outcome of a correct rollout.

    Returns:
        `torch.Tensor` of shape `(N / group_size,)` and type bool.
    """
    grouped = outcomes.reshape(-1, group_size)
    correct = grouped >= success_threshold
    return ~correct.any(dim=1) & ~grouped.isnan().all(dim=1)


def groups_with_signal(advantages: torch.Tensor, group_size: int) -> torch.Tensor:
    """
    Tells which groups carry a learning signal: any advantage whose magnitude exceeds 1e-6.

    Args:
        advantages (`torch.Tensor` of shape `(N, T)`):
            Advantages of N rollouts, the rollouts of a group side by side.
        group_size (`int`):
            Number of rollouts per group; divides `N`.

    Returns:
        `torch.Tensor` of shape `(N / group_size,)` and type bool.
    """
    return (advantages.abs() > SIGNAL).any(dim=1).reshape(-1, group_size).any(dim=1)


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
) -> torch.Tensor:
    """
    Group-relative advantages of every turn, at turn or trajectory level depending on the group (stated).

    With `alpha=0` and `turn_level_groups="never"` these are GRPO's advantages with TRL's arithmetic, in float32, bit
    for bit; the one exception is ours: a group whose rewards differ by rounding only has advantages of exactly 0.

    Args:
        outcomes (`torch.Tensor` of shape `(N,)`, floating point):
            Outcome rewards, the rollouts of a group side by side. NaN marks an unscorable rollout: it is left out of
            every mean and standard deviation and its advantages are 0.
        num_turns (`torch.Tensor` of shape `(N,)`, integer):
            Number of turns of each rollout, at least 1.
        first_hits (`torch.Tensor` of shape `(N,)`, integer):
            Turn whose feedback first contained a gold answer, -1 for never.
        group_size (`int`):
            Number of rollouts per group; divides `N`. A group of 1 has no baseline: its advantages are 0.
        alpha (`float`, *optional*, defaults to `0.5`):
            Latent reward of a near miss (value ours). Where advantages are divided by the group's standard deviation
            it cancels in all-wrong groups of equal outcomes.
        credit (`str`, *optional*, defaults to `"first_occurrence"`):
            Which turns of a near miss get `alpha`: the `"first_occurrence"` (stated, read literally) or the whole
            `"prefix"` up to it.
        turn_level_groups (`str`, *optional*, defaults to `"all_wrong"`):
            Which groups are credited turn by turn: `"all_wrong"`, `"always"` or `"never"` (stated that it depends on
            the group's composition; which composition is ours).
        turn_baseline (`str`, *optional*, defaults to `"same_turn"`):
            At turn level, a reward is compared with the rewards of the `"same_turn"` in the group, or of `"all_turns"`
            of the group pooled (ours).
        absent_turns (`str`, *optional*, defaults to `"skip"`):
            With `turn_baseline="same_turn"`, rollouts that ended before turn k are left out of its statistics
            (`"skip"`), or count there as reward 0 (`"zero"`) (ours). With fewer than two rollouts in them the
            advantage is 0. `"skip"` makes the baseline depend on when rollouts stop, a known source of bias on length.
        latent_in_mixed_groups (`bool`, *optional*, defaults to `True`):
            At trajectory level, whether near misses get `alpha` on top of their outcome (ours).
            [`~tspo_trl.TSPOConfig`] has it off.
        scale_rewards (`str` or `bool`, *optional*, defaults to `"group"`):
            Standard deviation to divide by, TRL's field: `"group"` (or `True`) that of the values the mean is taken
            over, `"batch"` that of all trajectories (trajectory level) or of all turn rewards of turn-level groups
            (turn level), `"none"` (or `False`) no division.
        success_threshold (`float`, *optional*, defaults to `1.0`):
            A rollout with at least this outcome is correct (value ours).
        additive_credit (`bool`, *optional*, defaults to `False`):
            Whether every group, whatever its composition, has the advantages `O + alpha * E` (ours): `O` is GRPO's
            advantage of the outcome, the same in every turn, and `E` compares the turns of the group at turn level by
            the evidence alone, 1 in the turns that `credit` names (of correct rollouts, too) and 0 in others. The
            last turn of a rollout that has found its evidence is not compared: `E` is 0 there, and it counts as
            absent. `turn_level_groups`, `latent_in_mixed_groups` and `success_threshold` have no effect then.

    Returns:
        `torch.Tensor` of shape `(N, max(num_turns))` and type float32, on the device of `outcomes`:
            Advantage of every turn, 0 past a rollout's last turn.

    Raises:
        `TypeError`: If `outcomes`, `num_turns` or `first_hits` is no tensor.
        `ValueError`: If an argument has a wrong shape or type, is out of range or unknown.
    """
    check_reward_options(alpha, credit, success_threshold)
    check_choice("turn_level_groups", turn_level_groups, TurnLevelGroups)
    check_choice("turn_baseline", turn_baseline, TurnBaseline)
    check_choice("absent_turns", absent_turns, AbsentTurns)
    scale = _scale(scale_rewards)
    check_batch(outcomes, num_turns, first_hits, group_size)

    outcomes = outcomes.to(torch.float32)
    turns = torch.arange(int(num_turns.max()), device=outcomes.device)
    exists = turns < num_turns.unsqueeze(1)
    if group_size == 1:
        return torch.zeros(exists.shape, dtype=torch.float32, device=outcomes.device)
    rewarded = _rewarded_turns(first_hits, exists.shape[1], credit)
    is_scorable = ~outcomes.isnan().unsqueeze(1)
    pooled = turn_baseline == "all_turns"
    zero_absent = absent_turns == "zero" and not pooled
    turn_level_advantages = partial(
        _turn_advantages,
        is_scorable=is_scorable,
        group_size=group_size,
        scale=scale,
        pooled=pooled,
        zero_absent=zero_absent,
    )

    if additive_credit:
        # A rollout that has its evidence has nothing left to find in its last turn.
        is_compared = turns < (num_turns - (first_hits >= 0).long()).unsqueeze(1)
        evidence = rewarded.to(torch.float32).where(is_compared & is_scorable, torch.nan)
        evidence_advantages = turn_level_advantages(evidence).where(is_compared, 0.0)
        outcome_advantages = _trajectory_advantages(outcomes, group_size, scale).unsqueeze(1)
        return (outcome_advantages + alpha * evidence_advantages).where(exists, 0.0)

    latent = alpha * near_misses(outcomes, first_hits, success_threshold=success_threshold).to(torch.float32)
    trajectory_rewards = outcomes + latent if latent_in_mixed_groups else outcomes
    trajectory_advantages = _trajectory_advantages(trajectory_rewards, group_size, scale).unsqueeze(1)

    turn_level = _in_turn_level_group(outcomes, group_size, turn_level_groups, success_threshold).unsqueeze(1)
    rewards = outcomes.unsqueeze(1) + latent.unsqueeze(1) * rewarded
    turn_advantages = turn_level_advantages(rewards.where(exists & turn_level, torch.nan))

    return turn_advantages.where(turn_level, trajectory_advantages).where(exists, 0.0)


def _in_turn_level_group(
    outcomes: torch.Tensor, group_size: int, turn_level_groups: TurnLevelGroups, success_threshold: float
) -> torch.Tensor:
    """Which rollouts (N,) are credited turn by turn."""
    if turn_level_groups == "all_wrong":
        all_wrong = all_wrong_groups(outcomes, group_size, success_threshold=success_threshold)
        return all_wrong.repeat_interleave(group_size)
    return torch.full_like(outcomes, turn_level_groups == "always", dtype=torch.bool)


def _trajectory_advantages(rewards: torch.Tensor, group_size: int, scale: ScaleRewards) -> torch.Tensor:
    """GRPO's advantages (N,) of trajectory rewards (N,)."""
    return _normalize(rewards.reshape(-1, group_size), 1, scale, batch=rewards).flatten()


def _rewarded_turns(first_hits: torch.Tensor, max_turns: int, credit: Credit) -> torch.Tensor:
    """Turns (N, max_turns) that get the latent reward if the rollout is a near miss."""
    turns = torch.arange(max_turns, device=first_hits.device)
    first_hits = first_hits.unsqueeze(1)
    return turns == first_hits if credit == "first_occurrence" else turns <= first_hits


def _turn_advantages(
    rewards: torch.Tensor,
    *,
    is_scorable: torch.Tensor,
    group_size: int,
    scale: ScaleRewards,
    pooled: bool,
    zero_absent: bool,
) -> torch.Tensor:
    """Advantages (N, T) of turn rewards (N, T), in which NaN marks what is left out; `is_scorable` is (N, 1)."""
    values = rewards.nan_to_num(nan=0.0).where(is_scorable, torch.nan) if zero_absent else rewards
    grouped = values.reshape(-1, group_size, rewards.shape[1])
    return _normalize(grouped, (1, 2) if pooled else 1, scale, batch=rewards.flatten()).reshape(rewards.shape)


def _normalize(
    values: torch.Tensor, dim: int | tuple[int, ...], scale: ScaleRewards, *, batch: torch.Tensor
) -> torch.Tensor:
    """
    Scaled deviation of every value from the mean over `dim`; 0 for NaN and where the statistics carry no signal.

    `batch` are the values over which scale `"batch"` takes its standard deviation.
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
    """Mean and sample standard deviation without the NaNs, dimensions kept; fewer than two values have std NaN."""
    mean = values.nanmean(dim=dim, keepdim=True)
    count = (~values.isnan()).sum(dim=dim, keepdim=True)
    # In this order: variance over N, then Bessel's factor. Any other order differs from TRL in the last bit.
    variance = ((values - mean) ** 2).nanmean(dim=dim, keepdim=True) * (count / (count - 1))
    return mean, variance.sqrt()


def _varies(mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Whether a standard deviation is more than rounding; a NaN one is not."""
    return std > ZERO_STD * (1 + mean.abs())


def _scale(scale_rewards: ScaleRewards | bool) -> ScaleRewards:
    """TRL's spellings of `scale_rewards` made one."""
    if isinstance(scale_rewards, bool):
        return "group" if scale_rewards else "none"
    check_choice("scale_rewards", scale_rewards, ScaleRewards)
    return scale_rewards
