"""Checks of the arguments of credit functions. Each error names the argument, its value and what it must be."""

import math
from typing import Literal, get_args

import torch

Credit = Literal["first_occurrence", "prefix"]

TOLERANCE = 1e-6  # a success reward this far below the threshold reaches it: float32 sums such as 0.99999994
MARGIN = 0.01  # a near miss with its latent reward stays this far below the success threshold


def check_choice(name: str, value: str, choices: object) -> None:
    """Check that an option has one of the values of a `Literal` type."""
    allowed = get_args(choices)
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}.")


def check_reward_options(alpha: float, credit: str, success_threshold: float) -> None:
    """Check the options of turn rewards."""
    if not (math.isfinite(alpha) and alpha >= 0):
        raise ValueError(f"alpha must be a finite number of at least 0, got {alpha!r}.")
    if math.isnan(success_threshold):
        raise ValueError("success_threshold must be a number, got nan.")
    check_choice("credit", credit, Credit)


def check_successes(successes: torch.Tensor, num_rollouts: int) -> None:
    """Check the success rewards that [`~tspo_trl.credit.group_advantages`] gets."""
    _check_vector("successes", successes)
    if len(successes) != num_rollouts:
        raise ValueError(
            f"successes must have one entry per rollout, as outcomes, got {len(successes)} and {num_rollouts} entries."
        )


def check_batch(outcomes: torch.Tensor, num_turns: torch.Tensor, first_hits: torch.Tensor, group_size: int) -> None:
    """Check the batch that [`~tspo_trl.credit.group_advantages`] gets."""
    _check_vector("outcomes", outcomes)
    _check_vector("num_turns", num_turns)
    _check_vector("first_hits", first_hits)
    if not len(outcomes) == len(num_turns) == len(first_hits):
        raise ValueError(
            "outcomes, num_turns and first_hits must have one entry per rollout each, got "
            f"{len(outcomes)}, {len(num_turns)} and {len(first_hits)} entries."
        )
    if not isinstance(group_size, int) or group_size < 1:
        raise ValueError(f"group_size must be an integer of at least 1, got {group_size!r}.")
    if len(outcomes) == 0 or len(outcomes) % group_size:
        raise ValueError(
            f"The number of outcomes must be a positive multiple of group_size ({group_size}), got {len(outcomes)}."
        )
    _check_entries("outcomes", outcomes, outcomes.isinf(), "finite, or NaN if a rollout cannot be scored")
    _check_entries("num_turns", num_turns, num_turns < 1, "at least 1")
    wrong_hits = (first_hits < -1) | (first_hits >= num_turns)
    _check_entries("first_hits", first_hits, wrong_hits, "a turn index below the rollout's num_turns, or -1 for never")


def _check_vector(name: str, tensor: torch.Tensor) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}. Pass torch.tensor({name}).")
    if tensor.dim() != 1:
        raise ValueError(f"{name} must have one dimension, got shape {tuple(tensor.shape)}.")
    integer = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
    if name in ("outcomes", "successes"):
        if not tensor.is_floating_point():
            raise ValueError(f"{name} must have a floating point type, got {tensor.dtype}. Pass {name}.float().")
    elif not integer:
        raise ValueError(f"{name} must have an integer type, got {tensor.dtype}. Pass {name}.long().")


def _check_entries(name: str, tensor: torch.Tensor, wrong: torch.Tensor, rule: str) -> None:
    if wrong.any():
        rollout = int(wrong.nonzero()[0])
        raise ValueError(f"{name} must be {rule}. Rollout {rollout} has {tensor[rollout].item()!r}.")
