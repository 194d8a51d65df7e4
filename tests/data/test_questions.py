"""Questions from JSON lines."""

import json

import pytest

from tspo_trl.data.questions import load_questions


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_questions_keep_their_ids_and_get_their_position_where_they_have_none(tmp_path):
    path = write(
        tmp_path / "q.jsonl",
        {"id": 7, "question": "a?", "golden_answers": ["x", "y"], "level": "easy"},
        {"question": "b?", "golden_answers": ["z"]},
    )
    assert load_questions(path).to_list() == [
        {"id": "7", "question": "a?", "golden_answers": ["x", "y"]},
        {"id": "1", "question": "b?", "golden_answers": ["z"]},
    ]


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No file of questions at .*none\.jsonl"):
        load_questions(tmp_path / "none.jsonl")


def test_empty_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"q\.jsonl holds no question"):
        load_questions(write(tmp_path / "q.jsonl"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"golden_answers": ["x"]}, r"record 2 has no `question`, but \['golden_answers'\]"),
        ({"question": "b?"}, "record 2 has no `golden_answers`"),
        ({"question": " ", "golden_answers": ["x"]}, "record 2 has ' ' as `question`"),
        ({"question": "b?", "golden_answers": []}, r"record 2.* has \[\] as `golden_answers`"),
    ],
)
def test_bad_row_is_named(tmp_path, row, message):
    good = {"question": "a?", "golden_answers": ["x"]}
    with pytest.raises(ValueError, match=message):
        load_questions(write(tmp_path / "q.jsonl", good, row))


def test_malformed_json_is_named_with_its_line(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "a?", "golden_answers": ["x"]}\n{"question": \n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"q\.jsonl, line 2: not valid JSON"):
        load_questions(path)
