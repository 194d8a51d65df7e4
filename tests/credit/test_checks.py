"""Malformed arguments of `group_advantages` are errors that name the argument and the remedy."""

import math

import pytest
import torch

from tspo_trl.credit import group_advantages

NAN = math.nan
OUTCOMES, NUM_TURNS, FIRST_HITS = torch.zeros(4), torch.full((4,), 2), torch.full((4,), -1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((OUTCOMES.view(2, 2), NUM_TURNS, FIRST_HITS, 2), r"outcomes must have one dimension, got shape \(2, 2\)"),
        ((OUTCOMES[0], NUM_TURNS, FIRST_HITS, 2), "outcomes must have one dimension"),
        ((OUTCOMES.long(), NUM_TURNS, FIRST_HITS, 2), "outcomes must have a floating point type, got torch.int64"),
        ((OUTCOMES, NUM_TURNS.float(), FIRST_HITS, 2), "num_turns must have an integer type, got torch.float32"),
        ((OUTCOMES, NUM_TURNS, FIRST_HITS > 0, 2), "first_hits must have an integer type, got torch.bool"),
        ((OUTCOMES, NUM_TURNS[:3], FIRST_HITS, 2), "one entry per rollout each, got 4, 3 and 4 entries"),
        ((OUTCOMES, NUM_TURNS, FIRST_HITS, 3), r"positive multiple of group_size \(3\), got 4"),
        ((OUTCOMES[:0], NUM_TURNS[:0], FIRST_HITS[:0], 2), "positive multiple of group_size"),
        ((OUTCOMES, NUM_TURNS, FIRST_HITS, 0), "group_size must be an integer of at least 1, got 0"),
        ((OUTCOMES, NUM_TURNS, FIRST_HITS, 2.0), "group_size must be an integer of at least 1, got 2.0"),
        ((OUTCOMES + math.inf, NUM_TURNS, FIRST_HITS, 2), "outcomes must be finite, .* Rollout 0 has inf"),
        ((OUTCOMES, torch.tensor([2, 2, 0, 2]), FIRST_HITS, 2), "num_turns must be at least 1. Rollout 2 has 0"),
        ((OUTCOMES, NUM_TURNS, torch.tensor([0, 2, 0, 0]), 2), "first_hits must be a turn index .* Rollout 1 has 2"),
        ((OUTCOMES, NUM_TURNS, torch.tensor([0, 0, 0, -2]), 2), "first_hits must be .* Rollout 3 has -2"),
    ],
)
def test_a_malformed_batch_is_an_error_that_names_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        group_advantages(*arguments)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("alpha", -1.0, "alpha must be a finite number of at least 0, got -1.0"),
        ("alpha", NAN, "alpha must be a finite number"),
        ("credit", "last", "credit must be one of 'first_occurrence', 'prefix', got 'last'"),
        ("turn_level_groups", "mixed", "turn_level_groups must be one of 'all_wrong', 'always', 'never', got 'mixed'"),
        ("turn_baseline", "group", "turn_baseline must be one of 'same_turn', 'all_turns', got 'group'"),
        ("absent_turns", "drop", "absent_turns must be one of 'skip', 'zero', got 'drop'"),
        ("scale_rewards", "std", "scale_rewards must be one of 'group', 'batch', 'none', got 'std'"),
        ("scale_rewards", None, "scale_rewards must be one of"),
        ("success_threshold", NAN, "success_threshold must be a number"),
    ],
)
def test_an_unknown_option_value_is_an_error_that_names_the_choices(option, value, message):
    with pytest.raises(ValueError, match=message):
        group_advantages(OUTCOMES, NUM_TURNS, FIRST_HITS, 2, **{option: value})


@pytest.mark.parametrize("name", ["outcomes", "num_turns", "first_hits"])
def test_lists_in_place_of_tensors_are_an_error_that_names_the_remedy(name):
    batch = {"outcomes": OUTCOMES, "num_turns": NUM_TURNS, "first_hits": FIRST_HITS}
    with pytest.raises(TypeError, match=rf"{name} must be a tensor, got list. Pass torch.tensor\({name}\)"):
        group_advantages(**{**batch, name: batch[name].tolist()}, group_size=2)
