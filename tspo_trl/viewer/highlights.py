"""Locates gold answers in a text: the words that `answers.contains_answer` matched."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from ..answers import BOOLEAN_ANSWERS, Match, contains_answer, normalize_answer

_WORD = re.compile(r"\S+")
Span = tuple[int, int]
Token = tuple[str, int, int]  # the normalized token, and the start and end of its word in the text


def answer_spans(
    text: str, golden_answers: Sequence[str], *, match: Match = "token", match_boolean_answers: bool = False
) -> list[Span]:
    """
    Find the spans of gold answers in a text.

    There is a span if and only if [`~tspo_trl.answers.contains_answer`] is true. Spans cover whole words with their
    punctuation, also if `match` is `"substring"`.

    Args:
        text (`str`):
            Text to search.
        golden_answers (`Sequence[str]`):
            Gold answers.
        match (`str`, *optional*, defaults to `"token"`):
            `"token"` or `"substring"`, see [`~tspo_trl.answers.contains_answer`].
        match_boolean_answers (`bool`, *optional*, defaults to `False`):
            If `True`, gold answers that are only *yes*, *no* or *noanswer* can match.

    Returns:
        `list[tuple[int, int]]`: half-open spans of characters, in order and without overlaps.

    Example:

    ```python
    >>> answer_spans("Emma is by Jane  Austen.", ["jane austen"])
    [(11, 24)]
    ```
    """
    if not contains_answer(text, golden_answers, match=match, match_boolean_answers=match_boolean_answers):
        return []  # most evidence; the search by words takes ten times as long
    excluded = {""} if match_boolean_answers else {""} | BOOLEAN_ANSWERS
    golds = {normalize_answer(gold) for gold in golden_answers} - excluded
    tokens = list(_tokens(text))
    return _merge(span for gold in golds for span in _occurrences(tokens, gold, match))


def cut(text: str, spans: Sequence[Span], start: int, end: int) -> list[str]:
    """
    Cut a part of a text at the borders of spans.

    Args:
        text (`str`):
            The whole text.
        spans (sequence of `tuple[int, int]`):
            Half-open spans of the whole text, in order.
        start, end (`int`):
            The part to cut. Spans are clipped to it.

    Returns:
        `list[str]`: pieces of the part. The second, fourth and so on are in spans.
    """
    pieces, done = [], start
    for first, last in spans:
        first, last = max(first, start), min(last, end)
        if first < last:
            pieces += [text[done:first], text[first:last]]
            done = last
    return [*pieces, text[done:end]]


def _tokens(text: str) -> Iterator[Token]:
    """Yield the normalized tokens of a text. A word can give no token (an article) or several."""
    for word in _WORD.finditer(text):
        for token in normalize_answer(word.group()).split():
            yield token, word.start(), word.end()


def _occurrences(tokens: Sequence[Token], gold: str, match: Match) -> Iterator[Span]:
    """Yield the spans of a normalized gold answer."""
    # A space before every token makes a token of the gold answer start at a token of the text.
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
    """Sort the spans and merge those that overlap."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged
