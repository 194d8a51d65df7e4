"""Where runs start: a world, and a policy of certain habits in it.

A regime says how rare right answers are at the start, as a percentage in its name, and how rollouts fail. But for
`wander`, most stop before they have searched enough. The others are near misses:

- `misread`: evidence found, and another name of it answered;
- `past`: evidence found, searched past, and a name of the next passage answered;
- `late`: evidence found with the last search, and no turn left to answer.

In `wander` all search enough, most of them for something else, and near misses are those of `past`.
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
# ("wanders" would), or right answers cannot be made rare.
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
