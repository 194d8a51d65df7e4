"""Reduces rollouts to a few numbers, so that files of any length can be analyzed."""

import math
from dataclasses import dataclass
from typing import Any

from ..answers import contains_answer, exact_match
from ..credit import first_occurrence
from ..credit.checks import TOLERANCE
from .options import ViewOptions
from .reading import Record

# Tags around feedback in Search-R1, in chat templates (Qwen, Nemotron; LFM2; Llama 3) and in R1-Searcher.
FEEDBACK_TAGS = (
    "<information>",
    "</information>",
    "<tool_response>",
    "</tool_response>",
    "<|tool_response_start|>",
    "<|tool_response_end|>",
    "<|start_header_id|>ipython",
    "<|begin_of_documents|>",
    "<|end_of_documents|>",
)


@dataclass(frozen=True, slots=True)
class Rollout:
    """
    One rollout in numbers.

    Args:
        group (`int`):
            Number of its group, unique over all files, or -1 if it has none.
        step (`int`, *optional*):
            Training step.
        outcome (`float`):
            Outcome reward, NaN if unscorable.
        success (`float`):
            Success reward, NaN if unknown.
        first_hit (`int`):
            First turn whose evidence contains a gold answer, counted from 0, or -1 for never.
        num_turns (`int`):
            Number of turns.
        end_reason (`str`):
            Reason for ending.
        num_searches (`int`):
            Number of turns that searched.
        num_invalid_turns (`int`):
            Number of turns that neither searched nor answered.
        num_queries (`int`):
            Number of queries.
        num_duplicate_queries (`int`):
            Number of queries that the rollout repeated.
        has_forged_tags (`bool`):
            Whether the model wrote a tag that belongs to feedback.
        has_gold_in_question (`bool`):
            Whether the question contains a gold answer.
        outcome_differs (`bool`, *optional*):
            Whether the recorded success and the prediction's exact match disagree on correctness, or `None` if there
            is nothing to compare.
        first_hit_differs (`bool`, *optional*):
            Whether the recorded first occurrence differs from `first_hit`, or `None` if none is recorded.
    """

    group: int
    step: int | None
    outcome: float
    success: float
    first_hit: int
    num_turns: int
    end_reason: str
    num_searches: int
    num_invalid_turns: int
    num_queries: int
    num_duplicate_queries: int
    has_forged_tags: bool
    has_gold_in_question: bool
    outcome_differs: bool | None
    first_hit_differs: bool | None

    @property
    def has_known_actions(self) -> bool:
        """Whether its turns record their actions. Those of TRL's own generation do not."""
        return self.end_reason != "generated"


def summarize(record: Record, group: int, options: ViewOptions) -> Rollout:
    """
    Reduce a line of a trajectory file to numbers.

    Args:
        record ([`~tspo_trl.analysis.reading.Record`]):
            The line.
        group (`int`):
            Number of its group, or -1 if it has none.
        options ([`~tspo_trl.viewer.ViewOptions`]):
            Definitions of correct rollouts and of evidence.

    Returns:
        [`Rollout`]
    """
    trajectory, golds = record.trajectory, record.golden_answers
    score = exact_match(record.prediction, golds)
    matching: dict[str, Any] = {"match": options.match, "match_boolean_answers": options.match_boolean_answers}
    hit = first_occurrence(trajectory.evidence, golds, **matching)
    first_hit = -1 if hit is None else hit
    return Rollout(
        group=group,
        step=record.step,
        outcome=_reward(record, record.outcome, score),
        success=_reward(record, record.success, score),
        first_hit=first_hit,
        num_turns=len(trajectory.turns),
        end_reason=trajectory.end_reason,
        num_searches=trajectory.num_searches,
        num_invalid_turns=sum(turn.action is None for turn in trajectory.turns),
        num_queries=sum(len(turn.queries) for turn in trajectory.turns),
        num_duplicate_queries=trajectory.num_duplicate_queries,
        has_forged_tags=any(tag in turn.text for turn in trajectory.turns for tag in FEEDBACK_TAGS),
        has_gold_in_question=contains_answer(record.question or "", golds, **matching),
        outcome_differs=_outcome_differs(record, score, options.success_threshold),
        first_hit_differs=None if record.first_occurrence is None else record.first_occurrence != first_hit,
    )


def _reward(record: Record, recorded: float | None, score: float) -> float:
    if recorded is not None:
        return recorded
    # A rollout with a failed search is unscorable, not wrong.
    return math.nan if record.trajectory.end_reason == "search_failed" else score


def _outcome_differs(record: Record, score: float, success_threshold: float) -> bool | None:
    # TRL's own generation records no prediction to compare.
    if record.success is None or math.isnan(record.success) or record.trajectory.end_reason == "generated":
        return None
    return (record.success >= success_threshold - TOLERANCE) != (score == 1.0)
