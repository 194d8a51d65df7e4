"""`tspo-trl view`: reports, the local page, the console and wrong options."""

import argparse
import os
import re
import signal
import subprocess
import sys
from urllib.request import urlopen

import pytest

from tspo_trl.cli import view as command

from ..analysis.lines import file_of
from ..viewer.credited import near_miss, success


def run(*arguments):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["view", *map(str, arguments)])
    return args.run(args)


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / "mine" / "trajectories"
    folder.mkdir(parents=True)
    file_of(folder, near_miss(step=1), success(step=1, question="Another?"))
    return tmp_path / "mine"


def test_the_report_of_a_run_stands_in_its_folder(run_folder, capsys):
    run(run_folder)
    assert capsys.readouterr().out == f"Wrote {run_folder / 'trajectories.html'}\n"
    assert "<title>mine</title>" in (run_folder / "trajectories.html").read_text(encoding="utf-8")


def test_the_report_of_a_file_stands_beside_it(run_folder):
    file = run_folder / "trajectories" / "step_000001.jsonl"
    run(file)
    assert file.with_name("step_000001.jsonl.html").is_file()


def test_output_title_and_options_are_taken(run_folder, tmp_path):
    run(run_folder, "--output", tmp_path / "r.html", "--title", "Ours", "--success-threshold", "-1", "--limit", "5")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<title>Ours</title>" in page
    # With this threshold the near miss is a success, too.
    assert re.findall(r'"kind":"(\w+)"', page) == ["complete_success", "complete_success"]


def test_open_opens_what_was_written(run_folder, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    run(run_folder, "--open")
    assert opened == [(run_folder / "trajectories.html").as_uri()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--group", "1"], "--group needs --console"),
        (["--port", "1"], "--port needs --serve"),
        (["--console", "--open"], "--open and --title do not work with --console"),
        (["--console", "--title", "x"], "--open and --title do not work with --console"),
        (["--limit", "0"], "limit must be at least 1"),
        (["--success-threshold", "nan"], "success_threshold must be a number"),
    ],
)
def test_options_that_do_not_work_are_refused(run_folder, options, message):
    with pytest.raises(ValueError, match=message):
        run(run_folder, *options)
    assert not (run_folder / "trajectories.html").exists()


@pytest.mark.parametrize("option", ["--output=x.html", "--console"])
def test_a_report_goes_one_way(run_folder, option):
    with pytest.raises(SystemExit) as stop:
        run(run_folder, "--serve", option)
    assert stop.value.code == 2


def test_a_missing_run_is_said_before_anything_is_served(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        run(tmp_path / "none", "--serve")


def test_serves_on_loopback_until_ctrl_c(run_folder):
    call = [sys.executable, "-m", "tspo_trl.cli.main", "view", run_folder, "--serve", "--port", "0"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True, env={**os.environ}) as process:
        line = process.stdout.readline()
        with urlopen(re.search(r"http://127\.0\.0\.1:\d+/", line).group()) as answer:
            assert "Another?" in answer.read().decode()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
