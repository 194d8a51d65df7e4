"""Trajectory files become groups of credited rollouts."""

import math
from pathlib import Path

import pytest

from tspo_trl.viewer import ViewOptions
from tspo_trl.viewer.groups import load_groups, series_names

from ..analysis.lines import file_of, own, plain
from .credited import failure, near_miss, success

HIT = "Paris is the capital"


def load(folder, *lines, **options):
    return load_groups(file_of(folder, *lines), "training", ViewOptions(**options))


def test_rollouts_of_one_step_group_and_question_are_a_group(tmp_path):
    groups = load(tmp_path, near_miss(step=1, group=0), failure(step=1, group=0), success(step=1, group=1))
    assert [len(group.rollouts) for group in groups] == [2, 1]
    assert groups[0].question == "Capital of France?"
    assert groups[0].golden_answers == ["Paris"]
    assert groups[0].step == 1


def test_recorded_rewards_and_advantages_are_kept(tmp_path):
    (group,) = load(tmp_path, near_miss(group=0), failure(group=0))
    assert group.has_recorded_credit
    assert group.rollouts[0].rewards == (0.0, 0.5, 0.0)
    assert group.rollouts[0].advantages == (0.0, 0.7, 0.0)
    assert group.rollouts[1].advantages == (0.0, -0.7, 0.0)


def test_credit_that_is_not_recorded_is_what_the_defaults_give(tmp_path):
    # All wrong, so turn by turn: in turn 0 the rewards are 0.5 and 0, mean 0.25, standard deviation 0.3536.
    (group,) = load(tmp_path, own([HIT, None], group=0), own(["Lyon", None], group=0))
    assert not group.has_recorded_credit
    assert group.rollouts[0].rewards == (0.5, 0.0)
    assert group.rollouts[0].advantages == pytest.approx((0.25 / (0.353553 + 1e-4), 0.0), abs=1e-5)
    assert group.rollouts[1].advantages == pytest.approx((-0.25 / (0.353553 + 1e-4), 0.0), abs=1e-5)


def test_default_credit_of_a_mixed_group_is_of_the_outcome_alone(tmp_path):
    lines = [own(found, group=0, prediction=answer) for found, answer in
             [([HIT, None], "London"), (["Lyon", None], "London"), ([HIT, None], "Paris")]]  # fmt: skip
    (group,) = load(tmp_path, *lines)
    # Outcomes 0, 0, 1: mean 1/3, standard deviation 0.57735. The near miss gets what the failure gets.
    advantages = [one.advantages for one in group.rollouts]
    assert advantages[0] == advantages[1] == pytest.approx([-0.57725, -0.57725], abs=1e-4)
    assert advantages[2] == pytest.approx([1.1545, 1.1545], abs=1e-3)


def test_a_rollout_alone_has_rewards_but_no_advantages(tmp_path):
    (group,) = load(tmp_path, plain([HIT, None]))
    assert group.rollouts[0].rewards == (0.5, 0.0)
    assert group.rollouts[0].advantages == (None, None)


def test_an_unscorable_rollout_has_no_kind_and_no_reward(tmp_path):
    (group,) = load(tmp_path, own([HIT, None], end_reason="search_failed", prediction=None))
    assert group.rollouts[0].kind is None
    assert group.rollouts[0].rewards == (None, None)
    assert math.isnan(group.rollouts[0].summary.outcome)
    assert not group.is_all_wrong


def test_the_four_kinds(tmp_path):
    lines = [near_miss(), failure(), success(), own(prediction="Paris")]
    groups = load(tmp_path, *(dict(line, question=f"{i}?") for i, line in enumerate(lines)))
    kinds = [group.rollouts[0].kind for group in groups]
    assert kinds == ["near_miss", "complete_failure", "complete_success", "success_without_retrieval"]


def test_the_recorded_first_occurrence_goes_before_what_is_found(tmp_path):
    # For example, because `skip_gold_in_question` was on.
    (group,) = load(tmp_path, {**near_miss(), "first_occurrence": None})
    assert group.rollouts[0].first_hit == -1
    assert group.rollouts[0].kind == "complete_failure"


def test_groups_know_whether_they_are_all_wrong_and_whether_they_teach(tmp_path):
    groups = load(tmp_path, near_miss(group=0), failure(group=0), success(group=1), failure(group=1), success(group=2))
    assert [group.is_all_wrong for group in groups] == [True, False, False]
    assert [group.has_signal for group in groups] == [True, True, False]


def test_a_failed_search_does_not_keep_a_group_from_being_all_wrong(tmp_path):
    failed = own([None], group=0, end_reason="search_failed", prediction=None)
    assert load(tmp_path, near_miss(group=0), failed)[0].is_all_wrong


def test_threshold_says_what_is_correct(tmp_path):
    line = dict(near_miss(), outcome=0.5)
    assert load(tmp_path, line)[0].rollouts[0].kind == "near_miss"
    assert load(tmp_path, line, success_threshold=0.5)[0].rollouts[0].kind == "complete_success"


def test_recorded_success_says_what_is_correct(tmp_path):
    weighted = own([HIT, None], outcome=0.5, success=1.0)
    assert load(tmp_path, weighted)[0].rollouts[0].kind == "complete_success"
    bonus = {"group": 0, "outcome": 1.25, "success": 0.0}
    (group,) = load(tmp_path, own([HIT, None], **bonus), own(["Lyon", None], **bonus))
    assert group.is_all_wrong
    assert group.rollouts[0].kind == "near_miss"
    assert group.rollouts[0].rewards == (1.75, 1.25)
    assert group.has_signal


def test_a_threshold_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="success_threshold must be a number, got nan"):
        ViewOptions(success_threshold=math.nan)


def test_a_series_is_named_as_the_run_names_its_files():
    names = ["step_000010.jsonl", "eval_step_000010.jsonl", "eval_nq_step_000010.jsonl", "answers.jsonl"]
    assert series_names([Path("run/trajectories", name) for name in names]) == [
        "training", "eval", "eval_nq", "answers",
    ]  # fmt: skip


def test_series_of_several_runs_have_the_runs_names():
    files = [Path("runs/a/trajectories/step_000001.jsonl"), Path("runs/b/trajectories/eval_step_000001.jsonl")]
    assert series_names(files) == ["a: training", "b: eval"]
