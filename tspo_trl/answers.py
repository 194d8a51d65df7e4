"""Answers as text: normalisation, exact match, F1, and whether a text contains an answer.

Normalisation is that of SQuAD and Search-R1 (lower case, no punctuation, no articles, single spaces), extended to
Unicode: compatibility forms, all Unicode punctuation, and accents. On ASCII text the two are equal.
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

# Vowel signs and reading signs that Hebrew and Arabic text may leave out, and marks that select a glyph. The hamza and
# the madda of Arabic (U+0653 to U+0655) belong to their letters.
_OPTIONAL_MARKS = re.compile(
    "[\u0591-\u05c7"
    "\u0610-\u061a\u064b-\u0652\u0656-\u065e\u0670\u06d6-\u06ed\u0897-\u089f\u08ca-\u08ff"
    "\u034f\u17b4\u17b5\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
_STRESS_MARKS = frozenset("\u0300\u0301\u030f\u0311")  # in Cyrillic; with some letters they compose to another letter
_NO_WORD = re.compile(r"[^\w\s]+")  # without punctuation these are marks and symbols


class _DeletedCharacters(dict[int, int | None]):
    """Translation table that deletes punctuation and optional marks. It caches each character on first use."""

    def __missing__(self, code_point: int) -> int | None:
        character = chr(code_point)
        category = unicodedata.category(character)[0]
        is_punctuation = character in string.punctuation or category == "P"
        deleted = is_punctuation or (category == "M" and _OPTIONAL_MARKS.match(character))
        self[code_point] = None if deleted else code_point
        return self[code_point]


class _Scripts(dict[str, str]):
    """Script of a letter if its marks need care, else an empty string. It caches each character on first use."""

    def __missing__(self, character: str) -> str:
        name = unicodedata.name(character, "").partition(" ")[0]
        is_letter = unicodedata.category(character)[0] == "L"
        accented = not is_letter or name in ("LATIN", "GREEK")
        self[character] = "accented" if accented else "cyrillic" if name == "CYRILLIC" else ""
        return self[character]


_DELETED_CHARACTERS = _DeletedCharacters()
_SCRIPTS = _Scripts({"": "accented"})


def normalize_answer(text: str) -> str:
    """
    Normalise a text for comparison with an answer.

    The steps are Unicode NFKC, lower case, removal of punctuation (ASCII and category P) and of some marks,
    removal of the articles *a*, *an*, *the* as whole words, and folding of white space. Normalising twice gives the
    same result as normalising once.

    The marks are accents of Latin and Greek letters, optional vowel signs of Arabic and Hebrew, stress marks of
    Cyrillic letters, and marks without a letter. Every other mark is part of its letter: パリ is not バリ.

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
    if text.isascii():
        text = text.lower().translate(_DELETED_CHARACTERS)
        return " ".join(_ARTICLES.sub(" ", text).split())
    text = unicodedata.normalize("NFKD", text).lower().translate(_DELETED_CHARACTERS)
    text = _NO_WORD.sub(_kept_marks, text)
    return unicodedata.normalize("NFKC", " ".join(_ARTICLES.sub(" ", text).split()))


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


def _kept_marks(run: re.Match[str]) -> str:
    """Return what normalisation keeps of marks and symbols that follow a letter."""
    base = run.string[run.start() - 1 : run.start()] if run.start() else ""
    kept, marks = "", ""
    for character in run.group():
        if unicodedata.category(character)[0] == "M":
            marks += character
        else:
            kept += _marks_of_letter(base, marks) + character
            base, marks = character, ""
    return kept + _marks_of_letter(base, marks)


def _marks_of_letter(letter: str, marks: str) -> str:
    script = _SCRIPTS[letter]
    if script != "cyrillic":
        return "" if script else marks
    whole = unicodedata.normalize("NFC", letter + marks)
    composed, alone = whole[0], whole[1:]
    in_letter = unicodedata.normalize("NFD", composed)[len(unicodedata.normalize("NFD", letter)) :]
    return in_letter + "".join(mark for mark in alone if mark not in _STRESS_MARKS)


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
