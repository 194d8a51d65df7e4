"""Results of a quickstart run."""

import io

from rich.console import Console

from tspo_trl.quickstart.progress import live_line
from tspo_trl.quickstart.report import plot_learning_curve, print_trajectory, solved_pair
from tspo_trl.trajectory import write_json_lines


def record(question, outcome, first_occurrence):
    turn = {"text": "<search> x </search>", "evidence": "Doc 1(Title: x) y", "reward": 0.5, "advantage": 1.0}
    answer = {"text": "<answer> y </answer>", "evidence": None, "reward": 0.0, "advantage": 0.0}
    return {
        "question": question,
        "golden_answers": ["y"],
        "outcome": outcome,
        "first_occurrence": first_occurrence,
        "end_reason": "answered",
        "turns": [turn, answer],
    }


def test_pair_is_best_a_near_miss_that_became_a_success(tmp_path):
    before, after = tmp_path / "before.jsonl", tmp_path / "after.jsonl"
    write_json_lines(before, [record("a", 0.0, None), record("b", 0.0, 0), record("c", 1.0, 0)])
    write_json_lines(after, [record("a", 1.0, 0), record("b", 1.0, 0), record("c", 1.0, 0)])
    wrong, right = solved_pair(before, after)
    assert (wrong["question"], right["question"]) == ("b", "b")
    assert (wrong["outcome"], right["outcome"]) == (0.0, 1.0)


def test_there_is_no_pair_where_nothing_was_solved(tmp_path):
    before, after = tmp_path / "before.jsonl", tmp_path / "after.jsonl"
    write_json_lines(before, [record("a", 0.0, 0)])
    write_json_lines(after, [record("a", 0.0, 0)])
    assert solved_pair(before, after) is None


def test_trajectory_is_printed_turn_by_turn_with_its_credit():
    out = io.StringIO()
    print_trajectory(Console(file=out, width=100), "Before", record("Who?", 0.0, 0))
    assert "turn 0: <search> x </search>   [reward 0.50, first occurrence]" in out.getvalue()
    assert "Doc 1(Title: x) y" in out.getvalue()
    assert "turn 1: <answer> y </answer>   [reward 0.00]" in out.getvalue()
    assert "answered, wrong" in out.getvalue()


def test_learning_curve_is_a_png(tmp_path):
    keys = ["rewards/exact_match_reward/mean", "tspo/near_miss", "tspo/all_wrong_groups", "tspo/groups_without_signal"]
    history = [{"step": step, **dict.fromkeys(keys, 0.1 * step)} for step in (1, 2)] + [{"train_runtime": 1.0}]
    report = {"exact_match_before": 0.1, "exact_match_after": 0.5, "steps": 2, "method": "tspo"}
    plot_learning_curve(history, report, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_live_line_shows_exact_match_near_misses_and_signal():
    logs = {"rewards/exact_match_reward/mean": 0.25, "tspo/near_miss": 0.5, "tspo/groups_without_signal": 0.125}
    assert live_line(logs) == "exact match 0.25, near misses 0.50, groups with signal 0.88"
