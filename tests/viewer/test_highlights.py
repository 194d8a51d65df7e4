"""Gold answers are marked exactly where they count as evidence."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tspo_trl.answers import contains_answer
from tspo_trl.viewer.highlights import answer_spans, cut

# Words that normalization changes: articles, punctuation, characters that become several or a space.
WORDS = [
    "the", "a", "Paris", "paris,", "New", "York", "no", "no answer", "1924", "24", "A.", "--", "$a", "½", "é", "ﬁ",
    "İ", "ΑΣ", "x\u0301", "\u00a0", "\u00b4", "\u2028", "\x1c", "😀",
]  # fmt: skip
TEXT = st.one_of(
    st.text(max_size=30),
    st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join),
    st.lists(st.sampled_from(WORDS), max_size=8).map("".join),
)


def marked(text, *golds, **options):
    return [text[start:end] for start, end in answer_spans(text, golds, **options)]


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [
        ("Emma is by Jane  Austen.", "jane austen", ["Jane  Austen."]),
        ("Paris, and Paris again", "Paris", ["Paris,", "Paris"]),
        ("New the York", "New York", ["New the York"]),
        ("Café Zürich", "zurich", ["Zürich"]),
        ("North, in 1924", "no", []),
        ("a b a b a", "b a b", ["b a b"]),
        ("", "Paris", []),
        ("Paris", "the", []),
    ],
)
def test_marks_the_words_of_the_text_that_are_the_answer(text, gold, expected):
    assert marked(text, gold) == expected


def test_substring_marks_whole_words():
    assert marked("in 1924 or 2024", "24") == []
    assert marked("in 1924 or 2024", "24", match="substring") == ["1924", "2024"]


def test_boolean_answers_are_marked_only_if_they_may_match():
    assert marked("no, it is not", "no") == []
    assert marked("no, it is not", "no", match_boolean_answers=True) == ["no,"]


def test_overlapping_answers_are_one_span():
    assert marked("the New York Times today", "New York", "York Times") == ["New York Times"]


@settings(max_examples=250, deadline=None)
@given(TEXT, st.lists(TEXT, max_size=2), st.sampled_from(["token", "substring"]), st.booleans())
def test_something_is_marked_just_where_the_answer_is_contained(text, golds, match, boolean):
    options = {"match": match, "match_boolean_answers": boolean}
    assert bool(answer_spans(text, golds, **options)) == contains_answer(text, golds, **options)


@settings(max_examples=200, deadline=None)
@given(TEXT, st.lists(TEXT, max_size=2), st.integers(0, 20), st.integers(0, 20))
def test_pieces_joined_are_the_part_that_was_cut(text, golds, start, length):
    end = min(len(text), start + length)
    start = min(start, end)
    pieces = cut(text, answer_spans(text, golds), start, end)
    assert "".join(pieces) == text[start:end]
    assert len(pieces) % 2 == 1


def test_every_second_piece_is_in_a_span_as_far_as_the_part_goes():
    assert cut("one two three", [(0, 3), (4, 7)], 2, 6) == ["", "e", " ", "tw", ""]
