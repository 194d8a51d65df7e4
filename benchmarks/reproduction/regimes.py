"""Regimes: where runs start. A regime is a world and a policy with certain habits in it.

The number in a regime's name is the percentage of right rollouts at the start. The rest of the name says how rollouts
fail. Except in `wander`, most of them stop one search too early. The others are near misses:

- `misread`: they find the evidence and answer with another name in it;
- `past`: they find the evidence, search on, and answer with a name from the next passage;
- `late`: they find the evidence with the last search and have no turn left to answer.

In `wander` all rollouts search enough, most of them for something else. Its near misses are those of `past`.
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
            Share of each habit in the demonstrations of the second part of the warm start.
        habit_steps (`int`, *optional*, defaults to `250`):
            Supervised steps of the second part.
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


# The shares were chosen by the exact match that they lead to. Only right rollouts may end where right ones do (the
# habit "wanders" would break this). Otherwise right answers cannot be made rare.
REGIMES = {
    "misread-0.3": Regime("searchworld", {"right": 0.003, "stops_early": 0.77, "misreads_subject": 0.227}),
    "misread-3": Regime("searchworld", {"right": 0.04, "stops_early": 0.74, "misreads_subject": 0.22}),
    "misread-20": Regime("searchworld", {"right": 0.2, "stops_early": 0.6, "misreads_subject": 0.2}),
    "past-0.3": Regime("searchworld", {"right": 0.003, "stops_early": 0.77, "searches_on": 0.227}),
    "past-3": Regime("searchworld", {"right": 0.05, "stops_early": 0.74, "searches_on": 0.21}),
    "late-3": Regime("searchworld", {"right": 0.04, "stops_early": 0.74, "repeats": 0.22}),
    "wander-3": Regime("searchworld", {"right": 0.05, "wanders_on": 0.7, "searches_on": 0.25}),
    "hard": Regime("hard_world", {"right": 0.05, "stops_early": 0.74, "searches_on": 0.21}),
    "chains": Regime("chain_world", {"right": 0.05, "stops_early": 0.74, "searches_on": 0.21}, groups=4),
}
