"""Tables of completions and turns in the real trackers, offline. One run logs to all of them."""

import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugin_util import markdown_to_safe_html

from ..training_runs.tables_run import BATCH_SIZE, EVAL, STEPS

SCRIPT = Path(__file__).parents[1] / "training_runs" / "tables_run.py"
COLUMNS = ["mode", "question", "golden_answers", "prediction", "first_occurrence", "end_reason", "queries"]
COLUMNS += ["turn_rewards", "turn_advantages"]
TURN_COLUMNS = ["step", "mode", "group", "rollout", "question", "golden_answers", "turn", "text", "queries"]
TURN_COLUMNS += ["evidence", "first_occurrence", "reward", "advantage"]


def assert_trains(folder, model, index, launcher=(), calls_tools=False, **settings):
    """Train. The trackers write to the folder."""
    settings = {"output_dir": str(folder / "out"), "per_device_train_batch_size": BATCH_SIZE, **settings}
    run = {"model": str(model), "index": str(index), "settings": settings, "calls_tools": calls_tools}
    (folder / "wandb").mkdir()
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_DIR": str(folder), "COLUMNS": "160"}
    environment |= {"TRACKIO_DIR": str(folder / "trackio"), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *launcher, str(SCRIPT), json.dumps(run)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def trajectories(folder, name):
    text = (folder / "out" / "trajectories" / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def parquet(folder, step):
    return pd.read_parquet(folder / "out" / "completions" / f"completions_{step:05d}.parquet")


def assert_rows_are(table, records):
    """The columns of a table of completions agree with each other and with a trajectory file."""
    assert len(table) == len(records)
    for (_, row), record in zip(table.iterrows(), records, strict=True):
        assert row["question"] == record["question"]
        assert row["question"] in row["prompt"]
        assert list(row["golden_answers"]) == record["golden_answers"]
        assert all(turn["text"] in row["completion"] for turn in record["turns"])
        assert row["prediction"] == record["prediction"] or row["prediction"] != row["prediction"]  # pandas' NaN
        assert row["end_reason"] == record["end_reason"]
        assert list(row["queries"]) == [query for turn in record["turns"] for query in turn["queries"]]
        assert list(row["turn_rewards"]) == [round(turn["reward"], 4) for turn in record["turns"]]
        assert list(row["turn_advantages"]) == [round(turn["advantage"], 4) for turn in record["turns"]]
        # Columns of TRL, and of the user's reward function.
        assert row["exact_match_reward"] == record["outcome"]
        assert row["length"] == len(row["completion"])


@pytest.fixture(scope="module")
def run(tmp_path_factory, searching_model_path, index_path):
    folder = tmp_path_factory.mktemp("tables")
    settings = {"per_device_eval_batch_size": 2, "num_completions_to_print": 1}
    report_to = ["wandb", "trackio", "tensorboard"]
    output = assert_trains(folder, searching_model_path, index_path, report_to=report_to, **settings)
    (folder / "output.txt").write_text(output, encoding="utf-8")
    return folder


def wandb_tables(folder, name):
    """Tables of this name in Weights & Biases, in the order of logging."""
    files = folder.glob(f"wandb/offline-run-*/files/media/table/{name}_*.table.json")
    ordered = sorted(files, key=lambda path: int(path.name.split("_")[1]))
    tables = [json.loads(path.read_text(encoding="utf-8")) for path in ordered]
    return [pd.DataFrame(table["data"], columns=table["columns"], dtype=object) for table in tables]


def trackio_tables(folder, name):
    """Tables of this name in Trackio, in the order of logging."""
    with sqlite3.connect(folder / "trackio" / "huggingface.db") as database:
        entries = [json.loads(row) for (row,) in database.execute("SELECT metrics FROM metrics ORDER BY id")]
    return [pd.DataFrame(entry[name]["_value"], dtype=object) for entry in entries if name in entry]


def texts(folder):
    """Texts in TensorBoard: HTML by tag and step."""
    (events,) = folder.glob("out/runs/*/events.out.tfevents.*")
    accumulator = EventAccumulator(str(events)).Reload()
    return {
        (tag.removesuffix("/text_summary"), event.step): markdown_to_safe_html(event.tensor_proto.string_val[0])
        for tag in accumulator.Tags()["tensors"]
        for event in accumulator.Tensors(tag)
    }


def test_file_of_completions_has_what_tspo_knows_of_each(run):
    table = parquet(run, 1)
    assert set(COLUMNS) <= set(table.columns)
    assert_rows_are(table, trajectories(run, "step_000001.jsonl"))


def test_completions_of_an_evaluation_stand_behind_the_newest_of_training(run):
    for step in (2, 3):
        table = parquet(run, step)
        records = trajectories(run, f"step_{step:06d}.jsonl") + trajectories(run, f"eval_step_{step:06d}.jsonl")
        assert_rows_are(table, records[-BATCH_SIZE:])
        assert list(table["mode"]) == ["train"] * (BATCH_SIZE - len(EVAL)) + ["eval"] * len(EVAL)


def test_training_after_an_evaluation_has_the_table_to_itself(run):
    third = next(table for table in wandb_tables(run, "completions") if set(table["step"]) == {3})
    assert_rows_are(third, trajectories(run, "step_000003.jsonl"))


@pytest.mark.parametrize("read", [wandb_tables, trackio_tables])
def test_tracker_has_the_columns_of_completions(run, read):
    first = read(run, "completions")[0]
    assert_rows_are(first, trajectories(run, "step_000001.jsonl"))
    first_occurrences = [record["first_occurrence"] for record in trajectories(run, "step_000001.jsonl")]
    assert list(first["first_occurrence"]) == first_occurrences
    assert None in first_occurrences


@pytest.mark.parametrize("read", [wandb_tables, trackio_tables])
def test_tracker_has_every_turn_of_a_log_entry_once(run, read):
    tables = read(run, "turns")
    assert [(set(table["step"]), set(table["mode"])) for table in tables] == [
        ({1}, {"train"}),
        ({2}, {"train"}),
        ({2}, {"eval"}),
        ({3}, {"train"}),
        ({3}, {"eval"}),
    ]
    records = trajectories(run, "step_000001.jsonl")
    assert list(tables[0].columns) == TURN_COLUMNS
    expected = [
        [1, "train", record["group"], rollout, record["question"], record["golden_answers"], number, turn["text"],
         turn["queries"], turn["evidence"], number == record["first_occurrence"], round(turn["reward"], 4),
         round(turn["advantage"], 4)]
        for rollout, record in enumerate(records)
        for number, turn in enumerate(record["turns"])
    ]  # fmt: skip
    assert tables[0].values.tolist() == expected
    assert any(row[TURN_COLUMNS.index("first_occurrence")] for row in expected)


def test_tensorboard_shows_the_newest_groups_of_each_log_entry(run):
    shown = texts(run)
    entries = [("train", 1), ("train", 2), ("eval", 2), ("train", 3), ("eval", 3)]
    names = {(f"{mode}/{name}", step) for mode, step in entries for name in ("completions", "turns")}
    assert {key for key in shown if key[0].endswith(("/completions", "/turns"))} == names
    last_group = trajectories(run, "step_000001.jsonl")[-4:]
    assert shown["train/completions", 1].count("<tr>") == 1 + 4
    assert shown["train/turns", 1].count("<tr>") == 1 + sum(len(record["turns"]) for record in last_group)
    assert last_group[0]["question"] in shown["train/turns", 1]


def test_tensorboard_shows_the_tags_of_a_turn(run):
    assert "&lt;answer&gt;" in texts(run)["train/turns", 3]


def test_console_has_few_columns_beside_trls(run):
    output = (run / "output.txt").read_text(encoding="utf-8")
    headers = [line for line in output.splitlines() if "Prompt" in line and "Completion" in line]
    assert output.count(" Step ") == len(headers) == STEPS + 2 + 1  # training, evaluation, and the end of training
    names = ["golden_answers", "kind", "turn_advantages", "length"]
    assert all(all(name[:8] in header for name in names) for header in headers)
    assert not any("question" in header or "turn_rew" in header for header in headers)


def test_column_of_a_reward_function_wins_over_ours_of_the_same_name(run):
    kinds = Counter(kind for table in wandb_tables(run, "completions") for kind in table["kind"])
    assert set(kinds) == {"long", "short"}


@pytest.mark.slow
def test_trackers_take_messages_with_tool_calls(tmp_path, chat_model_path, index_path):
    settings = {"per_device_eval_batch_size": 2, "report_to": ["wandb", "trackio", "tensorboard"]}
    assert_trains(tmp_path, chat_model_path, index_path, calls_tools=True, **settings)
    for table in (
        parquet(tmp_path, 1),
        *(read(tmp_path, "completions")[0] for read in (wandb_tables, trackio_tables)),
    ):
        messages = [message for completion in table["completion"] for message in completion]
        assert {frozenset(message) for message in messages} == {frozenset({"role", "content"})}
        assert any('"name": "search"' in message["content"] for message in messages if message["role"] == "assistant")
        assert {message["role"] for message in messages} >= {"assistant", "tool"}


@pytest.mark.slow
def test_two_processes_have_the_rollouts_of_both_in_order(tmp_path, searching_model_path, index_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    # Each process has two rollouts of the second group.
    sizes = {"per_device_train_batch_size": 6, "per_device_eval_batch_size": 1}
    assert_trains(tmp_path, searching_model_path, index_path, launcher, report_to=["wandb"], **sizes)
    assert_rows_are(parquet(tmp_path, 1), trajectories(tmp_path, "step_000001.jsonl"))
    assert len(parquet(tmp_path, 1)) == 12
    records = trajectories(tmp_path, "step_000003.jsonl") + trajectories(tmp_path, "eval_step_000003.jsonl")
    assert_rows_are(parquet(tmp_path, 3), records[-12:])
    steps = [(set(table["step"]), set(table["mode"])) for table in wandb_tables(tmp_path, "turns")]
    assert steps[0] == ({1}, {"train"})
    assert len(steps) == STEPS + 2
