"""Where runs start: a world, and a policy of certain habits in it.

A regime says how rare right answers are at the start, and of which kind the near misses are: `misread`, evidence found
and another name of it answered, or `late`, evidence found with the last search, and no turn left to answer.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Regime:
    """
    A start policy.

    Args:
        world (`str`):
            One of `WORLDS`.
        habits (`dict[str, float]`):
            Share of each habit in the demonstrations of the last part of the warm start.
        habit_steps (`int`, *optional*, defaults to `250`):
            Supervised steps of that part.
        steps (`int`, *optional*, defaults to `40`):
            Training steps of a run.
        groups (`int`, *optional*, defaults to `8`):
            Questions per training step.
    """

    world: str
    habits: dict[str, float]
    habit_steps: int = 250
    steps: int = 40
    groups: int = 8


# The shares were chosen by the exact match that they lead to. Nothing but right rollouts may end where right ones do
# ("wanders" would), or right answers cannot be made rare; half of the answers of "misreads" are right all the same.
REGIMES = {
    "misread-0.3": Regime("searchworld", {"right": 0.003, "stops_early": 0.77, "searches_on": 0.227}),
    "misread-3": Regime("searchworld", {"right": 0.05, "stops_early": 0.74, "searches_on": 0.21}),
    "misread-20": Regime("searchworld", {"right": 0.15, "stops_early": 0.5, "misreads": 0.1, "searches_on": 0.25}),
    "late-3": Regime("searchworld", {"right": 0.04, "stops_early": 0.74, "repeats": 0.22}),
    "hard": Regime("hard_world", {"right": 0.05, "stops_early": 0.74, "searches_on": 0.21}),
    "chains": Regime("chain_world", {"right": 0.05, "stops_early": 0.74, "searches_on": 0.21}, groups=4),
}
