"""Keeps the frame of a protocol apart from the passages inside it."""

import re

_BARRIER = "\x01"  # a token that no gold answer has, in ASCII, which is fast to normalise

# What `protocols.passages.passages_text` writes before a title, without its "D", which comes first in each pattern: a
# search for a literal is fast. A look-behind after the "D" sees the character before it.
_TITLE = r"oc \d+\(Title: "
# The same, cut off at the end of a feedback.
_CUT_TITLE = r"\((?:T(?:i(?:t(?:l(?:e:?)?)?)?)?)?"
_END = r"(?=\s*(?:\Z|</information>)|\n+Doc\b)"
_CUT = rf"(?:o(?:c(?: (?:\d+(?:{_CUT_TITLE})?)?)?)?)?{_END}"
_IN_TEXT, _AT_LINE = r"(?<![^\s>]D)", r"(?<![^\n>]D)"
_TAGS = "</?information>"
_FRAMES = re.compile(rf"D(?:{_IN_TEXT}{_TITLE}|{_AT_LINE}{_CUT}|{_IN_TEXT}oc \d+{_CUT_TITLE}{_END})|{_TAGS}")
_FRAMES_IN_ONE_LINE = re.compile(rf"D{_IN_TEXT}(?:{_TITLE}|{_CUT})|{_TAGS}")


def own_words(evidence: str) -> str:
    """
    Blank the frame around passages in the text of a search.

    Args:
        evidence (`str`):
            Text as the policy saw it, possibly cut at its end.

    Returns:
        `str`: text of the same length, in which only the passages' titles and texts can contain a gold answer. No gold
        answer stretches from one passage to the next.
    """
    if "D" not in evidence and "<" not in evidence:
        return evidence
    # A template that writes JSON has one line per search, and its quotation marks have backslashes.
    is_one_line = '(Title: \\"' in evidence or " Doc 2(Title: " in evidence
    frames = _FRAMES_IN_ONE_LINE if is_one_line else _FRAMES
    return frames.sub(_blank, evidence)


def _blank(frame: re.Match[str]) -> str:
    length = len(frame.group())
    return f" {_BARRIER}".ljust(length)[:length]
