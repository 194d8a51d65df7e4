"""Number of searches as a module of `evaluate`."""

import evaluate
from datasets import Value

from tspo_trl.evaluation.metrics.base import TSPO, mean_over_questions, metric_info

_DESCRIPTION = """
Mean number of searches per question.
"""

_USAGE = """
Args:
    predictions (`list` of `int`): number of searches of each question, or its mean over several rollouts. There
        are no references.

Returns:
    searches (`float`): mean over questions.

Example:

    >>> from tspo_trl.evaluation.metrics import load_metric
    >>> load_metric("searches").compute(predictions=[2, 0, 4])
    {'searches': 2.0}
"""


class Searches(evaluate.Metric):
    """Mean number of searches per question."""

    def _info(self) -> evaluate.MetricInfo:
        # Integers would cut off fractions.
        return metric_info(_DESCRIPTION, _USAGE, TSPO, predictions=Value("float64"))

    def _compute(self, predictions: list[float | None]) -> dict[str, float]:
        for position, count in enumerate(predictions):
            if count is None or not count >= 0:
                raise ValueError(f"predictions must be numbers of searches, got {count!r} at position {position}.")
        return {"searches": mean_over_questions(count for count in predictions if count is not None)}
