"""Options of the analysis and the viewer."""

import math
from dataclasses import dataclass

from ..answers import Match


@dataclass(frozen=True)
class ViewOptions:
    """
    Definitions of correct rollouts and of evidence, for files that record neither.

    Args:
        success_threshold (`float`, *optional*, defaults to `1.0`):
            Minimum success reward of a correct rollout.
        match (`str`, *optional*, defaults to `"token"`):
            How to find gold answers in evidence: `"token"` or `"substring"`, see
            [`~tspo_trl.answers.contains_answer`].
        match_boolean_answers (`bool`, *optional*, defaults to `False`):
            If `True`, gold answers that are only *yes*, *no* or *noanswer* can match.

    Raises:
        ValueError: `success_threshold` is NaN.
    """

    success_threshold: float = 1.0
    match: Match = "token"
    match_boolean_answers: bool = False

    def __post_init__(self) -> None:
        if math.isnan(self.success_threshold):
            raise ValueError("success_threshold must be a number, got nan.")
