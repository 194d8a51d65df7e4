"""The report in the console."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tspo_trl.viewer import make_report
from tspo_trl.viewer.console import print_group, print_groups, print_overview

from ..analysis.lines import file_of
from .credited import MISS, credited, failure, near_miss, success

ESCAPE = "\x1b"


def printed(what, *arguments, width=120, **settings):
    output = io.StringIO()
    what(Console(file=output, width=width, **settings), *arguments)
    return output.getvalue()


def in_colour(what, *arguments):
    """Prints with the escapes of the styles."""
    return printed(what, *arguments, force_terminal=True, color_system="standard")


@pytest.fixture
def make(tmp_path):
    """Makes the report of some lines."""

    def report(*lines):
        return make_report(file_of(tmp_path, *lines, name="step_000001.jsonl"))

    return report


@pytest.fixture
def report(make):
    return make(
        *[make_line(step=1, group=0) for make_line in (near_miss, failure)],
        *[make_line(step=1, group=1, question="Capital of Italy?") for make_line in (success, success)],
    )


def row(text, start):
    """Returns the cells of the row that starts like this."""
    (line,) = (line for line in text.splitlines() if line.strip().startswith(start))
    return re.split(r" {2,}", line.strip())


def test_overview_counts_and_has_a_row_a_step(report):
    text = printed(print_overview, report)
    assert text.startswith("4 trajectories in 2 groups\n")
    # Shares of failures, near misses, successes, successes without retrieval; signal, and signal to GRPO.
    assert row(text, "training 1") == ["training 1", "4", "0.50", "25.0%", "25.0%", "50.0%", "0.0%", "50.0%", "0.0%"]


def test_overview_of_a_long_run_has_twenty_steps_the_first_and_the_last_among_them(tmp_path):
    for step in range(1, 101):
        file_of(tmp_path, success(step=step), name=f"step_{step:06d}.jsonl")
    text = printed(print_overview, make_report(tmp_path))
    steps = [int(step) for step in re.findall(r"training (\d+)", text)]
    assert len(steps) == 20
    assert (steps[0], steps[-1]) == (1, 100)
    assert "20 of 100 steps" in text


def test_groups_are_numbered_and_say_what_is_in_them(report):
    text = printed(print_groups, report)
    assert row(text, "0") == ["0", "training 1", "Capital of France?", "1 complete failure, 1 near miss", "yes"]
    assert row(text, "1") == ["1", "training 1", "Capital of Italy?", "2 complete success", "no"]


def test_groups_say_when_they_are_not_all(tmp_path):
    for step in (1, 2):
        file_of(tmp_path, success(step=step), name=f"step_{step:06d}.jsonl")
    assert "Groups of 1 of the trajectories" in printed(print_groups, make_report(tmp_path, limit=1))
    assert "Groups of" not in printed(print_groups, make_report(tmp_path))


def test_group_is_printed_turn_by_turn(report):
    assert [line.rstrip() for line in printed(print_group, report, 0).splitlines()] == [
        "Capital of France?",
        "Gold: Paris",
        "training 1",
        "",
        "Rollout 1: near miss",
        "  Turn 0 search  reward 0.00  advantage +0.00",
        "    <search> lyon </search>",
        "    Query: lyon",
        '      Doc 1(Title: "Lyon") A city on the Rhone.',
        "  Turn 1 search  reward 0.50  advantage +0.70  first occurrence",
        "    <search> capital </search>",
        "    Query: capital",
        '      Doc 1(Title: "France") Its capital is Paris.',
        '      Doc 2(Title: "Lyon") A city on the Rhone.',
        "  Turn 2 answer  reward 0.00  advantage +0.00",
        "    <answer> London </answer>",
        "  It gave an answer (answered). Answer: London. Outcome: 0.00.",
        "",
        "Rollout 2: complete failure",
        "  Turn 0 search  reward 0.00  advantage +0.00",
        "    <search> lyon </search>",
        "    Query: lyon",
        '      Doc 1(Title: "Lyon") A city on the Rhone.',
        "  Turn 1 search  reward 0.00  advantage -0.70",
        "    <search> rhone </search>",
        "    Query: rhone",
        '      Doc 1(Title: "Lyon") A city on the Rhone.',
        "  Turn 2 answer  reward 0.00  advantage +0.00",
        "    <answer> London </answer>",
        "  It gave an answer (answered). Answer: London. Outcome: 0.00.",
    ]


def test_gold_answer_in_the_evidence_is_marked(report):
    assert f"{ESCAPE}[1;30;43mParis.{ESCAPE}[0m" in in_colour(print_group, report, 0)


def test_advantage_is_green_above_zero_and_red_below(report):
    text = in_colour(print_group, report, 0)
    assert f"{ESCAPE}[1;32m+0.70{ESCAPE}[0m" in text
    assert f"{ESCAPE}[1;31m-0.70{ESCAPE}[0m" in text


def test_unscorable_rollout_without_answer_says_so(make):
    turns = (("lyon", None, None, 0.0),)
    line = credited(*turns, outcome=None, first_occurrence=None, end_reason="search_failed", step=1)
    text = printed(print_group, make({**line, "prediction": None}), 0)
    assert "Rollout 1: unscorable" in text
    assert "reward -  advantage +0.00" in text
    assert "A search failed" in text
    assert "Answer: none. Outcome: -." in text


def test_what_the_model_was_told_in_place_of_evidence_is_printed(make):
    line = failure(step=1)
    line["turns"][0] |= {"evidence": None, "feedback": "My previous action is invalid."}
    assert "      My previous action is invalid." in printed(print_group, make(line), 0)


def test_advantages_that_no_file_records_are_said_to_be_defaults(make):
    line = failure(step=1)
    for turn in line["turns"]:
        turn |= {"reward": None, "advantage": None}
    assert "The file records no advantages" in printed(print_group, make(line), 0)


@pytest.mark.parametrize("number", [-1, 2])
def test_group_that_is_not_there_is_refused(report, number):
    with pytest.raises(ValueError, match=f"group must be between 0 and 1, got {number}"):
        printed(print_group, report, number)


def hostile(text):
    """Makes a line with a text in every place that takes one."""
    turns = ((text, f"{MISS}{text}", 0.0, 0.1), (None, None, 0.0, 0.1))
    line = credited(*turns, question=text, golden_answers=(text,), prediction=text, outcome=0.0, step=1)
    return {**line, "end_reason": "answered"}


def shown(report):
    whole = [printed(print_overview, report), printed(print_groups, report), printed(print_group, report, 0)]
    return "".join(whole)


def test_markup_and_emoji_codes_are_printed_as_they_are(make):
    text = "[bold red]x[/bold red] :smile: [/] [link=http://a.b]c[/link]"
    assert printed(print_group, make(hostile(text)), 0).count(text) >= 5


@pytest.mark.parametrize(
    ("text", "escape"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b2J", r"\x9b2J"),
        ("a\rb", r"a\rb"),
        ("a\x08b", r"a\x08b"),
        ("\u202eevil", r"\u202eevil"),
    ],
)
def test_characters_that_control_a_terminal_are_shown_as_escapes(make, text, escape):
    assert f"<search> {escape} </search>" in shown(make(hostile(text)))


@given(st.text(alphabet=st.characters(categories=["Cc", "Cf", "Cs", "L"]), max_size=20))
def test_nothing_in_a_text_controls_the_terminal(text):
    report = {
        "n": 1,
        "kept": 1,
        "steps": [],
        "evidences": [[{"heading": [text, text], "text": [text, text]}]],
        "groups": [
            {
                "series": text,
                "step": 1,
                "question": text,
                "golden_answers": [text],
                "has_recorded_credit": True,
                "has_signal": False,
                "rollouts": [
                    {
                        "kind": None,
                        "outcome": None,
                        "first_occurrence": 0,
                        "prediction": text,
                        "end_reason": text,
                        "turns": [
                            {"text": text, "action": "search", "queries": [text], "evidence": 0, "feedback": text,
                             "reward": None, "advantage": None},
                            {"text": text, "action": None, "queries": [], "evidence": None, "feedback": text,
                             "reward": 0.0, "advantage": 0.0},
                        ],
                    }
                ],
            }
        ],
    }  # fmt: skip
    output = printed(print_groups, report) + printed(print_group, report, 0)
    assert not set(output) & {chr(code) for code in (*range(10), *range(11, 32), *range(127, 160))}
    assert not set(output) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    output.encode("utf-8")
