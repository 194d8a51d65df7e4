"""Retrieval recall as a module of `evaluate`."""

import evaluate

from tspo_trl.answers import Match
from tspo_trl.credit import first_occurrence
from tspo_trl.evaluation.metrics.base import TEXTS, TSPO, TextMetric, mean_over_questions, metric_info

_DESCRIPTION = """
Share of questions with a gold answer in the evidence of at least one turn. The rule is that of TSPO's turn rewards:
the normalisation of `exact_match` on both sides, and tokens side by side.
"""

_USAGE = """
Args:
    predictions (`list` of `list` of `str`): evidence of each turn of each question. A turn without evidence is `None`.
        A question without searches is an empty list or `None`, and scores 0.
    references (`list` of `list` of `str`): gold answers of each question. One match is enough.
    match (`str`, defaults to `"token"`): `"token"` searches the gold answer's tokens side by side, `"substring"` its
        characters anywhere.
    match_boolean_answers (`bool`, defaults to `False`): if `True`, the gold answers yes and no may match, although a
        passage with them is not evidence.

Returns:
    retrieval_recall (`float`): mean over questions, between 0 and 1.

Example:

    >>> from tspo_trl.evaluation.metrics import load_metric
    >>> metric = load_metric("retrieval_recall")
    >>> metric.compute(
    ...     predictions=[["Berlin is in Germany.", "Paris is the capital of France."], []],
    ...     references=[["Paris"], ["Rome"]],
    ... )
    {'retrieval_recall': 0.5}
"""


class RetrievalRecall(TextMetric):
    """Retrieval recall, see [`~tspo_trl.credit.first_occurrence`]."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info(_DESCRIPTION, _USAGE, TSPO, predictions=TEXTS, references=TEXTS)

    def _compute(
        self,
        predictions: list[list[str | None] | None],
        references: list[list[str]],
        match: Match = "token",
        match_boolean_answers: bool = False,
    ) -> dict[str, float]:
        first_hits = (
            first_occurrence(evidence or [], golden_answers, match=match, match_boolean_answers=match_boolean_answers)
            for evidence, golden_answers in zip(predictions, references, strict=True)
        )
        return {"retrieval_recall": mean_over_questions(first_hit is not None for first_hit in first_hits)}
