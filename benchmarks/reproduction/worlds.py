"""Worlds of the reproduction, and the budgets of a rollout in each."""

from dataclasses import dataclass, field
from typing import Any

from tspo_trl.data import SearchWorld
from tspo_trl.data.searchworld import CHAIN_RELATIONS, RELATIONS


@dataclass(frozen=True)
class World:
    """
    A world and its budgets.

    Args:
        arguments (`dict`):
            Arguments of [`SearchWorld`].
        limits (`dict`):
            Budgets of [`TSPOConfig`].
        right_steps (`int`):
            Supervised steps on right demonstrations, which teach the policy to read and copy.
        max_length (`int`, *optional*, defaults to `512`):
            Longest sequence of the policy, in tokens.
        relations (`dict`, *optional*, defaults to `RELATIONS`):
            Relations of the world.
    """

    arguments: dict[str, Any]
    limits: dict[str, int]
    right_steps: int
    max_length: int = 512
    relations: dict[str, dict[str, str]] = field(default_factory=lambda: RELATIONS)

    def make(self) -> SearchWorld:
        """Generate the world. It is the same in every process."""
        return SearchWorld(0, relations=self.relations, **self.arguments)


_SHORT = {
    "max_turns": 4,
    "max_turn_length": 16,
    "max_feedback_length": 100,
    "max_completion_length": 420,
    "search_top_k": 1,
}

WORLDS = {
    "searchworld": World({"num_test_questions": 240, "hops": (3,)}, _SHORT, right_steps=200),
    "hard_world": World(
        {"num_test_questions": 240, "hops": (3, 4), "aliases": True, "num_distractors": 200},
        {**_SHORT, "max_turns": 5, "search_top_k": 2},
        right_steps=400,
    ),
    "chain_world": World(
        {"num_test_questions": 120, "hops": (8,), "facts_per_entity": 3},
        {**_SHORT, "max_turns": 10, "max_completion_length": 900},
        right_steps=400,
        max_length=1024,
        relations=CHAIN_RELATIONS,
    ),
}
