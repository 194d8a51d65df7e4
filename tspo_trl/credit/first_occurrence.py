"""The first-occurrence latent reward (FOLR): the turn that retrieved a gold answer, and the rewards that follow."""

from collections.abc import Sequence

import torch

from ..answers import Match, contains_answer
from .checks import MARGIN, TOLERANCE, Credit, check_reward_options
from .evidence import own_words


def first_occurrence(
    feedback: Sequence[str | None],
    golden_answers: Sequence[str],
    *,
    match: Match = "token",
    match_boolean_answers: bool = False,
) -> int | None:
    """
    Find the first turn with a gold answer in its feedback: t* of the first-occurrence latent reward.

    Args:
        feedback (`Sequence[str | None]`):
            What the search returned after each turn, as the policy saw it, without text that the model wrote. `None`
            if a turn has no feedback. The frame of the passages (`Doc 1(Title: ...)`, `<information>`) never matches.
        golden_answers (`Sequence[str]`):
            Accepted answers. One occurrence of one of them is enough.
        match (`str`, *optional*, defaults to `"token"`):
            `"token"` or `"substring"`, see [`~tspo_trl.answers.contains_answer`].
        match_boolean_answers (`bool`, *optional*, defaults to `False`):
            If `True`, the gold answers *yes*, *no* and *noanswer* may match, too.

    Returns:
        `int` or `None`:
            Zero-based index of the turn, `None` if there is none.

    Raises:
        `TypeError`: If `feedback` or `golden_answers` is a string.
        `ValueError`: If `match` is unknown.
    """
    if isinstance(feedback, str):
        raise TypeError(f"feedback must be a sequence with one entry per turn, got a string. Pass [{feedback!r}].")
    for turn, text in enumerate(feedback):
        # Turns without feedback are matched, too, so that an unknown `match` is always an error.
        words = own_words(text or "")
        if contains_answer(words, golden_answers, match=match, match_boolean_answers=match_boolean_answers):
            return turn
    return None


def turn_rewards(
    outcome: float,
    num_turns: int,
    first_hit: int | None,
    *,
    alpha: float = 0.5,
    credit: Credit = "first_occurrence",
    success_threshold: float = 1.0,
    success: float | None = None,
) -> list[float]:
    """
    Return the rewards of a rollout's turns: the outcome, plus the latent reward if the rollout is a near miss.

    The outcome plus the latent reward of a near miss is at most `success_threshold - 0.01`, so that it stays below a
    correct rollout. If rewards other than the success reward lift the outcome to that value, the success reward plus
    the latent reward is at most `success_threshold - 0.01` instead.

    Args:
        outcome (`float`):
            Outcome reward of the rollout. If it is NaN (cannot be scored), all turn rewards are NaN.
        num_turns (`int`):
            Number of turns, at least 1.
        first_hit (`int` or `None`):
            Zero-based index of the first turn with a gold answer in its evidence, `None` if there is none.
        alpha (`float`, *optional*, defaults to `0.5`):
            Latent reward.
        credit (`str`, *optional*, defaults to `"first_occurrence"`):
            Turns that get `alpha`: `"first_occurrence"` (only turn `first_hit`) or `"prefix"` (all turns up to and
            including it).
        success_threshold (`float`, *optional*, defaults to `1.0`):
            A rollout with at least this success reward (to within 1e-6) is correct and gets no latent reward.
        success (`float`, *optional*):
            Success reward, by default the outcome. If it is NaN (unknown), there is no latent reward.

    Returns:
        `list[float]`:
            One reward per turn.

    Raises:
        `ValueError`: If an argument is out of range.
    """
    check_reward_options(alpha, credit, success_threshold)
    if num_turns < 1:
        raise ValueError(f"num_turns must be at least 1, got {num_turns!r}.")
    if first_hit is not None and not 0 <= first_hit < num_turns:
        raise ValueError(
            f"first_hit must be None or a turn index from 0 to {num_turns - 1} (num_turns is {num_turns}), "
            f"got {first_hit!r}."
        )
    success = outcome if success is None else success
    if first_hit is None or not success < success_threshold - TOLERANCE:
        return [outcome] * num_turns
    ceiling = success_threshold - MARGIN
    latent = max(0.0, min(alpha, ceiling - (outcome if outcome < ceiling else success)))
    first_rewarded = first_hit if credit == "first_occurrence" else 0
    return [outcome + (latent if first_rewarded <= turn <= first_hit else 0.0) for turn in range(num_turns)]


def is_right(successes: torch.Tensor, success_threshold: float) -> torch.Tensor:
    """Return which success rewards reach the threshold, to within 1e-6. NaN (unknown) does not."""
    return successes >= success_threshold - TOLERANCE


def is_wrong(successes: torch.Tensor, success_threshold: float) -> torch.Tensor:
    """Return which success rewards miss the threshold by more than 1e-6. NaN (unknown) does not."""
    return successes < success_threshold - TOLERANCE


def latent_rewards(
    outcomes: torch.Tensor,
    successes: torch.Tensor,
    first_hits: torch.Tensor,
    group_size: int,
    *,
    alpha: float,
    success_threshold: float,
) -> torch.Tensor:
    """
    Return the latent reward of each rollout: that of [`turn_rewards`], limited by the group's correct rollouts, too.

    Args:
        outcomes, successes, first_hits, group_size, alpha, success_threshold:
            As in [`~tspo_trl.credit.group_advantages`].

    Returns:
        `torch.Tensor` of shape `(N,)`: 0 for all but near misses, which stay at least 0.01 below each correct rollout
        of their group.
    """
    ceiling = success_threshold - MARGIN
    room = ceiling - outcomes.where(outcomes < ceiling, successes)
    # With weights, the outcome of a correct rollout can be below the threshold.
    right_outcomes = outcomes.where(is_right(successes, success_threshold), torch.inf).reshape(-1, group_size)
    least_right = right_outcomes.amin(dim=1).repeat_interleave(group_size)
    room = torch.minimum(room, least_right - MARGIN - outcomes)
    is_near_miss = near_misses(successes, first_hits, success_threshold=success_threshold)
    return room.clamp(min=0.0, max=alpha).where(is_near_miss, 0.0)


def near_misses(successes: torch.Tensor, first_hits: torch.Tensor, *, success_threshold: float = 1.0) -> torch.Tensor:
    """
    Return which rollouts are near misses: wrong, although their evidence contains a gold answer.

    Args:
        successes (`torch.Tensor` of shape `(N,)`):
            Success rewards. A rollout with NaN (cannot be scored) is not a near miss.
        first_hits (`torch.Tensor` of shape `(N,)`):
            Zero-based index of the first turn with a gold answer in its evidence, -1 if there is none.
        success_threshold (`float`, *optional*, defaults to `1.0`):
            A rollout with at least this success reward (to within 1e-6) is correct.

    Returns:
        `torch.Tensor` of shape `(N,)` and type bool.
    """
    return is_wrong(successes, success_threshold) & (first_hits >= 0)


def trajectory_kinds(
    successes: torch.Tensor, first_hits: torch.Tensor, success_threshold: float
) -> dict[str, torch.Tensor]:
    """
    Sort trajectories into the four kinds of TSPO's abstract.

    Args:
        successes (`torch.Tensor` of shape `(N,)`):
            Success rewards. A rollout with NaN (cannot be scored) is of no kind.
        first_hits (`torch.Tensor` of shape `(N,)`):
            Zero-based index of the first turn with a gold answer in its evidence, -1 if there is none.
        success_threshold (`float`):
            A rollout with at least this success reward (to within 1e-6) is correct.

    Returns:
        `dict[str, torch.Tensor]`:
            Masks of shape `(N,)` under `"complete_failure"`, `"near_miss"`, `"complete_success"` and
            `"success_without_retrieval"`.
    """
    correct, wrong = is_right(successes, success_threshold), is_wrong(successes, success_threshold)
    hit = first_hits >= 0
    return {
        "complete_failure": wrong & ~hit,
        "near_miss": wrong & hit,
        "complete_success": correct & hit,
        "success_without_retrieval": correct & ~hit,
    }


def names_of_kinds(successes: torch.Tensor, first_hits: torch.Tensor, success_threshold: float) -> list[str | None]:
    """
    Return the kind of each trajectory.

    Args:
        successes, first_hits (`torch.Tensor` of shape `(N,)`), success_threshold (`float`):
            As in [`trajectory_kinds`].

    Returns:
        `list[str | None]`: a key of [`trajectory_kinds`] for each trajectory, `None` if it cannot be scored.
    """
    kinds = trajectory_kinds(successes, first_hits, success_threshold)
    return [next((kind for kind, mask in kinds.items() if mask[i]), None) for i in range(len(successes))]
