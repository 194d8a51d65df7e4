"""The method: the first-occurrence latent reward and group-relative advantages, as pure functions.

`first_occurrence.py` rewards turns, `advantages.py` compares them within their group, `checks.py` refuses bad arguments.
"""

from .advantages import (
    AbsentTurns,
    ScaleRewards,
    TurnBaseline,
    TurnLevelGroups,
    all_wrong_groups,
    group_advantages,
    groups_with_signal,
)
from .checks import Credit
from .first_occurrence import first_occurrence, names_of_kinds, near_misses, trajectory_kinds, turn_rewards

__all__ = [
    "AbsentTurns",
    "Credit",
    "ScaleRewards",
    "TurnBaseline",
    "TurnLevelGroups",
    "all_wrong_groups",
    "first_occurrence",
    "group_advantages",
    "groups_with_signal",
    "names_of_kinds",
    "near_misses",
    "trajectory_kinds",
    "turn_rewards",
]
