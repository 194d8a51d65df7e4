"""Where in a text a gold answer stands: what `answers.contains_answer` matched, in the text's own words."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from ..answers import BOOLEAN_ANSWERS, Match, contains_answer, normalize_answer

_WORD = re.compile(r"\S+")
Span = tuple[int, int]
Token = tuple[str, int, int]  # normalized, and where its word begins and ends in the text


def answer_spans(
    text: str, golden_answers: Sequence[str], *, match: Match = "token", match_boolean_answers: bool = False
) -> list[Span]:
    """
    Find where gold answers stand in a text.

    There are any just where [`~tspo_trl.answers.contains_answer`] finds one. A span is of whole words, with the
    punctuation at them, also where `match` is `"substring"` (ours).

    Args:
        text (`str`):
            Text to look in.
        golden_answers (`Sequence[str]`):
            Accepted answers.
        match (`str`, *optional*, defaults to `"token"`):
            `"token"` or `"substring"`, see [`~tspo_trl.answers.contains_answer`].
        match_boolean_answers (`bool`, *optional*, defaults to `False`):
            Whether gold answers that are only *yes*, *no* or *noanswer* may match.

    Returns:
        `list[tuple[int, int]]`: half-open spans of characters, in order, none within another.

    Example:

    ```python
    >>> answer_spans("Emma is by Jane  Austen.", ["jane austen"])
    [(11, 24)]
    ```
    """
    if not contains_answer(text, golden_answers, match=match, match_boolean_answers=match_boolean_answers):
        return []  # most evidence; word by word takes ten times as long
    excluded = {""} if match_boolean_answers else {""} | BOOLEAN_ANSWERS
    golds = {normalize_answer(gold) for gold in golden_answers} - excluded
    tokens = list(_tokens(text))
    return _merge(span for gold in golds for span in _occurrences(tokens, gold, match))


def cut(text: str, spans: Sequence[Span], start: int, end: int) -> list[str]:
    """
    Cut a part of a text where spans begin and end.

    Args:
        text (`str`):
            The text.
        spans (sequence of `tuple[int, int]`):
            Half-open spans of the whole text, in order.
        start, end (`int`):
            The part to cut; a span that is not all in it counts as far as it is.

    Returns:
        `list[str]`: pieces that joined are the part; the second, the fourth and so on are those in spans.
    """
    pieces, done = [], start
    for first, last in spans:
        first, last = max(first, start), min(last, end)
        if first < last:
            pieces += [text[done:first], text[first:last]]
            done = last
    return [*pieces, text[done:end]]


def _tokens(text: str) -> Iterator[Token]:
    """The tokens that the text normalizes to; a word may be none (an article) or several."""
    for word in _WORD.finditer(text):
        for token in normalize_answer(word.group()).split():
            yield token, word.start(), word.end()


def _occurrences(tokens: Sequence[Token], gold: str, match: Match) -> Iterator[Span]:
    """Spans of the text in which a normalized gold answer occurs."""
    # Every token with a space before it, so that a token of the gold answer begins where one of the text does.
    normalized = "".join(f" {token}" for token, _, _ in tokens) + " "
    starts = list(accumulate((len(token) + 1 for token, _, _ in tokens), initial=1))
    sought = f" {gold} " if match == "token" else gold
    at = normalized.find(sought)
    while at >= 0:
        first = bisect_right(starts, at + (match == "token")) - 1
        last = bisect_right(starts, at + len(sought) - 1 - (match == "token")) - 1
        yield tokens[first][1], tokens[last][2]
        at = normalized.find(sought, at + 1)


def _merge(spans: Iterable[Span]) -> list[Span]:
    """The spans in order, those that overlap as one."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged
