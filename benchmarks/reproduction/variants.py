"""Variants to compare: GRPO, TSPO, its ablations, and a control."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tspo_trl import TSPOTrainer


class ShuffledCreditTrainer(TSPOTrainer):
    """
    A control that gives as much latent reward as TSPO, but to the wrong turns.

    In each group, the latent reward of the near misses goes to random wrong rollouts, at a random turn that searched.
    """

    def _turn_advantages(self, outcomes: Tensor, num_turns: Tensor, first_hits: Tensor, group_size: int) -> Tensor:
        # Every process gets the same shuffle, because all see the same batch and the same step number.
        generator = torch.Generator().manual_seed(self.args.seed * 100_003 + self.state.global_step)
        threshold = self.args.success_threshold
        shuffled = shuffled_hits(outcomes, num_turns, first_hits, group_size, threshold, generator)
        return super()._turn_advantages(outcomes, num_turns, shuffled, group_size)


def shuffled_hits(
    outcomes: Tensor,
    num_turns: Tensor,
    first_hits: Tensor,
    group_size: int,
    success_threshold: float,
    generator: torch.Generator,
) -> Tensor:
    """
    Move the first occurrences of near misses to random searched turns of random wrong rollouts of their group.

    Args:
        outcomes (`torch.Tensor` of shape `(N,)`):
            Outcome rewards, NaN if unscorable. The rollouts of a group are contiguous.
        num_turns (`torch.Tensor` of shape `(N,)`):
            Turns of each rollout. All turns except the last searched.
        first_hits (`torch.Tensor` of shape `(N,)`):
            Turn of the first occurrence, -1 if there is none.
        group_size (`int`):
            Rollouts per group.
        success_threshold (`float`):
            Smallest outcome of a correct rollout.
        generator (`torch.Generator`):
            Source of randomness.

    Returns:
        `torch.Tensor` of shape `(N,)`: first occurrences with as many near misses in each group as before, or as many
        as there are wrong rollouts that searched.
    """
    is_wrong = outcomes < success_threshold
    shuffled = first_hits.clone()
    shuffled[is_wrong] = -1
    for start in range(0, len(outcomes), group_size):
        group = slice(start, start + group_size)
        number = int((is_wrong & (first_hits >= 0))[group].sum())
        searched = (is_wrong & (num_turns > 1))[group].nonzero().flatten() + start
        order = torch.randperm(len(searched), generator=generator)
        for row in searched[order[:number]].tolist():
            shuffled[row] = torch.randint(int(num_turns[row]) - 1, (1,), generator=generator).item()
    return shuffled


@dataclass(frozen=True)
class Variant:
    """
    A way to assign credit.

    Args:
        options (`dict`, *optional*):
            Options of [`TSPOConfig`] that differ from their defaults.
        trainer (`type`, *optional*):
            Class of the trainer.
    """

    options: dict[str, Any] = field(default_factory=dict)
    trainer: type[TSPOTrainer] = TSPOTrainer


_MIXED = {"latent_in_mixed_groups": True}

VARIANTS = {
    "grpo": Variant({"alpha": 0.0, "turn_level_groups": "never"}),
    "tspo": Variant(),
    "additive": Variant({"additive_credit": True}),
    "shuffled": Variant(trainer=ShuffledCreditTrainer),
    "latent_in_mixed": Variant(_MIXED),
    "trajectory_level": Variant({"turn_level_groups": "never", **_MIXED}),
    "always_turn_level": Variant({"turn_level_groups": "always"}),
    "prefix": Variant({"credit": "prefix"}),
    "all_turns": Variant({"turn_baseline": "all_turns"}),
    "absent_zero": Variant({"absent_turns": "zero"}),
    # Advantages are divided by the group's deviation, so alpha matters at trajectory level only.
    "alpha_0.1": Variant({"alpha": 0.1, **_MIXED}),
    "alpha_0.9": Variant({"alpha": 0.9, **_MIXED}),
}
