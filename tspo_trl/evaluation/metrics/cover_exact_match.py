"""Cover exact match as a module of `evaluate`."""

import evaluate

from tspo_trl.answers import Match, cover_exact_match
from tspo_trl.evaluation.metrics.base import TEXT, TEXTS, TextMetric, mean_over_questions, metric_info

_CITATION = """\
@misc{song2025r1searcher,
    title  = {{R1-Searcher: Incentivizing the Search Capability in LLMs via Reinforcement Learning}},
    author = {Song, Huatong and others},
    year   = 2025,
    eprint = {arXiv:2503.05592},
}
"""

_SOURCE = {
    "citation": _CITATION,
    "reference_urls": ["https://github.com/RUC-NLPIR/FlashRAG", "https://github.com/RUCAIBox/R1-Searcher"],
}

_DESCRIPTION = """
Share of questions with a prediction that contains a gold answer after the normalisation of `exact_match`. It is never
below `exact_match`.
"""

_USAGE = """
Args:
    predictions (`list` of `str`): one answer per question. `None` scores 0.
    references (`list` of `list` of `str`): gold answers of each question. One match is enough.
    match (`str`, defaults to `"token"`): `"token"` searches the gold answer's tokens side by side, `"substring"` its
        characters anywhere, as in FlashRAG and R1-Searcher.

Returns:
    cover_exact_match (`float`): mean over questions, between 0 and 1.

Example:

    >>> from tspo_trl.evaluation.metrics import load_metric
    >>> metric = load_metric("cover_exact_match")
    >>> metric.compute(predictions=["It is Paris.", "North Dakota"], references=[["Paris"], ["no"]])
    {'cover_exact_match': 0.5}
    >>> metric.compute(predictions=["It is Paris.", "North Dakota"], references=[["Paris"], ["no"]], match="substring")
    {'cover_exact_match': 1.0}
"""


class CoverExactMatch(TextMetric):
    """Cover exact match, see [`~tspo_trl.answers.cover_exact_match`]."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info(_DESCRIPTION, _USAGE, _SOURCE, predictions=TEXT, references=TEXTS)

    def _compute(
        self, predictions: list[str | None], references: list[list[str]], match: Match = "token"
    ) -> dict[str, float]:
        scores = (
            cover_exact_match(prediction, golden_answers, match=match)
            for prediction, golden_answers in zip(predictions, references, strict=True)
        )
        return {"cover_exact_match": mean_over_questions(scores)}
