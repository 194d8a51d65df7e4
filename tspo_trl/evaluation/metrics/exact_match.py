"""Exact match as a module of `evaluate`."""

import evaluate

from tspo_trl.answers import exact_match
from tspo_trl.evaluation.metrics.base import SQUAD, TEXT, TEXTS, TextMetric, mean_over_questions, metric_info

_DESCRIPTION = """
Share of questions with a prediction that equals a gold answer after SQuAD's normalisation: lower case, no punctuation,
no articles, single spaces. Text beyond ASCII is also converted to Unicode's NFKC form, and loses Unicode punctuation,
accents (Latin, Greek), vowel signs (Arabic, Hebrew) and stress marks (Cyrillic).
"""

_USAGE = """
Args:
    predictions (`list` of `str`): one answer per question. `None` scores 0.
    references (`list` of `list` of `str`): gold answers of each question. One match is enough.

Returns:
    exact_match (`float`): mean over questions, between 0 and 1.

Example:

    >>> from tspo_trl.evaluation.metrics import load_metric
    >>> metric = load_metric("exact_match")
    >>> metric.compute(predictions=["The Beatles", None], references=[["Beatles", "Fab Four"], ["Paris"]])
    {'exact_match': 0.5}
"""


class ExactMatch(TextMetric):
    """Exact match, see [`~tspo_trl.answers.exact_match`]."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info(_DESCRIPTION, _USAGE, SQUAD, predictions=TEXT, references=TEXTS)

    def _compute(self, predictions: list[str | None], references: list[list[str]]) -> dict[str, float]:
        return {"exact_match": mean_over_questions(map(exact_match, predictions, references))}
