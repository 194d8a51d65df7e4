"""Common parts of the metrics: their descriptions, missing texts, and the mean over questions."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from statistics import fmean
from typing import Any

import evaluate
from datasets import Features, List, Value

TEXT = Value("string")
TEXTS = List(TEXT)

_TSPO_CITATION = """\
@inproceedings{ma2026tspo,
    title     = {{TSPO: Breaking the Double Homogenization Dilemma in Multi-turn Search Policy Optimization}},
    author    = {Ma and others},
    year      = 2026,
    booktitle = {Findings of the Association for Computational Linguistics: ACL 2026},
    eprint    = {arXiv:2601.22776},
}
"""

_SQUAD_CITATION = """\
@inproceedings{rajpurkar2016squad,
    title     = {{SQuAD: 100,000+ Questions for Machine Comprehension of Text}},
    author    = {Rajpurkar, Pranav and Zhang, Jian and Lopyrev, Konstantin and Liang, Percy},
    year      = 2016,
    booktitle = {Proceedings of the 2016 Conference on Empirical Methods in Natural Language Processing},
    eprint    = {arXiv:1606.05250},
}
"""

TSPO = {"citation": _TSPO_CITATION, "reference_urls": ["https://arxiv.org/abs/2601.22776"]}
SQUAD = {"citation": _SQUAD_CITATION, "reference_urls": ["https://rajpurkar.github.io/SQuAD-explorer/"]}


class TextMetric(evaluate.Metric, ABC):
    """
    Metric of texts that may be `None`, for rollouts without one.

    `evaluate` checks only the type of a batch's first prediction, and refuses `None` there. This class is abstract
    because `evaluate` loads the first class of a metric's file that is not abstract.
    """

    @abstractmethod
    def _info(self) -> evaluate.MetricInfo: ...

    def _enforce_nested_string_type(self, schema: Any, obj: Any) -> None:
        if obj is not None:
            super()._enforce_nested_string_type(schema, obj)


def metric_info(description: str, usage: str, source: dict[str, Any], **features: Any) -> evaluate.MetricInfo:
    """
    Describe a metric of this package.

    Args:
        description (`str`):
            Definition of the metric.
        usage (`str`):
            Inputs, output and an example.
        source (`dict`):
            `citation` and `reference_urls`.
        **features:
            Type of `predictions` and, if the metric has any, of `references`.

    Returns:
        `evaluate.MetricInfo`
    """
    return evaluate.MetricInfo(
        description=description,
        inputs_description=usage,
        features=Features(features),
        codebase_urls=["https://github.com/tspo-trl/tspo-trl"],
        **source,
    )


def mean_over_questions(scores: Iterable[float]) -> float:
    """Return the mean of the questions' scores. Raises `ValueError` without questions."""
    scores = list(scores)
    if not scores:
        raise ValueError("predictions is empty, and the mean over no questions is undefined. Pass at least one.")
    return fmean(scores)
