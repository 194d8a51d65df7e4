"""Training and test files from a local copy of benchmarks."""

import hashlib
import json
import shutil

import pytest

from tspo_trl.data import prepare
from tspo_trl.data.flashrag import REPOSITORY
from tspo_trl.data.manifest import file_checksum, read_manifest, verify_data
from tspo_trl.data.prepare import prepare_data
from tspo_trl.data.questions import SCHEMA, load_questions

from ..search.wiki_mini import DATA, needs_wiki_mini
from .hub_server import COMMIT, run_with_hub, serving_hub
from .question_files import question, write_flashrag, write_jsonl

TEST = ("nq", "hotpotqa")


@pytest.fixture
def local(tmp_path):
    return write_flashrag(tmp_path / "flashrag")


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_training_questions_are_written_once_and_without_those_of_test_sets(local, tmp_path):
    prepare_data(tmp_path / "out", local=local, test=TEST)
    assert load_questions(tmp_path / "out" / "train.jsonl").to_list() == [
        {
            "id": "train_0",
            "question": "who wrote emma",
            "golden_answers": ["Austen", "Jane Austen"],
            "data_source": "nq",
        },
        {"id": "train_0", "question": "Where?", "golden_answers": ["there"], "data_source": "hotpotqa"},
    ]


def test_test_sets_are_written_as_they_are(local, tmp_path):
    prepare_data(tmp_path / "out", local=local, test=TEST)
    rows = load_questions(tmp_path / "out" / "test" / "nq.jsonl")
    assert list(rows["question"]) == ["Why?", "Café?", "cafe"]
    assert list(rows["data_source"]) == ["nq"] * 3
    assert list(load_questions(tmp_path / "out" / "test" / "hotpotqa.jsonl")["id"]) == ["dev_0"]


def test_manifest_says_what_was_read_found_and_written(local, tmp_path):
    manifest = prepare_data(tmp_path / "out", local=local, test=TEST)
    assert manifest == json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert list(manifest["files"]) == ["train.jsonl", "test/nq.jsonl", "test/hotpotqa.jsonl"]
    assert manifest["files"]["train.jsonl"] == {
        "rows": 2,
        "sha256": file_checksum(tmp_path / "out" / "train.jsonl"),
        "sources": [
            {
                "file": f"{name}/train.jsonl",
                "repository": None,
                "revision": None,
                "rows": 2,
                "sha256": file_checksum(local / name / "train.jsonl"),
            }
            for name in ("nq", "hotpotqa")
        ],
        "duplicates": {"rows": 1, "with_further_answers": 1, "removed": True},
        "leaked": {"rows": 1, "test_sets": {"nq": 1, "hotpotqa": 0}, "removed": True},
    }
    assert manifest["files"]["test/nq.jsonl"]["duplicates"] == {"rows": 1, "removed": False}


def test_everything_may_be_kept_as_search_r1_does(local, tmp_path):
    options = {"keep_duplicates": True, "keep_leaked": True}
    entry = prepare_data(tmp_path / "out", local=local, test=TEST, **options)["files"]["train.jsonl"]
    assert list(load_questions(tmp_path / "out" / "train.jsonl")["question"]) == [
        "who wrote emma",
        "why",
        "Where?",
        "Who wrote Emma?",
    ]
    assert entry["duplicates"] == {"rows": 1, "with_further_answers": 1, "removed": False}
    assert entry["leaked"] == {"rows": 1, "test_sets": {"nq": 1, "hotpotqa": 0}, "removed": False}


def test_every_row_of_a_leaked_question_goes_where_duplicates_are_kept(local, tmp_path):
    rows = [question("why"), question("a?"), question("Why?"), question("b?")]
    write_jsonl(local / "nq" / "train.jsonl", *rows)
    entry = prepare_data(tmp_path / "out", local=local, train=["nq"], test=["nq"], keep_duplicates=True)["files"][
        "train.jsonl"
    ]
    assert list(load_questions(tmp_path / "out" / "train.jsonl")["question"]) == ["a?", "b?"]
    assert entry["duplicates"] == {"rows": 1, "with_further_answers": 0, "removed": False}
    assert entry["leaked"] == {"rows": 2, "test_sets": {"nq": 2}, "removed": True}


def test_prompts_of_a_local_copy_are_left_out(local, tmp_path):
    write_jsonl(local / "nq" / "train.jsonl", question("a?", prompt="Say a."))
    prepare_data(tmp_path / "out", local=local, train=["nq"], test=["nq"])
    assert load_questions(tmp_path / "out" / "train.jsonl").column_names == SCHEMA.names


def test_a_row_that_leaked_into_two_test_sets_counts_once(local, tmp_path):
    write_jsonl(local / "hotpotqa" / "dev.jsonl", question("WHY"))
    leaked = prepare_data(tmp_path / "out", local=local, test=TEST)["files"]["train.jsonl"]["leaked"]
    assert leaked == {"rows": 1, "test_sets": {"nq": 1, "hotpotqa": 1}, "removed": True}


def test_parquet_holds_the_same_rows(local, tmp_path):
    for data_format in ("jsonl", "parquet"):
        prepare_data(tmp_path / data_format, local=local, test=TEST, data_format=data_format)
    for name in ("train", "test/nq", "test/hotpotqa"):
        lines, parquet = (tmp_path / form / f"{name}.{form}" for form in ("jsonl", "parquet"))
        assert load_questions(parquet).to_list() == load_questions(lines).to_list()


def test_search_r1_gets_one_training_and_one_test_file(local, tmp_path):
    prepare_data(tmp_path / "out", local=local, test=TEST, data_format="search-r1")
    assert set(contents(tmp_path / "out")) == {"train.parquet", "test.parquet", "manifest.json"}
    assert list(load_questions(tmp_path / "out" / "train.parquet")["question"]) == ["who wrote emma", "Where?"]
    tests = load_questions(tmp_path / "out" / "test.parquet")
    assert list(tests["data_source"]) == ["nq", "nq", "nq", "hotpotqa"]


@pytest.mark.parametrize("data_format", ["jsonl", "parquet", "search-r1"])
def test_same_files_in_give_the_same_bytes_out(data_format, local, tmp_path):
    shutil.copytree(local, tmp_path / "copy")
    prepare_data(tmp_path / "first", local=local, test=TEST, data_format=data_format)
    prepare_data(tmp_path / "second", local=tmp_path / "copy", test=TEST, data_format=data_format)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_training_or_test_files_may_be_left_out(local, tmp_path):
    assert list(prepare_data(tmp_path / "a", local=local, test=())["files"]) == ["train.jsonl"]
    assert list(prepare_data(tmp_path / "b", local=local, train=(), test=["nq"])["files"]) == ["test/nq.jsonl"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": ["squad"]}, "There is no benchmark 'squad'"),
        ({"train": ["popqa"]}, "popqa has no split 'train'"),
        ({"test": ["nq", "nq"]}, "`test` names a set twice: nq, nq"),
        ({"train": [], "test": []}, "`train` and `test` are both empty"),
        ({"data_format": "csv"}, "`data_format` is 'csv'. Choose one of jsonl, parquet, search-r1"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_read(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        prepare_data(tmp_path / "out", local=tmp_path / "nothing", **options)


def test_missing_file_is_told_before_anything_is_read(local, tmp_path, monkeypatch):
    monkeypatch.delattr(prepare, "load_questions")
    with pytest.raises(FileNotFoundError, match=r"No test split of triviaqa in .*triviaqa/test\.jsonl"):
        prepare_data(tmp_path / "out", local=local)


def test_training_data_of_which_nothing_is_left_are_refused(local, tmp_path):
    write_jsonl(local / "nq" / "test.jsonl", question("Who wrote Emma?"), question("Why?"))
    with pytest.raises(ValueError, match="Every training question is in a test set"):
        prepare_data(tmp_path / "out", local=local, train=["nq"], test=["nq"])


def test_existing_data_are_replaced_only_when_asked(local, tmp_path):
    prepare_data(tmp_path / "out", local=local, test=TEST)
    with pytest.raises(FileExistsError, match=r"exists already. Choose another folder, or pass --overwrite"):
        prepare_data(tmp_path / "out", local=tmp_path / "nothing", test=["nq"])
    prepare_data(tmp_path / "out", local=local, test=["nq"], overwrite=True)
    assert set(contents(tmp_path / "out")) == {"train.jsonl", "test/nq.jsonl", "manifest.json"}


def test_what_is_no_prepared_data_is_never_replaced(local, tmp_path):
    before = contents(local)
    with pytest.raises(FileExistsError, match="is no prepared data, so it is not overwritten"):
        prepare_data(local, local=local, test=TEST, overwrite=True)
    assert contents(local) == before


def test_interrupted_run_leaves_what_was_there_and_can_be_run_again(local, tmp_path, monkeypatch):
    out = tmp_path / "data" / "out"
    prepare_data(out, local=local, test=TEST)
    before = contents(out)

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "write_manifest", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare_data(out, local=local, test=["nq"], overwrite=True)
    assert contents(tmp_path / "data") == {f"out/{name}": content for name, content in before.items()}
    prepare_data(out, local=local, test=["nq"], overwrite=True)
    assert verify_data(out) == []


def test_manifest_names_the_commit_that_the_hub_gave(tmp_path):
    code = (
        "import sys; from tspo_trl.data import prepare_data; prepare_data(sys.argv[1], train=[], test=['bamboogle'])"
    )
    content = json.dumps(question("a?")) + "\n"
    with serving_hub(REPOSITORY, {"bamboogle/test.jsonl": content}) as url:
        run_with_hub(url, tmp_path / "cache", code, tmp_path / "out")
    [entry] = read_manifest(tmp_path / "out")["files"].values()
    assert entry["sources"] == [
        {
            "file": "bamboogle/test.jsonl",
            "repository": "RUC-NLPIR/FlashRAG_datasets",
            "revision": COMMIT,
            "rows": 1,
            "sha256": hashlib.sha256(content.encode()).hexdigest(),
        }
    ]


@needs_wiki_mini
def test_real_questions_are_prepared(tmp_path):
    sets = ("hotpotqa", "2wikimultihopqa", "musique")
    for name in sets:
        (tmp_path / "flashrag" / name).mkdir(parents=True)
        shutil.copy(DATA / f"{name}.jsonl", tmp_path / "flashrag" / name / "dev.jsonl")
    shutil.copy(DATA / "hotpotqa_train.jsonl", tmp_path / "flashrag" / "hotpotqa" / "train.jsonl")
    manifest = prepare_data(tmp_path / "out", local=tmp_path / "flashrag", train=["hotpotqa"], test=sets)
    rows = {name: entry["rows"] for name, entry in manifest["files"].items()}
    assert rows == {
        "train.jsonl": 100,
        "test/hotpotqa.jsonl": 350,
        "test/2wikimultihopqa.jsonl": 350,
        "test/musique.jsonl": 70,
    }
    assert verify_data(tmp_path / "out") == []
