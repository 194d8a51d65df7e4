"""The first-occurrence latent reward (FOLR): which turn found the evidence, and what its rollout's turns earn.

From *TSPO: Breaking the Double Homogenization Dilemma in Multi-turn Search Policy Optimization* (arXiv 2601.22776). A turn
is one block of generated tokens with the feedback that the search returned for it.
"""

from collections.abc import Sequence

import torch

from ..answers import Match, contains_answer
from .checks import Credit, check_reward_options


def first_occurrence(
    feedback: Sequence[str | None],
    golden_answers: Sequence[str],
    *,
    match: Match = "token",
    match_boolean_answers: bool = False,
) -> int | None:
    """
    Finds the first turn whose feedback contains a gold answer: t* of the first-occurrence latent reward (stated).

    Args:
        feedback (`Sequence[str | None]`):
            What the search returned after each turn, as the policy saw it, `None` where a turn brought nothing. Text
            that the model wrote has no place here (ours).
        golden_answers (`Sequence[str]`):
            Accepted answers; one that occurs is enough.
        match (`str`, *optional*, defaults to `"token"`):
            `"token"` or `"substring"`, see [`~tspo_trl.answers.contains_answer`] (ours).
        match_boolean_answers (`bool`, *optional*, defaults to `False`):
            Whether gold answers that are only *yes*, *no* or *noanswer* may match (ours).

    Returns:
        `int` or `None`:
            Zero-based index of that turn, `None` if there is none.

    Raises:
        `TypeError`: If `feedback` or `golden_answers` is one string.
        `ValueError`: If `match` is unknown.
    """
    if isinstance(feedback, str):
        raise TypeError(f"feedback must be a sequence with one entry per turn, got a string; pass [{feedback!r}].")
    for turn, text in enumerate(feedback):
        found = contains_answer(
            "" if text is None else text, golden_answers, match=match, match_boolean_answers=match_boolean_answers
        )
        if found:
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
) -> list[float]:
    """
    Rewards of one rollout's turns: its outcome, plus the latent reward where it is a near miss (stated).

    Args:
        outcome (`float`):
            Outcome reward of the rollout. NaN (unscorable) makes every turn's reward NaN.
        num_turns (`int`):
            Number of turns, at least 1.
        first_hit (`int` or `None`):
            Turn whose feedback first contained a gold answer, `None` if none did.
        alpha (`float`, *optional*, defaults to `0.5`):
            Latent reward (value ours).
        credit (`str`, *optional*, defaults to `"first_occurrence"`):
            `"first_occurrence"` gives `alpha` to turn `first_hit` only (the literal reading of the paper), `"prefix"`
            to every turn up to and including it.
        success_threshold (`float`, *optional*, defaults to `1.0`):
            A rollout with at least this outcome is correct and gets no latent reward (value ours).

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
    if first_hit is None or outcome >= success_threshold:
        return [outcome] * num_turns
    first_rewarded = first_hit if credit == "first_occurrence" else 0
    return [outcome + (alpha if first_rewarded <= turn <= first_hit else 0.0) for turn in range(num_turns)]


def near_misses(outcomes: torch.Tensor, first_hits: torch.Tensor, *, success_threshold: float = 1.0) -> torch.Tensor:
    """
    Tells which rollouts are near misses: wrong, although the evidence they acquired contains a gold answer (stated).

    Args:
        outcomes (`torch.Tensor` of shape `(N,)`):
            Outcome rewards; NaN (unscorable) is never a near miss.
        first_hits (`torch.Tensor` of shape `(N,)`):
            Turn whose feedback first contained a gold answer, -1 for never.
        success_threshold (`float`, *optional*, defaults to `1.0`):
            Least outcome of a correct rollout.

    Returns:
        `torch.Tensor` of shape `(N,)` and type bool.
    """
    return (outcomes < success_threshold) & (first_hits >= 0)


def trajectory_kinds(
    outcomes: torch.Tensor, first_hits: torch.Tensor, success_threshold: float
) -> dict[str, torch.Tensor]:
    """
    The four kinds of trajectory (TSPO, abstract).

    Args:
        outcomes (`torch.Tensor` of shape `(N,)`):
            Outcome rewards, NaN where unscorable.
        first_hits (`torch.Tensor` of shape `(N,)`):
            Zero-based turn whose evidence first holds a gold answer, -1 for never.
        success_threshold (`float`):
            Outcome from which a rollout is correct.

    Returns:
        `dict[str, torch.Tensor]`: masks of shape `(N,)`; an unscorable rollout is of no kind.
    """
    correct, scorable, hit = outcomes >= success_threshold, ~outcomes.isnan(), first_hits >= 0
    return {
        "complete_failure": scorable & ~correct & ~hit,
        "near_miss": scorable & ~correct & hit,
        "complete_success": correct & hit,
        "success_without_retrieval": correct & ~hit,
    }


def names_of_kinds(outcomes: torch.Tensor, first_hits: torch.Tensor, success_threshold: float) -> list[str | None]:
    """
    Which of the four kinds each trajectory is.

    Args:
        outcomes, first_hits (`torch.Tensor` of shape `(N,)`), success_threshold (`float`):
            As in [`trajectory_kinds`].

    Returns:
        `list[str]`: a key of [`trajectory_kinds`] each, `None` for an unscorable rollout.
    """
    kinds = trajectory_kinds(outcomes, first_hits, success_threshold)
    return [next((kind for kind, mask in kinds.items() if mask[i]), None) for i in range(len(outcomes))]
