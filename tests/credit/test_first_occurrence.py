"""First occurrence and turn rewards: which turn gets the latent reward, and how much."""

import math

import pytest

from tspo_trl.credit import first_occurrence, turn_rewards

NAN = math.nan


# First occurrence


@pytest.mark.parametrize(
    ("feedback", "turn"),
    [
        (["Paris is a city", "Rome", None], 0),
        (["Lyon", "Paris", "Paris", None], 1),
        ([None, "Paris", None], 1),
        (["Lyon", "Rome", None], None),
        (["comparison", None], None),
        ([None], None),
        ([], None),
    ],
)
def test_first_occurrence_is_the_first_turn_whose_feedback_has_the_answer(feedback, turn):
    assert first_occurrence(feedback, ["paris"]) == turn


def test_any_gold_answer_counts_as_an_occurrence():
    assert first_occurrence(["nothing", "the UK", "United Kingdom"], ["United Kingdom", "UK"]) == 1


def test_matching_options_reach_the_matcher():
    assert first_occurrence(["Parisian", None], ["Paris"]) is None
    assert first_occurrence(["Parisian", None], ["Paris"], match="substring") == 0
    assert first_occurrence(["yes", None], ["yes"]) is None
    assert first_occurrence(["yes", None], ["yes"], match_boolean_answers=True) == 0


def test_an_unknown_match_is_an_error_even_where_no_turn_searched():
    with pytest.raises(ValueError, match="match must be one of"):
        first_occurrence([None], ["Paris"], match="fuzzy")


def test_one_string_for_the_feedback_is_an_error():
    with pytest.raises(TypeError, match="feedback must be a sequence with one entry per turn"):
        first_occurrence("Paris", ["Paris"])


# Turn rewards


@pytest.mark.parametrize(
    ("outcome", "first_hit", "options", "rewards"),
    [
        (0.0, 1, {}, [0.0, 0.5, 0.0]),
        (0.0, 1, {"credit": "prefix"}, [0.5, 0.5, 0.0]),
        (0.0, 0, {"credit": "prefix"}, [0.5, 0.0, 0.0]),
        (0.0, None, {}, [0.0, 0.0, 0.0]),
        (1.0, 1, {}, [1.0, 1.0, 1.0]),
        (1.0, None, {}, [1.0, 1.0, 1.0]),
        (0.25, 2, {}, [0.25, 0.25, 0.75]),
        (0.25, 2, {"alpha": 0.125}, [0.25, 0.25, 0.375]),
        (0.25, 2, {"alpha": 0}, [0.25, 0.25, 0.25]),
        (0.25, 2, {"success_threshold": 0.25}, [0.25, 0.25, 0.25]),
        (1.0, 2, {"success_threshold": 1.5}, [1.0, 1.0, 1.49]),
    ],
)
def test_turn_rewards(outcome, first_hit, options, rewards):
    assert turn_rewards(outcome, 3, first_hit, **options) == rewards


@pytest.mark.parametrize("first_hit", [None, 0])
def test_an_unscorable_rollout_has_unscorable_turns(first_hit):
    rewards = turn_rewards(NAN, 2, first_hit)
    assert len(rewards) == 2
    assert all(math.isnan(reward) for reward in rewards)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0.0, 0, None), {}, "num_turns must be at least 1, got 0"),
        ((0.0, 2, 2), {}, r"first_hit must be None or a turn index from 0 to 1 \(num_turns is 2\), got 2"),
        ((0.0, 2, -1), {}, "got -1"),
        ((0.0, 2, None), {"alpha": -0.5}, "alpha must be a finite number of at least 0, got -0.5"),
        ((0.0, 2, None), {"alpha": math.inf}, "alpha must be a finite number"),
        ((0.0, 2, None), {"alpha": NAN}, "alpha must be a finite number"),
        ((0.0, 2, None), {"credit": "last"}, "credit must be one of 'first_occurrence', 'prefix', got 'last'"),
        ((0.0, 2, None), {"success_threshold": NAN}, "success_threshold must be a number"),
    ],
)
def test_turn_rewards_rejects(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        turn_rewards(*arguments, **options)
