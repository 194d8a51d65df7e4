"""Evidence as a reader takes it in: passage by passage, each text in pieces of which every second is a gold answer."""

import re
from collections.abc import Sequence
from typing import Any

from .groups import ViewOptions
from .highlights import answer_spans, cut

# What stands before a passage's text in `protocol.passages_text`. The title is most often in quotation marks.
_HEADING = re.compile(r'^Doc \d+\(Title: (?:".*?"|.*?)\) ?', re.MULTILINE)


def passages(evidence: str, golden_answers: Sequence[str], options: ViewOptions) -> list[dict[str, Any]]:
    """
    Take an evidence apart.

    Args:
        evidence (`str`):
            What a search returned, as the policy read it.
        golden_answers (sequence of `str`):
            Accepted answers.
        options ([`~tspo_trl.viewer.groups.ViewOptions`]):
            How they are looked for.

    Returns:
        `list[dict]`: for each passage its `heading` and its `text`, in pieces ([`~tspo_trl.viewer.highlights.cut`]);
        headings are empty where the text is in another form. All pieces joined are `evidence`.
    """
    spans = answer_spans(
        evidence, golden_answers, match=options.match, match_boolean_answers=options.match_boolean_answers
    )
    headings = [match.span() for match in _HEADING.finditer(evidence)]
    if not headings or headings[0][0] > 0:
        headings.insert(0, (0, 0))
    starts = [start for start, _ in headings]
    return [
        {"heading": cut(evidence, spans, start, body), "text": cut(evidence, spans, body, end)}
        for (start, body), end in zip(headings, [*starts[1:], len(evidence)], strict=True)
    ]
