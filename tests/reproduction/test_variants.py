"""Options of the variants, and the control that shuffles credit."""

import pytest
import torch

from benchmarks.reproduction.variants import VARIANTS, ShuffledCreditTrainer, shuffled_hits
from tspo_trl import TSPOConfig

NAN = float("nan")


def shuffle(outcomes, num_turns, first_hits, group_size, seed=0):
    tensors = (torch.tensor(outcomes), torch.tensor(num_turns), torch.tensor(first_hits))
    return shuffled_hits(*tensors, group_size, 1.0, torch.Generator().manual_seed(seed)).tolist()


def test_shuffling_keeps_the_number_of_near_misses_of_each_group():
    shuffled = shuffle([0.0] * 8, [4] * 8, [2, 2, -1, -1, 0, -1, -1, -1], 4)
    assert [sum(hit >= 0 for hit in shuffled[i : i + 4]) for i in (0, 4)] == [2, 1]


def test_shuffling_gives_every_searched_turn_and_every_wrong_rollout_its_share():
    first = [shuffle([0.0, 0.0], [4, 4], [0, -1], 2, seed) for seed in range(400)]
    rollouts = torch.tensor(first).argmax(dim=1).float()
    turns = torch.tensor(first).max(dim=1).values
    assert rollouts.mean().item() == pytest.approx(0.5, abs=0.1)
    assert turns.bincount().tolist() == [pytest.approx(400 / 3, abs=40)] * 3  # never the fourth turn, which answers


def test_shuffling_leaves_correct_rollouts_alone():
    shuffled = [shuffle([1.0, 0.0, 0.0], [3, 3, 3], [1, 1, -1], 3, seed) for seed in range(20)]
    assert all(row[0] == 1 for row in shuffled)
    assert {max(row[1:]) for row in shuffled} == {0, 1}


def test_shuffling_credits_no_rollout_that_did_not_search_or_has_no_outcome():
    for seed in range(20):
        assert shuffle([0.0, NAN, 0.0], [1, 3, 2], [-1, 1, 0], 3, seed) == [-1, 1, 0]


def test_shuffling_is_the_same_in_every_process_and_another_in_each_step():
    class Trainer(ShuffledCreditTrainer):
        def __init__(self, step):
            self.args = TSPOConfig("unused", use_cpu=True, bf16=False, seed=3)
            self.state = type("State", (), {"global_step": step})

    outcomes, num_turns, hits = torch.zeros(64), torch.full((64,), 4), torch.arange(64) % 4 - 1
    one, same, other = (Trainer(step)._turn_advantages(outcomes, num_turns, hits, 8) for step in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_options_of_a_variant_differ_from_the_defaults(name):
    default = TSPOConfig("unused", use_cpu=True, bf16=False)
    assert all(getattr(default, option) != value for option, value in VARIANTS[name].options.items())


def test_only_grpo_is_without_tspo():
    off = [
        name
        for name, variant in VARIANTS.items()
        if not TSPOConfig("unused", use_cpu=True, bf16=False, **variant.options).tspo_enabled
    ]
    assert off == ["grpo"]
