"""The tables."""

import io
from pathlib import Path

from rich.console import Console

from tspo_trl.analysis import analyze
from tspo_trl.analysis.report import print_report

from .lines import file_of, own, plain

HIT = "Paris is the capital."
DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs" / "analysis.md"


def report(*paths):
    """The report as lines, without frames and with single spaces."""
    console = Console(file=io.StringIO(), width=100, markup=False)
    print_report(console, analyze(paths))
    text = console.file.getvalue()
    for mark in "│┃":
        text = text.replace(mark, " ")
    return [" ".join(line.split()) for line in text.splitlines()]


def test_shares_are_percentages(tmp_path):
    lines = report(file_of(tmp_path, own([HIT, None], outcome=0.0), own(), own()))
    for line in ("rollouts 3", "near miss 33.3%", "complete failure 66.7%", "first occurrence: turn 0 1"):
        assert line in lines


def test_signal_is_told_where_there_are_groups(tmp_path):
    lines = report(file_of(tmp_path, plain([HIT, None], em=0), plain([None], em=0)))
    for line in ("groups 1", "groups with signal: GRPO 0.0%", "groups with signal: TSPO 100.0%"):
        assert line in lines
    assert not any("is not known" in line for line in lines)


def test_without_groups_the_reason_is_told(tmp_path):
    lines = report(file_of(tmp_path, plain()))
    assert "groups 0" in lines
    assert not any("groups with signal" in line for line in lines)
    assert "there is no group of two or more rollouts" in " ".join(lines)


def test_share_of_nothing_is_a_dash(tmp_path):
    assert "near miss -" in report(file_of(tmp_path, own(outcome=None)))


def test_comparison_is_shown_where_something_is_recorded(tmp_path):
    lines = report(file_of(tmp_path, own(outcome=1.0), own(outcome=0.0)))
    assert "recorded outcomes that differ 1 of 2" in lines
    assert not any("recorded first occurrences" in line for line in lines)


def test_several_files_have_a_row_each_within_their_common_folder(tmp_path):
    (tmp_path / "run").mkdir()
    one = file_of(tmp_path / "run", own([HIT, None], outcome=0.0), name="[b]one.jsonl")
    lines = report(one, file_of(tmp_path, own(outcome=1.0), own(), name="two.jsonl"))
    assert "run/[b]one.jsonl 1 0.0% 100.0% 0.0% 0.0%" in lines
    assert "two.jsonl 2 50.0% 0.0% 0.0% 50.0%" in lines


def test_example_of_the_documentation_is_what_is_printed(tmp_path):
    text = DOCUMENTATION.read_text(encoding="utf-8")
    [example] = [part for part in text.split("\nEOF\n") if "<<'EOF'\n" in part]
    (tmp_path / "rollouts.jsonl").write_text(example.partition("<<'EOF'\n")[2])
    console = Console(file=io.StringIO(), width=80)
    print_report(console, analyze(tmp_path / "rollouts.jsonl"))
    assert f"```text\n{console.file.getvalue()}```\n" in text
