"""Joins trajectories with their credit: first occurrences, token advantages, and the records of the trajectory files."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .answers import contains_answer
from .config import TSPOConfig
from .credit import first_occurrence, turn_rewards
from .trajectory import Trajectory, trajectory_to_dict


def gold_in_question(example: dict[str, Any], args: TSPOConfig) -> bool:
    """Whether a gold answer of a dataset row already stands in its `question`."""
    return contains_answer(
        example.get("question") or "",
        example["golden_answers"],
        match=args.match,
        match_boolean_answers=args.match_boolean_answers,
    )


def find_first_hit(trajectory: Trajectory, example: dict[str, Any], args: TSPOConfig) -> int:
    """
    The turn whose evidence first holds a gold answer.

    Args:
        trajectory ([`Trajectory`]):
            The rollout.
        example (`dict`):
            The dataset row that it answers, with `golden_answers`.
        args ([`TSPOConfig`]):
            `match`, `match_boolean_answers` and `skip_gold_in_question` are used.

    Returns:
        `int`: zero-based turn, -1 for never.
    """
    if args.skip_gold_in_question and gold_in_question(example, args):
        return -1
    hit = first_occurrence(
        trajectory.evidence,
        example["golden_answers"],
        match=args.match,
        match_boolean_answers=args.match_boolean_answers,
    )
    return -1 if hit is None else hit


def token_advantages(trajectories: Sequence[Trajectory], advantages: Tensor, length: int) -> Tensor:
    """
    Give each turn's advantage to the tokens that the model generated in that turn.

    Args:
        trajectories (sequence of [`Trajectory`]):
            B rollouts.
        advantages (`torch.Tensor` of shape `(B, turns)`):
            Advantage of each turn.
        length (`int`):
            Length T of the padded completions.

    Returns:
        `torch.Tensor` of shape `(B, T)`: 0 for feedback and padding.
    """
    tokens = torch.zeros(len(trajectories), length, dtype=advantages.dtype, device=advantages.device)
    for row, trajectory in enumerate(trajectories):
        for k, turn in enumerate(trajectory.turns):
            start, end = turn.token_span
            tokens[row, start:end] = advantages[row, k]
    return tokens


def trajectory_record(
    trajectory: Trajectory,
    example: dict[str, Any],
    *,
    group: int,
    outcome: float,
    first_hit: int,
    advantages: Sequence[float],
    args: TSPOConfig,
) -> dict[str, Any]:
    """
    One line of a trajectory file.

    Args:
        trajectory ([`Trajectory`]):
            The rollout.
        example (`dict`):
            The dataset row that it answers.
        group (`int`):
            Which group of the batch it belongs to.
        outcome (`float`):
            Outcome reward, NaN where unscorable (written as `null`).
        first_hit (`int`):
            Zero-based turn of the first occurrence, -1 for never (written as `null`).
        advantages (sequence of `float`):
            Advantage of each turn.
        args ([`TSPOConfig`]):
            `alpha`, `credit` and `success_threshold` are used.

    Returns:
        `dict`: JSON values only.
    """
    hit = None if first_hit < 0 else first_hit
    rewards = turn_rewards(
        outcome,
        len(trajectory.turns),
        hit,
        alpha=args.alpha,
        credit=args.credit,
        success_threshold=args.success_threshold,
    )
    turns = tuple(
        replace(turn, reward=None if math.isnan(reward) else reward, advantage=advantage)
        for turn, reward, advantage in zip(trajectory.turns, rewards, advantages, strict=False)
    )
    return trajectory_to_dict(
        replace(trajectory, turns=turns),
        group=group,
        question=example.get("question"),
        golden_answers=example.get("golden_answers"),
        outcome=None if math.isnan(outcome) else outcome,
        first_occurrence=hit,
    )
