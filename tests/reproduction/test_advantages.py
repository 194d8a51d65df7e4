"""Mean advantages by what a turn did."""

import pytest

from benchmarks.reproduction.advantages import KINDS, mean_advantages, turn_kinds


def record_of(outcome, first_occurrence, advantages):
    turns = [{"advantage": advantage} for advantage in advantages]
    return {"outcome": outcome, "first_occurrence": first_occurrence, "turns": turns}


def test_a_near_miss_searches_up_to_its_evidence_and_then_on():
    assert list(turn_kinds(record_of(0.0, 1, [0.1, 0.2, 0.3, 0.4]))) == [
        ("near miss: search", 0.1),
        ("near miss: search", 0.2),
        ("near miss: search on", 0.3),
        ("near miss: answer", 0.4),
    ]


def test_a_right_rollout_searches_and_answers():
    kinds = [kind for kind, _ in turn_kinds(record_of(1.0, 0, [1.0, 1.0, 1.0]))]
    assert kinds == ["right: search", "right: search", "right: answer"]


def test_a_failure_may_consist_of_an_answer_only():
    assert list(turn_kinds(record_of(0.0, None, [-0.5]))) == [("failure: answer", -0.5)]


def test_means_are_taken_over_all_turns_of_a_kind():
    means = mean_advantages([record_of(0.0, None, [-0.1, -0.2]), record_of(0.0, None, [-0.3, -0.4, -0.5])])
    assert means["failure: search"] == pytest.approx((-0.1 - 0.3 - 0.4) / 3, abs=1e-4)
    assert means["failure: answer"] == pytest.approx(-0.35)
    assert {kind for kind, mean in means.items() if mean is not None} == {"failure: search", "failure: answer"}
    assert tuple(means) == KINDS
