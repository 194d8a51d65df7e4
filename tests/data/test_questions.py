"""Questions from JSON lines and parquet, in FlashRAG's form and in Search-R1's."""

import json
from pathlib import Path

import pytest

from tspo_trl.data import SearchWorld
from tspo_trl.data.questions import default_data_source, load_questions

from ..search.wiki_mini import DATA, QUESTION_FILES, needs_wiki_mini
from .question_files import question, write_jsonl, write_parquet

SCHEMA = ["id", "question", "golden_answers", "data_source"]


def golden_answers_of(path, value):
    return load_questions(write_jsonl(path / "q.jsonl", {"question": "a?", "golden_answers": value}))[
        "golden_answers"
    ][0]


def test_questions_keep_their_ids_and_get_their_position_where_they_have_none(tmp_path):
    path = write_jsonl(
        tmp_path / "q.jsonl",
        {"id": 7, "question": "a?", "golden_answers": ["x", "y"], "level": "easy"},
        {"question": "b?", "golden_answers": ["z"]},
        {"id": None, "question": "c?", "golden_answers": ["z"]},
    )
    assert load_questions(path).to_list() == [
        {"id": "7", "question": "a?", "golden_answers": ["x", "y"], "data_source": "q"},
        {"id": "1", "question": "b?", "golden_answers": ["z"], "data_source": "q"},
        {"id": "2", "question": "c?", "golden_answers": ["z"], "data_source": "q"},
    ]


def test_parquet_holds_the_same_questions_as_json_lines(tmp_path):
    rows = [question("a?", "x", "y", id="3", metadata={"level": "easy"}), question("b?", "z")]
    lines, parquet = write_jsonl(tmp_path / "q.jsonl", *rows), write_parquet(tmp_path / "q.parquet", *rows)
    assert load_questions(parquet).to_list() == load_questions(lines).to_list()


def test_many_questions_keep_their_order(tmp_path):
    path = write_jsonl(tmp_path / "q.jsonl", *(question(f"{i}?") for i in range(2500)))
    loaded = load_questions(path)
    assert list(loaded["id"]) == [str(i) for i in range(2500)]
    assert list(loaded["question"]) == [f"{i}?" for i in range(2500)]


def test_metadata_may_be_of_another_form_in_every_row(tmp_path):
    rows = [question("a?", metadata={"hops": 2}), question("b?", metadata=["x"]), question("c?", metadata=None)]
    assert load_questions(write_jsonl(tmp_path / "q.jsonl", *rows)).column_names == SCHEMA


@pytest.mark.parametrize(
    ("path", "data_source"),
    [
        ("nq/test.jsonl", "nq"),
        ("2wikimultihopqa/dev.parquet", "2wikimultihopqa"),
        ("world/test.jsonl", "test"),
        ("nq/mine.jsonl", "mine"),
        ("bamboogle.jsonl", "bamboogle"),
    ],
)
def test_data_source_is_the_folder_in_flashrags_layout_else_the_file(path, data_source):
    assert default_data_source(Path(path)) == data_source


def test_rows_that_name_their_data_source_keep_it(tmp_path):
    rows = [question("a?", data_source="musique"), question("b?", data_source=None)]
    assert list(load_questions(write_jsonl(tmp_path / "q.jsonl", *rows))["data_source"]) == ["musique", "q"]


@pytest.mark.parametrize(
    ("value", "answers"),
    [
        ("Paris", ["Paris"]),
        (["Paris", "", " ", "Lutetia"], ["Paris", "Lutetia"]),
        (["Paris", "Lutetia", "Paris"], ["Paris", "Lutetia"]),
        (["Paris", "paris"], ["Paris", "paris"]),
    ],
)
def test_golden_answers_are_put_right_where_that_loses_nothing(value, answers, tmp_path):
    assert golden_answers_of(tmp_path, value) == answers


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], r"has \[\] as `golden_answers`, so no answer would be right"),
        (["", " "], r"has \['', ' '\] as `golden_answers`, so no answer would be right"),
        ('["a", "b"]', "which looks like a printed list. Write it as a list"),
        ([1947], r"has \[1947\] as `golden_answers`. It must be a list of strings"),
        (None, "has None as `golden_answers`. It must be a list of strings"),
    ],
)
def test_golden_answers_are_refused_where_their_meaning_is_not_plain(value, message, tmp_path):
    with pytest.raises(ValueError, match=rf"q\.jsonl, line 1 .*{message}"):
        golden_answers_of(tmp_path, value)


def test_prompts_stay_where_every_row_has_one(tmp_path):
    messages = [{"role": "user", "content": "Say a."}]
    text = write_jsonl(tmp_path / "text.jsonl", question("a?", prompt="Say a."), question("b?", prompt="Say b."))
    chat = write_jsonl(tmp_path / "chat.jsonl", question("a?", prompt=messages))
    assert list(load_questions(text)["prompt"]) == ["Say a.", "Say b."]
    assert list(load_questions(chat)["prompt"]) == [messages]


@pytest.mark.parametrize("prompt", [{}, {"prompt": None}])
def test_prompts_of_some_rows_only_are_refused(prompt, tmp_path):
    path = write_jsonl(tmp_path / "q.jsonl", question("a?", prompt="Say a."), question("b?", **prompt))
    with pytest.raises(ValueError, match=r"q\.jsonl has prompts, but its question 2 has none\. Give a prompt to"):
        load_questions(path)


def test_prompts_that_are_all_null_are_none(tmp_path):
    assert load_questions(write_jsonl(tmp_path / "q.jsonl", question("a?", prompt=None))).column_names == SCHEMA


def test_prompts_of_several_forms_are_refused(tmp_path):
    rows = [question("a?", prompt="Say a."), question("b?", prompt=[{"role": "user", "content": "Say b."}])]
    with pytest.raises(ValueError, match=r"q\.jsonl has prompts of several forms"):
        load_questions(write_jsonl(tmp_path / "q.jsonl", *rows))


@pytest.mark.parametrize("prompt", ["", " ", 3, {"role": "user"}, [], ["Say a."], [{"content": "Say a."}]])
def test_what_is_no_prompt_is_refused(prompt, tmp_path):
    with pytest.raises(ValueError, match=r"q\.jsonl, line 1 has .* as `prompt`\. It must be a text, or a list"):
        load_questions(write_jsonl(tmp_path / "q.jsonl", question("a?", prompt=prompt)))


def test_files_of_a_searchworld_keep_their_prompts(tmp_path):
    world = SearchWorld(num_people=60, num_places=30, num_works=30, num_train_questions=9, num_test_questions=9)
    world.save(tmp_path)
    loaded = load_questions(tmp_path / "test.jsonl")
    assert list(loaded["prompt"]) == [row["prompt"] for row in world.test_questions]


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No file of questions at .*none\.jsonl"):
        load_questions(tmp_path / "none.jsonl")


def test_file_of_another_type_is_refused(tmp_path):
    path = tmp_path / "q.csv"
    path.write_text("question,golden_answers\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"q\.csv is neither JSON lines \(\.jsonl, \.json\) nor \.parquet"):
        load_questions(path)


def test_file_that_only_looks_like_parquet_is_named(tmp_path):
    path = write_jsonl(tmp_path / "q.parquet", question("a?"))
    with pytest.raises(ValueError, match=r"q\.parquet cannot be read as parquet .*Check that it is complete"):
        load_questions(path)


def test_damaged_parquet_is_named(tmp_path):
    path = write_parquet(tmp_path / "q.parquet", question("a?"))
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)  # the first page; the footer is intact
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"(?s)q\.parquet cannot be read as parquet .*Check that it is complete"):
        load_questions(path)


def test_byte_order_mark_and_line_ends_of_windows_are_passed_over(tmp_path):
    path = tmp_path / "q.jsonl"
    lines = [json.dumps(question(f"{name}?")) for name in "ab"]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n")
    assert list(load_questions(path)["question"]) == ["a?", "b?"]


@pytest.mark.parametrize("write", [write_jsonl, write_parquet])
def test_bad_row_is_named_with_its_line_also_after_blank_lines(write, tmp_path):
    path = write(tmp_path / "q", question("a?"), question(" "))
    if write is write_jsonl:
        path.write_text(path.read_text(encoding="utf-8").replace("\n", "\n\n", 1), encoding="utf-8")
    path = path.rename(path.with_suffix(".jsonl" if write is write_jsonl else ".parquet"))
    place = "line 3" if write is write_jsonl else "row 2"
    with pytest.raises(ValueError, match=f"{path.name}, {place} has ' ' as `question`"):
        load_questions(path)


def test_empty_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"q\.jsonl contains no questions"):
        load_questions(write_jsonl(tmp_path / "q.jsonl"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"golden_answers": ["x"]}, r"line 2 has no `question`, but \['golden_answers'\]"),
        ({"question": "b?"}, "line 2 has no `golden_answers`"),
        ({"question": " ", "golden_answers": ["x"]}, "line 2 has ' ' as `question`"),
        (question("b?", data_source=3), "line 2 has 3 as `data_source`"),
        (question("b?", id=[7]), r"line 2 has \[7\] as `id`. It must be a text or a whole number"),
        (question("b?", id=float("nan")), "line 2 has nan as `id`"),
        (
            {"question": "\ud83d", "golden_answers": ["x"]},
            r"q\.jsonl contains '\\ud83d', a text with half a surrogate",
        ),
    ],
)
def test_bad_row_is_named(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        load_questions(write_jsonl(tmp_path / "q.jsonl", question("a?"), row))


def test_prompt_that_is_no_unicode_is_shown(tmp_path):
    path = write_jsonl(tmp_path / "q.jsonl", question("a?", prompt="Say \ud83d."))
    with pytest.raises(ValueError, match=r"q\.jsonl contains 'Say \\ud83d\.', a text with half a surrogate"):
        load_questions(path)


def test_malformed_json_is_named_with_its_line(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "a?", "golden_answers": ["x"]}\n{"question": \n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"q\.jsonl, line 2: not valid JSON"):
        load_questions(path)


@needs_wiki_mini
@pytest.mark.parametrize("name", QUESTION_FILES)
def test_real_questions_are_read_as_they_are(name):
    path = DATA / f"{name}.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    expected = [{key: row[key] for key in SCHEMA[:3]} | {"data_source": name} for row in rows]
    assert load_questions(path).to_list() == expected
