"""Answers as text: normalisation, exact match, F1, and whether a text contains an answer.

Normalisation is that of SQuAD and Search-R1 (lower case, no punctuation, no articles, single spaces), extended to
Unicode: compatibility decomposition, then removal of combining marks and all Unicode punctuation. On ASCII text the
two are equal.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

Match = Literal["token", "substring"]

MATCHES: tuple[Match, ...] = ("token", "substring")
BOOLEAN_ANSWERS = frozenset({"yes", "no", "noanswer", "no answer"})

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


class _DeletedCharacters(dict[int, int | None]):
    """Translation table that deletes punctuation and combining marks. It caches each character on first use."""

    def __missing__(self, code_point: int) -> int | None:
        character = chr(code_point)
        deleted = character in string.punctuation or unicodedata.category(character)[0] in "PM"
        self[code_point] = None if deleted else code_point
        return self[code_point]


_DELETED_CHARACTERS = _DeletedCharacters()


def normalize_answer(text: str) -> str:
    """
    Normalise a text for comparison with an answer.

    The steps are Unicode NFKD, lower case, removal of combining marks (category M) and punctuation (ASCII punctuation
    and category P), removal of the articles *a*, *an*, *the* as whole words, and folding of white space. Normalising
    twice gives the same result as normalising once.

    Args:
        text (`str`):
            Text to normalise.

    Returns:
        `str`:
            Tokens separated by single spaces, empty if nothing is left.

    Raises:
        `TypeError`: If `text` is not a string.

    Example:

    ```python
    >>> normalize_answer("The  Café, Zürich!")
    'cafe zurich'
    ```
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a `str`, got {text!r} ({type(text).__name__}).")
    text = unicodedata.normalize("NFKD", text).lower().translate(_DELETED_CHARACTERS)
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact_match(prediction: str | None, golden_answers: Sequence[str]) -> float:
    """
    Score whether a prediction equals a gold answer after normalisation (SQuAD's and Search-R1's exact match).

    Args:
        prediction (`str` or `None`):
            Predicted answer, `None` if the rollout gave none.
        golden_answers (`Sequence[str]`):
            Accepted answers. If empty, the score is 0.

    Returns:
        `float`:
            1.0 if the normalised prediction equals any normalised gold answer, else 0.0.

    Raises:
        `TypeError`: If `golden_answers` is a string or contains other types than strings.
    """
    golds = _normalized_golds(golden_answers)
    return float(prediction is not None and normalize_answer(prediction) in golds)


def f1_score(prediction: str | None, golden_answers: Sequence[str]) -> float:
    """
    Score the token overlap of a prediction with the gold answer that fits best (SQuAD's F1).

    If the prediction or the gold answer is empty after normalisation, the score is 1 if both are and 0 otherwise, as
    in SQuAD 2.0.

    Args:
        prediction (`str` or `None`):
            Predicted answer. `None`, if the rollout gave none, scores 0.
        golden_answers (`Sequence[str]`):
            Accepted answers. If empty, the score is 0.

    Returns:
        `float`:
            Harmonic mean of token precision and token recall, from 0.0 to 1.0, the maximum over the gold answers.

    Raises:
        `TypeError`: If `golden_answers` is a string or contains other types than strings.
    """
    golds = _normalized_golds(golden_answers)
    if prediction is None:
        return 0.0
    tokens = normalize_answer(prediction).split()
    return max((_token_f1(tokens, gold.split()) for gold in golds), default=0.0)


def contains_answer(
    text: str,
    golden_answers: Sequence[str],
    *,
    match: Match = "token",
    match_boolean_answers: bool = False,
) -> bool:
    """
    Return whether a text contains a gold answer.

    Both sides are normalised. A gold answer that is empty after normalisation never matches.

    Args:
        text (`str`):
            Text to look in, for example the feedback of one search.
        golden_answers (`Sequence[str]`):
            Accepted answers. One occurrence of one of them is enough.
        match (`str`, *optional*, defaults to `"token"`):
            `"token"` looks for the gold answer's tokens as neighbours in the text: "no" does not match "North", and
            "2" does not match "1924". `"substring"` looks for its characters anywhere.
        match_boolean_answers (`bool`, *optional*, defaults to `False`):
            If `True`, the gold answers *yes*, *no* and *noanswer* may match, too. By default they never do, because
            these words in a passage are no evidence for the answer.

    Returns:
        `bool`:
            Whether any gold answer that may match occurs in `text`.

    Raises:
        `TypeError`: If `golden_answers` is a string or contains other types than strings, or `text` is not a string.
        `ValueError`: If `match` is unknown.
    """
    if match not in MATCHES:
        raise ValueError(f"match must be one of {', '.join(map(repr, MATCHES))}, got {match!r}.")
    excluded = {""} if match_boolean_answers else {""} | BOOLEAN_ANSWERS
    golds = [gold for gold in _normalized_golds(golden_answers) if gold not in excluded]
    normalized = normalize_answer(text)
    if match == "token":
        normalized = f" {normalized} "
        golds = [f" {gold} " for gold in golds]
    return any(gold in normalized for gold in golds)


def cover_exact_match(prediction: str | None, golden_answers: Sequence[str], *, match: Match = "token") -> float:
    """
    Score whether a prediction contains a gold answer after normalisation (cover exact match, also "sub-EM").

    The score is never below [`exact_match`], even if prediction and gold answer are empty after normalisation.
    Otherwise, a gold answer that is empty after normalisation never matches. Unlike in [`contains_answer`], the gold
    answers *yes* and *no* may match.

    Args:
        prediction (`str` or `None`):
            Predicted answer. `None`, if the rollout gave none, scores 0.
        golden_answers (`Sequence[str]`):
            Accepted answers. If empty, the score is 0.
        match (`str`, *optional*, defaults to `"token"`):
            `"token"` looks for the gold answer's tokens as neighbours in the prediction: "no" does not match "North".
            `"substring"` looks for its characters anywhere, as FlashRAG and R1-Searcher do.

    Returns:
        `float`:
            1.0 if the normalised prediction contains or equals any normalised gold answer, else 0.0.

    Raises:
        `TypeError`: If `golden_answers` is a string or contains other types than strings.
        `ValueError`: If `match` is unknown.
    """
    contained = contains_answer(prediction or "", golden_answers, match=match, match_boolean_answers=True)
    return max(float(contained), exact_match(prediction, golden_answers))


def _normalized_golds(golden_answers: Sequence[str]) -> list[str]:
    if isinstance(golden_answers, str):
        raise TypeError(
            f"golden_answers must be a sequence of strings, got the string {golden_answers!r}. "
            f"Pass [{golden_answers!r}]."
        )
    if not isinstance(golden_answers, Iterable):
        raise TypeError(f"golden_answers must be a sequence of strings, got {golden_answers!r}.")
    for answer in golden_answers:
        if not isinstance(answer, str):
            raise TypeError(
                f"golden_answers must contain only strings, got {answer!r} ({type(answer).__name__}). "
                f"Pass {str(answer)!r}."
            )
    return [normalize_answer(answer) for answer in golden_answers]


def _token_f1(prediction: list[str], gold: list[str]) -> float:
    if not prediction or not gold:
        return float(prediction == gold)
    overlap = sum((Counter(prediction) & Counter(gold)).values())
    return 2 * overlap / (len(prediction) + len(gold))
