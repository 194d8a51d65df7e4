"""Search-R1's parquet files: written as its scripts write them, read back without loss."""

import tempfile
from pathlib import Path

import pandas as pd
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from tspo_trl.data.questions import SCHEMA, load_questions
from tspo_trl.data.search_r1 import to_search_r1

from .question_files import write_jsonl, write_parquet

INSTRUCTION = (
    "Answer the given question. "
    "You must conduct reasoning inside <think> and </think> first every time you get new information. "
    "After reasoning, if you find you lack some knowledge, you can call a search engine by <search> query </search> "
    "and it will return the top searched results between <information> and </information>. "
    "You can search as many times as your want. "
    "If you find no further external knowledge needed, you can directly provide the answer inside <answer> and "
    "</answer>, without detailed illustrations. For example, <answer> Beijing </answer>. Question: "
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"])).filter(str.strip)
ROWS = st.fixed_dictionaries(
    {
        "id": TEXTS,
        "question": TEXTS,
        "golden_answers": st.lists(TEXTS, min_size=1, unique=True),
        "data_source": TEXTS,
    }
)


def dataset(*questions):
    rows = [
        {"id": f"train_{i}", "question": text, "golden_answers": ["x", "y"], "data_source": "nq"}
        for i, text in enumerate(questions)
    ]
    return Dataset.from_list(rows)


def search_r1_row(content, target=("x",), **others):
    reward_model = {"style": "rule", "ground_truth": {"target": list(target)}}
    return {"prompt": [{"role": "user", "content": content}], "reward_model": reward_model, **others}


def test_rows_are_search_r1s():
    first, second = to_search_r1(dataset(" who wrote Emma ", "Who?"), "train").to_list()
    assert first == {
        "id": "train_0",
        "question": " who wrote Emma ",
        "golden_answers": ["x", "y"],
        "data_source": "nq",
        "prompt": [{"role": "user", "content": f"{INSTRUCTION}who wrote Emma?\n"}],
        "ability": "fact-reasoning",
        "reward_model": {"style": "rule", "ground_truth": {"target": ["x", "y"]}},
        "extra_info": {"split": "train", "index": 0},
    }
    assert second["prompt"] == [{"role": "user", "content": f"{INSTRUCTION}Who?\n"}]
    assert second["extra_info"] == {"split": "train", "index": 1}


def test_search_r1s_loader_reads_the_file(tmp_path):
    """It reads with pandas and uses these keys of a row."""
    to_search_r1(dataset("a?"), "test").to_parquet(tmp_path / "test.parquet")
    row = pd.read_parquet(tmp_path / "test.parquet").iloc[0].to_dict()
    assert row["prompt"].tolist() == [{"role": "user", "content": f"{INSTRUCTION}a?\n"}]
    assert row["reward_model"]["ground_truth"]["target"].tolist() == ["x", "y"]
    assert row["data_source"] == "nq"
    assert row["extra_info"].get("index", -1) == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=5))
def test_questions_come_back_as_they_were(rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "train.parquet")
        to_search_r1(Dataset.from_list(rows), "train").to_parquet(path)
        assert load_questions(path).select_columns(SCHEMA.names).to_list() == rows


@settings(max_examples=30, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=5))
def test_prompts_come_back_from_files_that_have_nothing_else(rows):
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "first.parquet"), Path(folder, "second.parquet")
        written = to_search_r1(Dataset.from_list(rows), "train")
        written.remove_columns(["id", "question", "golden_answers"]).to_parquet(first)
        to_search_r1(load_questions(first), "train").to_parquet(second)
        assert pd.read_parquet(second)["prompt"].map(list).tolist() == written["prompt"][:]
        assert load_questions(second)["golden_answers"][:] == [row["golden_answers"] for row in rows]


@pytest.mark.parametrize("write", [write_jsonl, write_parquet])
def test_question_is_read_from_the_prompt_with_its_question_mark(write, tmp_path):
    path = write(tmp_path / "q", search_r1_row(f"{INSTRUCTION}who said Question: why?\n", data_source="nq"))
    path = path.rename(path.with_suffix(".jsonl" if write is write_jsonl else ".parquet"))
    row = {"id": "0", "question": "who said Question: why?", "golden_answers": ["x"], "data_source": "nq"}
    assert load_questions(path).to_list() == [row]


def test_question_is_read_from_the_last_user_message_of_another_prompt(tmp_path):
    row = search_r1_row("Question: what is this? Answer: an example")
    row["prompt"].append({"role": "user", "content": "Question: none. Think first. Question: who wrote Emma"})
    row["prompt"].append({"role": "assistant", "content": "Question: none"})
    assert load_questions(write_jsonl(tmp_path / "q.jsonl", row))["question"][0] == "who wrote Emma"


def test_target_may_be_one_answer(tmp_path):
    row = search_r1_row(f"{INSTRUCTION}a?\n")
    row["reward_model"]["ground_truth"]["target"] = "Paris"
    assert load_questions(write_jsonl(tmp_path / "q.jsonl", row))["golden_answers"][0] == ["Paris"]


def test_gold_answers_are_those_that_search_r1_rewards(tmp_path):
    row = search_r1_row(f"{INSTRUCTION}a?\n", target=["Paris"], question="a?", golden_answers=["Rome"])
    assert load_questions(write_jsonl(tmp_path / "q.jsonl", row))["golden_answers"][0] == ["Paris"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"question": "a?", "reward_model": {"style": "rule"}},
            "line 1 has .* as `reward_model`, but Search-R1's form",
        ),
        ({"question": "a?", "reward_model": "rule"}, "line 1 has 'rule' as `reward_model`"),
        (search_r1_row("Tell me."), "line 1 has a `prompt` without 'Question: ' and no `question`"),
        ({**search_r1_row(""), "prompt": "a?"}, "line 1 has neither a `question` nor a user message"),
        ({**search_r1_row(""), "prompt": None}, "line 1 has neither a `question` nor a user message"),
        ({**search_r1_row(""), "prompt": []}, "line 1 has neither a `question` nor a user message"),
    ],
)
def test_row_without_target_or_question_is_named(row, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_questions(write_jsonl(tmp_path / "q.jsonl", row))
