"""Trajectories and their credit: first occurrences, token advantages, records and files of trajectories."""

import math
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..answers import contains_answer
from ..credit import first_occurrence, turn_rewards
from ..rewards import exact_match_reward
from ..trajectory import Trajectory, trajectory_to_dict, write_json_lines
from .config import TSPOConfig


def gold_in_question(example: dict[str, Any], args: TSPOConfig) -> bool:
    """Whether the `question` of a dataset row already contains a gold answer."""
    return contains_answer(
        example.get("question") or "",
        example["golden_answers"],
        match=args.match,
        match_boolean_answers=args.match_boolean_answers,
    )


def find_first_hit(trajectory: Trajectory, example: dict[str, Any], args: TSPOConfig) -> int:
    """
    Find the turn whose evidence first contains a gold answer.

    Args:
        trajectory ([`Trajectory`]):
            The rollout.
        example (`dict`):
            Its dataset row, with `golden_answers`.
        args ([`TSPOConfig`]):
            Configuration with `match`, `match_boolean_answers` and `skip_gold_in_question`.

    Returns:
        `int`: turn, from 0. -1 if there is none.
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


def weighted_outcomes(rewards_per_func: Tensor, weights: Tensor) -> Tensor:
    """
    Compute the outcome rewards, TRL's weighted sum of all reward functions.

    Args:
        rewards_per_func (`torch.Tensor` of shape `(N, functions)`):
            Reward of each function for each rollout, NaN if there is none.
        weights (`torch.Tensor` of shape `(functions,)`):
            Weight of each function.

    Returns:
        `torch.Tensor` of shape `(N,)`: NaN for rollouts that no function scored.
    """
    outcomes = (rewards_per_func * weights.to(rewards_per_func.device).unsqueeze(0)).nansum(dim=1)
    return outcomes.masked_fill(rewards_per_func.isnan().all(dim=1), torch.nan)


def success_rewards(rewards_per_func: Tensor, names: Sequence[str], success_reward: str | None) -> Tensor | None:
    """
    Return the rewards of the success reward, without its weight.

    Args:
        rewards_per_func (`torch.Tensor` of shape `(N, functions)`):
            Reward of each function for each rollout, NaN if there is none.
        names (sequence of `str`):
            Name of each function.
        success_reward (`str`, *optional*):
            Name of the success reward, `None` for the default ([`TSPOConfig`]).

    Returns:
        `torch.Tensor` of shape `(N,)`, or `None` if no function is the success reward.
    """
    name = success_reward_name(names, success_reward)
    return None if name is None else rewards_per_func[:, list(names).index(name)]


def success_reward_name(names: Sequence[str], success_reward: str | None) -> str | None:
    """Return the name of the success reward, `None` if there are several functions and none is the default."""
    if success_reward is not None:
        return success_reward
    if exact_match_reward.__name__ in names:
        return exact_match_reward.__name__
    return names[0] if len(names) == 1 else None


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


def trajectory_records(
    trajectories: Sequence[Trajectory],
    examples: Sequence[dict[str, Any]],
    groups: Sequence[int],
    first_hits: Sequence[int],
    outcomes: Sequence[float],
    successes: Sequence[float],
    advantages: Sequence[Sequence[float]],
    args: TSPOConfig,
) -> list[dict[str, Any]]:
    """
    Make the lines of a trajectory file. All sequences have one element per rollout.

    Args:
        trajectories (sequence of [`Trajectory`]):
            The rollouts.
        examples (sequence of `dict`):
            Their dataset rows.
        groups (sequence of `int`):
            Number of their group in the batch.
        first_hits (sequence of `int`):
            Turn of the first occurrence, from 0. -1 if there is none (written as `null`).
        outcomes (sequence of `float`):
            Outcome rewards, NaN if unscorable (written as `null`).
        successes (sequence of `float`):
            Success rewards, NaN if unknown (written as `null`).
        advantages (sequence of sequences of `float`):
            Advantage of each turn. Values after the last turn are dropped.
        args ([`TSPOConfig`]):
            Configuration with `alpha`, `credit` and `success_threshold`.

    Returns:
        `list[dict]`: JSON values only.
    """
    rows = zip(trajectories, examples, groups, first_hits, outcomes, successes, advantages, strict=True)
    return [
        trajectory_to_dict(
            _with_credit(trajectory, first_hit, outcome, success, turn_advantages, args),
            group=group,
            **{name: example[name] for name in ("data_source", "id") if name in example},
            question=example.get("question"),
            golden_answers=example.get("golden_answers"),
            outcome=None if math.isnan(outcome) else outcome,
            success=None if math.isnan(success) else success,
            first_occurrence=None if first_hit < 0 else first_hit,
        )
        for trajectory, example, group, first_hit, outcome, success, turn_advantages in rows
    ]


def _with_credit(
    trajectory: Trajectory,
    first_hit: int,
    outcome: float,
    success: float,
    advantages: Sequence[float],
    args: TSPOConfig,
) -> Trajectory:
    """Set reward and advantage of each turn."""
    rewards = turn_rewards(
        outcome,
        len(trajectory.turns),
        None if first_hit < 0 else first_hit,
        alpha=args.alpha,
        credit=args.credit,
        success_threshold=args.success_threshold,
        success=success,
    )
    turns = [
        replace(turn, reward=None if math.isnan(reward) else reward, advantage=advantage)
        for turn, reward, advantage in zip(trajectory.turns, rewards, advantages, strict=False)
    ]
    return replace(trajectory, turns=tuple(turns))


class TrajectoryFiles:
    """
    Keeps trajectories until the next logging step, which writes them.

    Args:
        output_dir (`str` or `os.PathLike`):
            Folder of the run. The files go to its subfolder `trajectories`.

    Attributes:
        records (`dict[str, list[dict]]`):
            Lines that are not written yet, of `"train"` and `"eval"`.
    """

    def __init__(self, output_dir: str | PathLike):
        self._folder = Path(output_dir) / "trajectories"
        self.records: dict[str, list[dict[str, Any]]] = {"train": [], "eval": []}

    def keep(self, mode: str, records: list[dict[str, Any]]) -> None:
        """
        Keep a batch until the next logging step.

        Args:
            mode (`str`):
                `"train"` keeps the latest batch only, as TRL's table of completions does. `"eval"` keeps all batches
                of an evaluation.
            records (`list[dict]`):
                Lines of the file.
        """
        self.records[mode] = records if mode == "train" else self.records[mode] + records

    def write(self, mode: str, step: int, logs: dict[str, float]) -> None:
        """
        Write the lines that were kept, if any. A file of the same step is replaced.

        Args:
            mode (`str`):
                `"train"` or `"eval"`.
            step (`int`):
                Number of the step, for the file name and in every line.
            logs (`dict[str, float]`):
                Log entry of the trainer. It tells several evaluations of one step apart by their prefix, such as
                `eval_nq`.
        """
        records, self.records[mode] = self.records[mode], []
        if not records:
            return
        prefix = ""
        if mode == "eval":
            prefix = next((key.removesuffix("runtime") for key in logs if key.endswith("_runtime")), "eval_")
        path = self._folder / f"{prefix}step_{step:06d}.jsonl"
        write_json_lines(path, ({"step": step, **record} for record in records))
