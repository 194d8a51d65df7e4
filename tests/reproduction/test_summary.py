"""Summary of the runs, with numbers computed by hand."""

import math

import numpy as np
import pytest

from benchmarks.reproduction.estimates import (
    Estimate,
    StepsToTarget,
    estimate,
    known_mean,
    steps_to,
    steps_to_target,
    trailing_means,
)
from benchmarks.reproduction.summary import expectation, load_runs, steps_ratio, summarize

from .run_files import write_run

SLOW = [0.0] * 5 + [0.5] * 5  # the mean of the last five steps is 0.1, 0.2, ... 0.5 at steps 6, 7, ... 10
FAST = [0.5] * 10


def summary(folder):
    """The only regime of a folder."""
    (regime,) = summarize(load_runs(folder), variants=("grpo", "tspo"))
    return regime


def test_interval_of_two_seeds_is_that_of_students_t_with_one_degree_of_freedom():
    got = estimate([0.4, 0.6])  # standard error 0.1
    assert got.mean == pytest.approx(0.5)
    assert got.margin == pytest.approx(1.2706, abs=1e-4)


def test_interval_of_three_seeds():
    assert estimate([1.0, 2.0, 3.0]).margin == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)


def test_one_seed_has_no_interval():
    assert estimate([0.4]) == Estimate(0.4, None)


def test_missing_values_are_left_out():
    assert estimate([0.4, math.nan]) == Estimate(0.4, None)
    assert known_mean(np.array([0.2, math.nan, 0.4])) == pytest.approx(0.3)
    assert math.isnan(known_mean(np.array([math.nan])))


def test_trailing_means_begin_with_the_first_whole_window():
    assert trailing_means(np.array([1.0, 2.0, 3.0, 7.0]), 3) == pytest.approx([2.0, 4.0])


@pytest.mark.parametrize(("target", "step"), [(0.0, 5), (0.1, 6), (0.11, 7), (0.5, 10), (0.51, None)])
def test_target_is_reached_at_the_first_step_whose_last_five_have_its_mean(target, step):
    assert steps_to(np.array(SLOW), target) == step


def test_seed_that_never_reaches_the_target_counts_as_infinitely_late():
    curves = [np.array(curve) for curve in (FAST, SLOW, [0.0] * 10)]
    assert steps_to_target(curves, 0.5) == StepsToTarget(10, 2, 3, 5, 10)
    assert steps_to_target(curves[1:], 0.5) == StepsToTarget(None, 1, 2, 10, 10)
    assert steps_to_target(curves[2:], 0.5) == StepsToTarget(None, 0, 1, None, None)


def test_measures_of_a_cell(tmp_path):
    other = {
        "searches": [1.0] * 5 + [2.0] * 5,
        "groups_without_signal": [0.5] * 5 + [0.0] * 5,
        "all_wrong_groups": [0.875] + [0.0] * 9,
    }
    write_run(tmp_path, "r", "grpo", 1, SLOW, **other)
    cell = summary(tmp_path).cells["grpo"]
    assert cell.start == Estimate(0.03, None)
    assert cell.start_near_misses == Estimate(0.17, None)
    assert cell.final == Estimate(0.5, None)
    assert cell.final_training == Estimate(0.5, None)
    assert cell.area == Estimate(0.25, None)
    assert (cell.searches_start.mean, cell.searches_end.mean) == (1.0, 2.0)
    assert (cell.turns_start.mean, cell.turns_end.mean) == (2.0, 2.0)
    assert (cell.signal_start.mean, cell.signal.mean) == (0.5, 0.75)
    assert cell.all_wrong.mean == 0.875


def test_target_is_grpos_mean_over_the_last_five_steps_and_its_seeds(tmp_path):
    write_run(tmp_path, "r", "grpo", 1, SLOW)
    write_run(tmp_path, "r", "grpo", 2, [0.0] * 5 + [0.3] * 5)
    write_run(tmp_path, "r", "tspo", 1, FAST)
    regime = summary(tmp_path)
    assert regime.target == pytest.approx(0.4)
    assert regime.cells["grpo"].steps_to_target == StepsToTarget(None, 1, 2, 9, 9)
    assert regime.cells["tspo"].steps_to_target == StepsToTarget(5, 1, 1, 5, 5)


def test_differences_are_paired_by_seed_over_the_seeds_that_both_have(tmp_path):
    for seed, final in ((1, 0.2), (2, 0.5), (3, 0.9)):
        write_run(tmp_path, "r", "grpo", seed, SLOW, final=final)
    for seed, final in ((1, 0.3), (2, 0.8), (4, 0.0)):
        write_run(tmp_path, "r", "tspo", seed, FAST, final=final)
    cells = summary(tmp_path).cells
    assert cells["tspo"].final_difference.mean == pytest.approx(0.2)  # 0.1 and 0.3, standard error 0.1
    assert cells["tspo"].final_difference.margin == pytest.approx(1.2706, abs=1e-4)
    assert cells["tspo"].area_difference.mean == pytest.approx(0.25)
    assert cells["tspo"].area_difference.margin == pytest.approx(0.0)
    assert cells["grpo"].final_difference is None


def test_variant_that_shares_no_seed_with_grpo_has_no_difference(tmp_path):
    write_run(tmp_path, "r", "grpo", 1, SLOW)
    write_run(tmp_path, "r", "tspo", 2, FAST)
    assert summary(tmp_path).cells["tspo"].final_difference is None


def test_ratio_of_steps_is_that_of_medians():
    assert steps_ratio(StepsToTarget(6, 3, 3, 5, 9), StepsToTarget(24, 3, 3, 20, 40), 40) == 0.25


def test_ratio_takes_the_whole_run_for_a_baseline_that_never_gets_to_its_own_mean():
    assert steps_ratio(StepsToTarget(10, 1, 1, 10, 10), StepsToTarget(None, 1, 3, 30, 30), 40) == 0.25


def test_method_that_never_gets_there_has_no_ratio():
    assert steps_ratio(StepsToTarget(None, 0, 1, None, None), StepsToTarget(20, 1, 1, 20, 20), 40) is None


@pytest.mark.parametrize(
    ("tspo", "all_wrong", "answer"),
    [
        (FAST, 0.75, "holds"),  # 5 steps of GRPO's 10
        (FAST, 0.7, "holds"),
        (FAST, 0.69, "does not apply"),
        ([0.0] + [0.5] * 9, 0.75, "fails"),  # 6 steps
        ([0.0] * 10, 0.75, "fails"),
    ],
)
def test_expectation_is_half_the_steps_where_groups_are_all_wrong(tmp_path, tspo, all_wrong, answer):
    write_run(tmp_path, "r", "grpo", 1, SLOW, all_wrong_groups=all_wrong)
    write_run(tmp_path, "r", "tspo", 1, tspo, all_wrong_groups=all_wrong)
    assert expectation(summary(tmp_path)) == answer


@pytest.mark.parametrize("variant", ["grpo", "tspo"])
def test_expectation_is_unknown_before_both_have_run(tmp_path, variant):
    write_run(tmp_path, "r", variant, 1, FAST)
    assert expectation(summary(tmp_path)) == "unknown"


def test_expectation_does_not_apply_where_grpo_learns_nothing(tmp_path):
    for variant in ("grpo", "tspo"):
        write_run(tmp_path, "r", variant, 1, [0.0] * 10, all_wrong_groups=1.0)
    assert expectation(summary(tmp_path)) == "does not apply"


def test_regimes_and_variants_come_in_the_order_given_and_others_after_them(tmp_path):
    for regime in ("a", "b", "c"):
        for variant in ("a", "grpo", "tspo"):
            write_run(tmp_path, regime, variant, 1, FAST)
    got = summarize(load_runs(tmp_path), ("c",), ("tspo", "grpo"))
    assert [regime.name for regime in got] == ["c", "a", "b"]
    assert list(got[0].cells) == ["tspo", "grpo", "a"]


def test_null_in_a_curve_is_missing(tmp_path):
    write_run(tmp_path, "r", "grpo", 1, [None, *FAST[1:]], advantage_early_stopping=[None] * 10)
    assert summary(tmp_path).cells["grpo"].area == Estimate(0.5, None)


def test_other_files_are_no_runs(tmp_path):
    write_run(tmp_path, "r", "grpo", 1, FAST)
    (tmp_path / "length_bias.json").write_text("{}")
    (tmp_path / "r" / "grpo-seed2.json.part").write_text("{")
    assert len(load_runs(tmp_path)) == 1


def test_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="contains no run"):
        load_runs(tmp_path)


def test_run_too_short_to_have_an_end_is_refused(tmp_path):
    write_run(tmp_path, "r", "grpo", 1, [0.5] * 4)
    with pytest.raises(ValueError, match="grpo-seed1 of r has fewer than 5 steps"):
        load_runs(tmp_path)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"policy": "def"}, "tspo-seed1 of r started from another policy than grpo-seed1"),
        ({"settings": {"steps": 20}}, "tspo-seed1 of r has the settings"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(tmp_path, other, message):
    write_run(tmp_path, "r", "grpo", 1, FAST)
    write_run(tmp_path, "r", "tspo", 1, FAST, **other)
    with pytest.raises(ValueError, match=message):
        load_runs(tmp_path)


def test_options_are_what_runs_may_differ_in(tmp_path):
    write_run(tmp_path, "r", "grpo", 1, FAST, settings={"steps": 10, "options": {"alpha": 0.0}})
    write_run(tmp_path, "r", "tspo", 1, FAST, settings={"steps": 10, "options": {"alpha": 0.5}})
    assert len(load_runs(tmp_path)) == 2
