"""`tspo-trl data`: prepare and verify."""

import argparse

import pytest

from tspo_trl.cli import data
from tspo_trl.data.prepare import DATA_FORMATS

from ..data.question_files import write_flashrag


def run(*arguments):
    parser = argparse.ArgumentParser()
    data.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["data", *map(str, arguments)])
    return args.run(args)


@pytest.fixture
def prepared(tmp_path):
    local, out = write_flashrag(tmp_path / "flashrag"), tmp_path / "out"
    run("prepare", "--local", local, "--output", out, "--test", "nq", "hotpotqa")
    return out


def test_prepare_prints_a_table_of_the_files_and_the_leaks(tmp_path, capsys):
    local = write_flashrag(tmp_path / "flashrag")
    run("prepare", "--local", local, "--output", tmp_path / "out", "--test", "nq", "hotpotqa")
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == ["file", "read", "duplicates", "leaked", "written"]
    assert lines[2:5] == [
        ["train.jsonl", "4", "1", "1", "2"],
        ["test/nq.jsonl", "3", "1", "(kept)", "3"],
        ["test/hotpotqa.jsonl", "1", "0", "1"],
    ]
    assert " ".join(lines[5]) == "1 training question is in the test set of nq"


def test_prepare_takes_format_and_what_to_keep(tmp_path, capsys):
    local = write_flashrag(tmp_path / "flashrag")
    options = ("--train", "nq", "--test", "nq", "--format", "parquet", "--keep-leaked", "--keep-duplicates")
    run("prepare", "--local", local, "--output", tmp_path / "out", *options)
    assert ["train.parquet", "2", "0", "1", "(kept)", "2"] in [
        line.split() for line in capsys.readouterr().out.splitlines()
    ]


@pytest.mark.parametrize(
    ("option", "row"),
    [
        ("--keep-duplicates", ["train.jsonl", "4", "1", "(kept)", "1", "3"]),
        ("--keep-leaked", ["train.jsonl", "4", "1", "1", "(kept)", "3"]),
    ],
)
def test_duplicates_and_leaks_are_kept_apart_from_each_other(option, row, tmp_path, capsys):
    local = write_flashrag(tmp_path / "flashrag")
    run("prepare", "--local", local, "--output", tmp_path / "out", "--test", "nq", option)
    assert row in [line.split() for line in capsys.readouterr().out.splitlines()]


def test_revision_is_for_the_hub(tmp_path):
    with pytest.raises(ValueError, match="`revision='v1'` is one of the hub's"):
        run("prepare", "--local", tmp_path, "--output", tmp_path / "out", "--revision", "v1")


def test_formats_are_those_that_can_be_written(capsys):
    for data_format in DATA_FORMATS:
        with pytest.raises(FileNotFoundError):
            run("prepare", "--local", "nowhere", "--output", "out", "--format", data_format)
    with pytest.raises(SystemExit):
        run("prepare", "--output", "out", "--format", "csv")
    assert "argument --format: invalid choice: 'csv'" in capsys.readouterr().err


def test_prepare_overwrites_when_asked(prepared, tmp_path):
    run("prepare", "--local", tmp_path / "flashrag", "--output", prepared, "--test", "--overwrite")
    assert not (prepared / "test").exists()


def test_verify_is_content_with_untouched_data(prepared, capsys):
    capsys.readouterr()
    assert run("verify", prepared) == 0
    assert capsys.readouterr().out == f"{prepared} is as it was prepared\n"


def test_verify_tells_what_changed_with_status_1(prepared, capsys):
    (prepared / "train.jsonl").write_text("", encoding="utf-8")
    (prepared / "test" / "nq.jsonl").unlink()
    capsys.readouterr()
    assert run("verify", prepared) == 1
    changed, missing = capsys.readouterr().out.splitlines()
    assert changed.startswith("train.jsonl has changed: sha256 ")
    assert missing == "test/nq.jsonl is missing"
