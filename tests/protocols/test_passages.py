"""A passage and Search-R1's form of it."""

import pytest

from tspo_trl.search import Passage


def test_the_first_line_of_contents_is_the_title_with_its_quotes():
    assert Passage.from_contents("7", '"Home Rule"\nA movement.\nIn Ireland.') == Passage(
        id="7", title='"Home Rule"', text="A movement.\nIn Ireland."
    )


def test_contents_without_a_newline_are_a_title():
    assert Passage.from_contents("7", "Home Rule") == Passage(id="7", title="Home Rule", text="")


def test_an_empty_title_leaves_the_text():
    assert Passage.from_contents("7", "\nA movement.") == Passage(id="7", title="", text="A movement.")


@pytest.mark.parametrize("contents", ['"Home Rule"\nA movement.', "Home Rule", "\nA movement.", "a\n\nb\n", ""])
def test_contents_round_trip(contents):
    assert Passage.from_contents("7", contents).contents == contents


def test_a_document_with_contents_is_split():
    document = {"id": "7", "contents": '"Home Rule"\nA movement.', "title": "ignored", "text": "ignored"}
    assert Passage.from_document(document, 1.5) == Passage("7", '"Home Rule"', "A movement.", 1.5)


@pytest.mark.parametrize("title", ["Home Rule", '"Home Rule"'])
def test_a_document_with_title_and_text_gets_its_title_in_quotes_once(title):
    assert Passage.from_document({"id": 7, "title": title, "text": "A movement."}) == Passage(
        "7", '"Home Rule"', "A movement."
    )


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"contents": "text"}, "'id'"),
        ({"id": "", "contents": "text"}, "'id'"),
        ({"id": True, "contents": "text"}, "'id'"),
        ({"id": 1.5, "contents": "text"}, "'id'"),
        ({"id": "7"}, "'contents'"),
        ({"id": "7", "contents": None}, "'contents'"),
        ({"id": "7", "title": "Home Rule"}, "'text'"),
        ({"id": "7", "text": "A movement."}, "'title'"),
    ],
)
def test_a_document_without_a_field_is_refused_by_the_field_name(document, named):
    with pytest.raises(ValueError, match=named):
        Passage.from_document(document)
