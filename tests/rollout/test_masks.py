"""Trajectories of completions with a mask of any shape, from a user's `rollout_func`."""

from itertools import product

import pytest
import torch

from tspo_trl.rollout.generation import trajectory_of_generation
from tspo_trl.trainer.records import token_advantages


def turns_of(mask, tokenizer, length=None):
    ids = tokenizer("abcdefgh")["input_ids"][: len(mask) if length is None else length]
    return trajectory_of_generation(ids, mask, tokenizer).turns


@pytest.mark.parametrize("mask", [mask for length in range(6) for mask in product([0, 1], repeat=length)])
def test_generated_tokens_are_turns_and_only_what_follows_a_turn_is_its_feedback(mask, tokenizer):
    turns = turns_of(list(mask), tokenizer)
    assert len(turns) >= 1
    covered = [None] * len(mask)
    for turn in turns:
        for span, bit in [(turn.token_span, 1), (turn.feedback_span, 0)]:
            for position in range(*(span or (0, 0))):
                assert covered[position] is None
                covered[position] = bit
    prefix = len(mask) if 1 not in mask else mask.index(1)
    assert covered == [None] * prefix + list(mask[prefix:])
    for turn in turns:
        assert (turn.feedback is None) == (turn.feedback_span is None) == (turn.evidence is None)


@pytest.mark.parametrize("length", range(4))
def test_completion_without_a_generated_token_has_one_empty_turn_and_no_evidence(length, tokenizer):
    (turn,) = turns_of([0] * length, tokenizer)
    assert (turn.text, turn.token_span, turn.feedback, turn.evidence) == ("", (length, length), None, None)


def test_mask_counts_as_1_where_it_is_too_short_as_trl_pads_it(tokenizer):
    (turn,) = turns_of([], tokenizer, length=3)
    assert turn.token_span == (0, 3)
    first, second = turns_of([1, 0], tokenizer, length=3)
    assert (first.feedback_span, second.token_span) == ((1, 2), (2, 3))


def test_mask_beyond_the_completion_is_ignored(tokenizer):
    (turn,) = turns_of([1, 1, 0, 1], tokenizer, length=2)
    assert (turn.token_span, turn.feedback) == ((0, 2), None)


@pytest.mark.parametrize("kind", [bool, float, torch.tensor])
def test_mask_may_have_any_type_of_0_and_1(kind, tokenizer):
    first, second = turns_of([kind(bit) for bit in [0, 1, 0, 1]], tokenizer)
    assert (first.token_span, first.feedback_span, second.token_span) == ((1, 2), (2, 3), (3, 4))


def test_token_advantages_skip_the_prefix_and_empty_turns(tokenizer):
    ids = tokenizer("abcdefgh")["input_ids"]
    masks = [[0, 1, 0, 1], [0, 0], []]
    trajectories = [trajectory_of_generation(ids[: len(mask)], mask, tokenizer) for mask in masks]
    advantages = torch.tensor([[1.0, 2.0], [3.0, 0.0], [4.0, 0.0]])
    assert token_advantages(trajectories, advantages, 4).tolist() == [[0, 1, 0, 2], [0] * 4, [0] * 4]
