"""Benchmarks from a local copy in FlashRAG's layout, and from a local substitute for the hub."""

import json

import pytest

from tspo_trl.data.flashrag import REPOSITORY, load_benchmark

from .hub_server import COMMIT, run_with_hub, serving_hub
from .question_files import question, write_jsonl, write_parquet

LOAD = """
import sys
from tspo_trl.data.flashrag import benchmark_file, commit_of, load_benchmark
name, split, revision = sys.argv[1:]
print(load_benchmark(name, split, revision=revision).to_list(), commit_of(benchmark_file(name, split)))
"""


def test_local_copy_is_read_as_the_evaluation_split_by_default(tmp_path):
    write_jsonl(tmp_path / "hotpotqa" / "train.jsonl", question("a?", "x", id="train_0"))
    write_jsonl(tmp_path / "hotpotqa" / "dev.jsonl", question("b?", "y", id="dev_0"))
    row = {"id": "dev_0", "question": "b?", "golden_answers": ["y"], "data_source": "hotpotqa"}
    assert load_benchmark("hotpotqa", local=tmp_path).to_list() == [row]


def test_local_copy_may_be_parquet(tmp_path):
    write_parquet(tmp_path / "nq" / "test.parquet", question("a?", "x"))
    assert load_benchmark("nq", local=tmp_path)["question"][0] == "a?"


def test_missing_file_is_named_with_the_place_where_it_is_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No dev split of musique in .*: expected at .*musique/dev\.jsonl"):
        load_benchmark("musique", local=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("squad",), "There is no benchmark 'squad'. Choose one of nq, triviaqa, popqa, hotpotqa, 2wiki"),
        (("popqa", "train"), "popqa has no split 'train'. Choose one of test."),
    ],
)
def test_unknown_set_or_split_is_refused_with_the_choices(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_benchmark(*arguments, local=tmp_path)


def test_a_local_copy_has_no_revisions(tmp_path):
    with pytest.raises(ValueError, match="`revision='v1'` is one of the hub's"):
        load_benchmark("nq", local=tmp_path, revision="v1")


def test_hub_gives_the_file_and_its_commit(tmp_path):
    line = json.dumps(question("who wrote emma", "Jane Austen", id="test_0"))
    with serving_hub(REPOSITORY, {"nq/test.jsonl": line + "\n"}) as url:
        loaded = run_with_hub(url, tmp_path, LOAD, "nq", "test", "main")
    row = {"id": "test_0", "question": "who wrote emma", "golden_answers": ["Jane Austen"], "data_source": "nq"}
    assert loaded.stdout == f"[{row}] {COMMIT}\n", loaded.stderr


@pytest.mark.parametrize(
    ("name", "revision", "error"),
    [("popqa", "main", "RemoteEntryNotFoundError"), ("nq", "no-such-branch", "RevisionNotFoundError")],
)
def test_what_the_hub_does_not_have_is_told_with_a_remedy(name, revision, error, tmp_path):
    with serving_hub(REPOSITORY, {"nq/test.jsonl": "{}\n"}) as url:
        loaded = run_with_hub(url, tmp_path, LOAD, name, "test", revision)
    assert f"OSError: {name}/test.jsonl of {REPOSITORY} could not be downloaded ({error}: " in loaded.stderr
    assert "or pass a folder with a copy as `local`." in loaded.stderr
