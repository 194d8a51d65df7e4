"""Splits evidence into passages, and their texts into pieces of which every second one is a gold answer."""

import re
from collections.abc import Sequence
from typing import Any

from ..analysis.options import ViewOptions
from ..credit.evidence import own_words
from .highlights import answer_spans, cut

# The heading of a passage in `protocols.passages.passages_text`. Most titles are in quotation marks.
_HEADING = re.compile(r'^Doc \d+\(Title: (?:".*?"|.*?)\) ?', re.MULTILINE)


def passages(evidence: str, golden_answers: Sequence[str], options: ViewOptions) -> list[dict[str, Any]]:
    """
    Split evidence into passages.

    Args:
        evidence (`str`):
            Result of a search, as the policy read it.
        golden_answers (sequence of `str`):
            Gold answers.
        options ([`~tspo_trl.viewer.ViewOptions`]):
            Says how gold answers match.

    Returns:
        `list[dict]`: `heading` and `text` of each passage, in pieces ([`~tspo_trl.viewer.highlights.cut`]). Text of
        another form has an empty heading. All pieces joined are `evidence`.
    """
    spans = answer_spans(
        own_words(evidence), golden_answers, match=options.match, match_boolean_answers=options.match_boolean_answers
    )
    headings = [match.span() for match in _HEADING.finditer(evidence)]
    if not headings or headings[0][0] > 0:
        headings.insert(0, (0, 0))
    starts = [start for start, _ in headings]
    return [
        {"heading": cut(evidence, spans, start, body), "text": cut(evidence, spans, body, end)}
        for (start, body), end in zip(headings, [*starts[1:], len(evidence)], strict=True)
    ]
