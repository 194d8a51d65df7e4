"""Normalisation, scores, and answers in a text."""

# ruff: noqa: RUF001

import re
import string
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tspo_trl.answers import contains_answer, cover_exact_match, exact_match, f1_score, normalize_answer


def squad_normalization(text: str) -> str:
    """The normalisation of SQuAD's evaluation, which Search-R1 also uses."""
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("The  Eiffel-Tower,\n Paris!", "eiffeltower paris"),
        ("a", ""),
        ("An apple a day", "apple day"),
        ("Theatre and another anthem", "theatre and another anthem"),
        ("U.S.A.", "usa"),
        ("T.H.E. end", "end"),
        ("Café Zürich", "cafe zurich"),
        ("Cafe\u0301", "cafe"),
        ("İstanbul", "istanbul"),
        ("\ufb01nal x\u00b2", "final x2"),  # a ligature and a superscript
        ("\u201cDon\u2019t\u201d \u2013 she said\u2026", "dont she said"),
        ("東京、日本", "東京日本"),
        ("snake_case $5", "snakecase 5"),
        ("\u20acthe\u20ac", "\u20ac \u20ac"),  # an article leaves a space, and a currency sign is not punctuation
        ("non\u00a0breaking\u2003space", "non breaking space"),
        ("...", ""),
        ("", ""),
    ],
)
def test_normalization(text, normalized):
    assert normalize_answer(text) == normalized


@given(st.text(st.characters(max_codepoint=127)))
def test_normalization_of_ascii_is_that_of_squad(text):
    assert normalize_answer(text) == squad_normalization(text)


@given(st.text())
def test_normalization_is_idempotent(text):
    once = normalize_answer(text)
    assert normalize_answer(once) == once


def test_normalization_is_idempotent_on_every_character_there_is():
    unstable = []
    for code_point in range(sys.maxunicode + 1):
        once = normalize_answer(f"x{chr(code_point)}")
        if normalize_answer(once) != once:
            unstable.append(hex(code_point))
    assert unstable == []


@given(st.text())
def test_composed_and_decomposed_text_normalise_alike(text):
    composed, decomposed = unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)
    assert normalize_answer(composed) == normalize_answer(decomposed)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("Crème brûlée", "creme brulee"),  # Latin accents
        ("Nguyễn Tất Thành", "Nguyen Tat Thanh"),
        ("Ἀθῆναι", "Αθηναι"),  # Greek accents and breathings
        ("Ό", "ο"),
        ("مُحَمَّد", "محمد"),  # Arabic vowel signs
        ("الرَّحْمٰن", "الرحمن"),
        ("שָׁלוֹם", "שלום"),  # Hebrew points
        ("\ufb2a", "ש"),  # a letter composed with its point
        ("Москва́", "Москва"),  # a stress mark in Cyrillic
        ("за̀мок", "замок"),
        ("ё́", "ё"),
        ("ﾊﾟﾘ", "パリ"),  # half width
        ("ハ\u309a", "パ"),  # decomposed
        ("葛\U000e0100", "葛"),  # a variation selector
        ("❤\ufe0f", "❤"),
        ("1\ufe0f\u20e3", "1"),
        ("2\u0302", "2"),  # a mark without a letter
    ],
)
def test_optional_marks_make_no_difference(text, other):
    assert normalize_answer(text) == normalize_answer(other)
    assert exact_match(text, [other]) == 1.0
    assert contains_answer(f"x {text} y", [other])


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("パリ", "バリ"),
        ("パリ", "ハリ"),
        ("ﾊﾟﾘ", "ﾊﾞﾘ"),
        ("мой", "мои"),
        ("ёж", "еж"),
        ("ѓ", "г"),  # Macedonian: an acute that composes
        ("ѝ", "и"),
        ("а̄", "а"),  # a macron is no stress mark
        ("їх", "іх"),
        ("राम", "रमा"),
        ("की", "का"),
        ("हिंदी", "हिदी"),
        ("ไม่", "ไม้"),
        ("ไม่", "ไม"),
        ("আমি", "আম"),  # Bengali
        ("தமிழ்", "தமழ"),  # Tamil
        ("ກ່າ", "ກ້າ"),  # Lao
        ("ខ្មែរ", "ខមរ"),  # Khmer
        ("မြန်မာ", "မနမာ"),  # Burmese
        ("བོད", "བད"),  # Tibetan
        ("ހަ", "ހި"),  # Thaana
        ("ܒܰ", "ܒ"),  # Syriac
        ("أ", "ا"),  # a hamza is no vowel sign
        ("آ", "ا"),
        ("ئ", "ى"),
    ],
)
def test_marks_that_are_part_of_a_letter_make_another_word(text, other):
    assert normalize_answer(text) != normalize_answer(other)
    assert exact_match(text, [other]) == f1_score(text, [other]) == 0.0
    assert not contains_answer(f"x {text} y", [other])


def test_normalised_text_is_composed():
    """A substring of a letter is no substring."""
    assert normalize_answer("パリ мой 서울 的") == "パリ мой 서울 的"
    assert not contains_answer("パリ", ["ハ"], match="substring")


@pytest.mark.parametrize("text", [None, 3, b"bytes", ["Paris"]])
def test_only_strings_can_be_normalised(text):
    with pytest.raises(TypeError, match="text must be a `str`"):
        normalize_answer(text)


@pytest.mark.parametrize(
    ("prediction", "golds", "score"),
    [
        ("the Beatles", ["Beatles"], 1.0),
        (" Beijing ", ["Shanghai", "beijing."], 1.0),
        ("Beijing, China", ["Beijing"], 0.0),
        ("", ["Beijing"], 0.0),
        ("the", ["a"], 1.0),  # both normalise to nothing
        (None, ["Beijing"], 0.0),
        (None, ["a"], 0.0),
        ("Beijing", [], 0.0),
    ],
)
def test_exact_match(prediction, golds, score):
    result = exact_match(prediction, golds)
    assert result == score
    assert isinstance(result, float)


@pytest.mark.parametrize(
    ("prediction", "golds", "score"),
    [
        ("Barack Obama", ["Barack Hussein Obama"], 0.8),  # precision 2/2, recall 2/3
        ("Barack Obama", ["Obama", "Barack Hussein Obama"], 0.8),  # the better of 2/3 and 0.8
        ("to be to be", ["to be"], 2 / 3),  # a token counts as often as in both: precision 2/4, recall 2/2
        ("to be to be", ["to be to"], 6 / 7),  # precision 3/4, recall 3/3
        ("Paris", ["London"], 0.0),
        ("the Beatles", ["Beatles"], 1.0),
        ("the", ["a"], 1.0),
        ("the", ["Beatles"], 0.0),
        ("Beatles", ["the"], 0.0),
        (None, ["the"], 0.0),
        ("Beatles", [], 0.0),
    ],
)
def test_f1(prediction, golds, score):
    assert f1_score(prediction, golds) == pytest.approx(score)


@given(st.text(), st.text())
def test_f1_is_symmetric_bounded_and_one_for_an_exact_match(prediction, gold):
    score = f1_score(prediction, [gold])
    assert score == f1_score(gold, [prediction])
    assert 0.0 <= score <= 1.0
    assert score == 1.0 or not exact_match(prediction, [gold])


@pytest.mark.parametrize(
    ("text", "golds", "found"),
    [
        ("Paris is the capital of France.", ["Paris"], True),
        ("the capital, Paris.", ["London", "paris"], True),
        ("New York City", ["york city"], True),
        ("New York City", ["new city"], False),  # tokens must be neighbours
        ("New York, City of dreams", ["York City"], True),  # punctuation between tokens does not count
        ("the leader of the free world", ["leader of free"], True),  # articles do not count either
        ("He moved to North Dakota", ["no"], False),
        ("born in 1924", ["2"], False),
        ("Besançon", ["BESANCON"], True),
        ("Paris", ["Paris, France"], False),
        ("", ["Paris"], False),
        ("Paris", [], False),
    ],
)
def test_a_text_contains_the_tokens_of_an_answer(text, golds, found):
    assert contains_answer(text, golds) is found


@pytest.mark.parametrize(("text", "gold"), [("born in 1924", "2"), ("Parisian", "Paris"), ("New York", "w y")])
def test_substring_matching_ignores_token_boundaries(text, gold):
    assert contains_answer(text, [gold], match="substring")
    assert not contains_answer(text, [gold], match="token")


@pytest.mark.parametrize(
    "options", [{}, {"match": "substring"}, {"match": "substring", "match_boolean_answers": True}]
)
@pytest.mark.parametrize("gold", ["", "the", " A. ", "?!"])
def test_an_answer_that_normalises_to_nothing_is_nowhere(gold, options):
    assert not contains_answer("the text of a passage ?!", [gold], **options)
    assert not contains_answer("", [gold], **options)


@pytest.mark.parametrize("match", ["token", "substring"])
@pytest.mark.parametrize("gold", ["yes", "No.", "noanswer", "no answer", "The Yes"])
def test_boolean_answers_are_no_evidence_unless_asked_for(gold, match):
    text = "yes and no, noanswer or no answer"
    assert not contains_answer(text, [gold], match=match)
    assert contains_answer(text, [gold], match=match, match_boolean_answers=True)


def test_an_answer_that_begins_with_a_boolean_is_evidence():
    assert contains_answer("Yes Minister ran on BBC2", ["Yes Minister"])


def test_one_matching_answer_beside_a_boolean_one_is_enough():
    assert contains_answer("yes, in Paris", ["yes", "Paris"])


@given(st.text(), st.text(), st.text())
def test_substring_matching_finds_whatever_token_matching_finds(before, gold, after):
    text = f"{before} {gold} {after}"
    if contains_answer(text, [gold]):
        assert contains_answer(text, [gold], match="substring")


@given(
    st.lists(st.sampled_from(["no", "north", "new", "york", "2", "24", "the"])), st.integers(0, 6), st.integers(1, 3)
)
def test_token_matching_finds_exactly_the_runs_of_tokens(tokens, start, length):
    kept = [token for token in tokens if token != "the"]
    gold = kept[start : start + length] or ["north", "york"]
    runs = [kept[i : i + len(gold)] for i in range(len(kept))]
    assert contains_answer(" ".join(tokens), [" ".join(gold)], match_boolean_answers=True) == (gold in runs)


@pytest.mark.parametrize(
    ("prediction", "golds", "score"),
    [
        ("It is the Eiffel Tower, in Paris.", ["Eiffel Tower"], 1.0),
        ("Beijing, China", ["Shanghai", "beijing"], 1.0),
        ("Beijing", ["Beijing, China"], 0.0),  # the prediction must contain the gold answer, not the reverse
        ("New York City", ["New City"], 0.0),
        ("No, he was not.", ["no"], 1.0),
        ("North Dakota", ["no"], 0.0),
        ("the", ["a"], 1.0),  # both normalise to nothing
        ("Beijing", ["the"], 0.0),
        ("", ["Beijing"], 0.0),
        ("", ["the"], 1.0),
        (None, ["Beijing"], 0.0),
        (None, ["the"], 0.0),
        ("Beijing", [], 0.0),
    ],
)
def test_cover_exact_match(prediction, golds, score):
    result = cover_exact_match(prediction, golds)
    assert result == score
    assert isinstance(result, float)


@pytest.mark.parametrize(
    ("prediction", "gold"), [("born in 1924", "2"), ("North Dakota", "no"), ("Parisian", "Paris")]
)
def test_cover_exact_match_by_substrings_ignores_token_boundaries(prediction, gold):
    assert cover_exact_match(prediction, [gold], match="substring") == 1.0
    assert cover_exact_match(prediction, [gold], match="token") == 0.0


@given(st.none() | st.sampled_from(["", "a", "the no", "no", "new york", "N.Y."]) | st.text(), st.lists(st.text()))
def test_scores_order_as_exact_match_then_by_tokens_then_by_substrings(prediction, golds):
    golds = [*golds, "no", "the", "new york"]
    by_tokens = cover_exact_match(prediction, golds, match="token")
    assert exact_match(prediction, golds) <= by_tokens <= cover_exact_match(prediction, golds, match="substring")


@pytest.mark.parametrize(("function", "text"), [(contains_answer, "text"), (cover_exact_match, None)])
def test_an_unknown_match_is_an_error_that_names_the_choices(function, text):
    with pytest.raises(ValueError, match=r"match must be one of 'token', 'substring', got 'fuzzy'"):
        function(text, ["gold"], match="fuzzy")


@pytest.mark.parametrize("function", [exact_match, f1_score, cover_exact_match, contains_answer])
def test_one_string_for_the_gold_answers_is_an_error_that_names_the_remedy(function):
    with pytest.raises(TypeError, match=r"got the string 'Paris'. Pass \['Paris'\]"):
        function("Paris", "Paris")


@pytest.mark.parametrize("function", [exact_match, f1_score, cover_exact_match, contains_answer])
@pytest.mark.parametrize("golds", [["Paris", 1924], [None], [["Paris"]]])
def test_gold_answers_that_are_not_strings_are_an_error(function, golds):
    with pytest.raises(TypeError, match="golden_answers must contain only strings"):
        function("Paris", golds)


@pytest.mark.parametrize("function", [exact_match, f1_score, cover_exact_match, contains_answer])
def test_no_gold_answers_object_is_an_error(function):
    with pytest.raises(TypeError, match="golden_answers must be a sequence of strings, got None"):
        function("Paris", None)
