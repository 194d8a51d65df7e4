"""Token F1 as a module of `evaluate`."""

import evaluate

from tspo_trl.answers import f1_score
from tspo_trl.evaluation.metrics.base import SQUAD, TEXT, TEXTS, TextMetric, mean_over_questions, metric_info

_DESCRIPTION = """
Mean token overlap (harmonic mean of precision and recall) of a prediction with the closest gold answer, after the
normalisation of `exact_match`. If the prediction or the gold answer normalises to nothing, the overlap is 1 if both do
and 0 otherwise, as in SQuAD 2.0.
"""

_USAGE = """
Args:
    predictions (`list` of `str`): one answer per question. `None` scores 0.
    references (`list` of `list` of `str`): gold answers of each question. The best one counts.

Returns:
    f1 (`float`): mean over questions, between 0 and 1.

Example:

    >>> from tspo_trl.evaluation.metrics import load_metric
    >>> metric = load_metric("f1")
    >>> metric.compute(predictions=["Barack Obama", "London"], references=[["Barack Hussein Obama"], ["Paris"]])
    {'f1': 0.4}
"""


class F1(TextMetric):
    """Token F1, see [`~tspo_trl.answers.f1_score`]."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info(_DESCRIPTION, _USAGE, SQUAD, predictions=TEXT, references=TEXTS)

    def _compute(self, predictions: list[str | None], references: list[list[str]]) -> dict[str, float]:
        return {"f1": mean_over_questions(map(f1_score, predictions, references))}
