"""Credit assignment of TSPO as pure functions of tensors.

Implements *TSPO: Breaking the Double Homogenization Dilemma in Multi-turn Search Policy Optimization* (arXiv
2601.22776), written from its abstract and secondary summaries. `docs/method.md` says which rules the paper states.
`evidence.py` keeps the frame of passages apart. `first_occurrence.py` rewards turns with the first-occurrence latent
reward (FOLR). `advantages.py` compares turns within their group. A turn is one block of generated tokens with the
feedback that followed it. A group is all rollouts of one question. No function changes its arguments.
"""

from .advantages import EPSILON as EPSILON
from .advantages import SIGNAL as SIGNAL
from .advantages import ZERO_STD as ZERO_STD
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
