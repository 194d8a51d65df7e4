"""`tspo-trl analyze`: tables, JSON, plots and wrong options."""

import argparse
import json

import pytest

from tspo_trl.analysis import analyze
from tspo_trl.cli import analyze as command

from ..analysis.lines import file_of, own

HIT = "Parisian cafes"


def run(*arguments):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["analyze", *map(str, arguments)])
    return args.run(args)


@pytest.fixture
def path(tmp_path):
    return file_of(tmp_path, own([HIT, None], outcome=0.5), own(outcome=0.0, golden_answers=["no"], question="No?"))


def test_prints_tables(path, capsys):
    run(path)
    output = capsys.readouterr().out
    assert "complete failure" in output
    assert "100.0%" in output


def test_json_is_one_object_and_nothing_else_even_with_plots(path, tmp_path, capsys):
    run("--json", path, "--plots", tmp_path / "plots")
    output, errors = capsys.readouterr()
    assert json.loads(output) == analyze(path)
    assert errors == ""
    assert (tmp_path / "plots" / "kinds.png").exists()


def test_options_reach_the_analysis(path, capsys):
    run("--json", path, "--match", "substring", "--match-boolean-answers", "--success-threshold", "0.5")
    assert json.loads(capsys.readouterr().out) == analyze(
        path, match="substring", match_boolean_answers=True, success_threshold=0.5
    )
    assert analyze(path) != analyze(path, match="substring") != analyze(path, success_threshold=0.5)


def test_folder_of_a_run_is_all_its_files(tmp_path, capsys):
    (tmp_path / "trajectories").mkdir()
    for step in (1, 2):
        file_of(tmp_path / "trajectories", own(step=step), name=f"step_{step:06d}.jsonl")
    run("--json", tmp_path)
    assert json.loads(capsys.readouterr().out)["n"] == 2


def test_plots_are_named_and_replaced_only_if_asked_to(path, tmp_path, capsys):
    run(path, "--plots", tmp_path / "plots")
    assert f"Wrote {tmp_path / 'plots' / 'kinds.png'}\n" in capsys.readouterr().out
    with pytest.raises(FileExistsError, match="exists already"):
        run(path, "--plots", tmp_path / "plots")
    run(path, "--plots", tmp_path / "plots", "--overwrite")


def test_plots_are_refused_before_anything_is_read(tmp_path):
    (tmp_path / "kinds.png").touch()
    with pytest.raises(FileExistsError):
        run(tmp_path / "no.jsonl", "--plots", tmp_path)


def test_mistakes_are_what_the_console_script_tells_in_one_line(path, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        run(tmp_path / "no.jsonl")
    with pytest.raises(ValueError, match="--overwrite needs --plots"):
        run(path, "--overwrite")
    with pytest.raises(ValueError, match="success_threshold must be a number"):
        run(path, "--success-threshold", "nan")


@pytest.mark.parametrize("option", ["--match=regex", "--success-threshold=high", "--unknown"])
def test_wrong_options_are_refused(path, option):
    with pytest.raises(SystemExit) as stop:
        run(path, option)
    assert stop.value.code == 2
