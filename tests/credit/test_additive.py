"""Additive credit: GRPO's advantages of the outcome plus those of the evidence, by hand."""

import math

import pytest
import torch

from .test_advantages import advantages_of as group_advantages_of
from .test_advantages import assert_rows

NAN = math.nan


def advantages_of(*arguments, **options):
    return group_advantages_of(*arguments, **options, additive_credit=True)


def test_in_an_all_wrong_group_only_the_evidence_tells_turns_apart():
    # Evidence of turn 0: 1, 0, 0, 0, of turn 1: 0, 1, 0, 0. Deviation .5: half of 1.4997 and of -.4999. Turn 2 found
    # nothing in any rollout.
    advantages = advantages_of([0, 0, 0, 0], [3, 3, 3, 3], [0, 1, -1, -1])
    rows = [[0.7499, -0.25, 0.0], [-0.25, 0.7499, 0.0], [-0.25, -0.25, 0.0], [-0.25, -0.25, 0.0]]
    assert_rows(advantages, rows)


def test_in_a_mixed_group_the_evidence_comes_on_top_of_the_outcome():
    # Outcome: 1.4997 and -.4999. Evidence of turn 0: 1, 0, 0, 0 (the correct rollout's). Of turn 1, the last
    # one of the correct rollout: -, 1, 0, 0, so 1.1545 and -.5772. Of turn 2, the near miss's last one: one value.
    advantages = advantages_of([1, 0, 0, 0], [2, 3, 3, 2], [0, 1, -1, -1])
    rows = [
        [1.4997 + 0.7499, 1.4997, 0.0],
        [-0.4999 - 0.25, -0.4999 + 0.5772, -0.4999],
        [-0.4999 - 0.25, -0.4999 - 0.2886, -0.4999],
        [-0.4999 - 0.25, -0.4999 - 0.2886, 0.0],
    ]
    assert_rows(advantages, rows)


def test_correct_rollouts_are_told_apart_by_their_evidence():
    advantages = advantages_of([1, 1, 1, 1], [2, 2, 2, 2], [0, -1, -1, -1])
    assert_rows(advantages, [[0.7499, 0.0], [-0.25, 0.0], [-0.25, 0.0], [-0.25, 0.0]])


def test_a_correct_rollout_and_a_near_miss_with_the_same_evidence_have_the_same_credit_for_it():
    # Outcome: .7070, -.7070. Evidence of turn 0: 1, 1.
    advantages = advantages_of([1, 0], [2, 2], [0, 0], 2)
    assert_rows(advantages, [[0.7070, 0.7070], [-0.7070, -0.7070]])


def test_a_hit_in_the_last_turn_is_not_credited():
    # If a rollout runs out of budget, its last turn may have feedback that no turn reads.
    assert advantages_of([0, 0], [2, 2], [1, -1], 2).count_nonzero() == 0


def test_an_unscorable_rollout_gets_nothing_and_counts_nowhere():
    # Evidence of turn 0 among the others: 1, 0, 0.
    advantages = advantages_of([0, NAN, 0, 0], [2, 2, 2, 2], [0, 0, -1, -1])
    assert_rows(advantages, [[0.5772, 0.0], [0.0, 0.0], [-0.2886, 0.0], [-0.2886, 0.0]])


@pytest.mark.parametrize("absent_turns", ["skip", "zero"])
def test_one_scorable_rollout_has_no_baseline(absent_turns):
    advantages = advantages_of([0, NAN, NAN, NAN], [2, 2, 2, 2], [0, 0, 0, 0], absent_turns=absent_turns)
    assert advantages.count_nonzero() == 0


def test_a_rollout_that_stops_before_it_found_anything_is_blamed_beside_one_that_searched_on():
    # Evidence of turn 1, the last one of the second rollout: 1, 0.
    advantages = advantages_of([0, 0], [3, 2], [1, -1], 2)
    assert_rows(advantages, [[0.0, 0.3535, 0.0], [0.0, -0.3535, 0.0]])


def test_the_answer_of_a_near_miss_is_neither_credited_nor_blamed_for_evidence():
    # The second rollout ends in turn 1, in which the first one finds its evidence: 1, -, 0.
    advantages = advantages_of([0, 0, 0], [3, 2, 3], [1, 0, -1], 3)
    assert_rows(advantages[:, 1], [0.3535, 0.0, -0.3535])


def test_a_turn_that_is_compared_in_one_rollout_has_a_baseline_only_if_absent_turns_count():
    # Evidence of turn 0: 0, 1, 1, 1. Of turn 1, the last one of all others: 1.
    options = {"outcomes": [0, 0, 0, 0], "num_turns": [3, 2, 2, 2], "first_hits": [1, 0, 0, 0]}
    others = [[0.25, 0.0, 0.0]] * 3
    assert_rows(advantages_of(**options), [[-0.7499, 0.0, 0.0], *others])
    assert_rows(advantages_of(**options, absent_turns="zero"), [[-0.7499, 0.7499, 0.0], *others])


def test_the_baseline_of_all_turns_pools_the_turns_that_are_compared():
    # Evidence (0, 1), (0, 0), (0), (0, 0): mean 1/7, deviation .37796.
    options = {"outcomes": [0, 0, 0, 0], "num_turns": [3, 2, 1, 2], "first_hits": [1, -1, -1, -1]}
    rows = [[-0.1889, 1.1336, 0.0], [-0.1889, -0.1889, 0.0], [-0.1889, 0.0, 0.0], [-0.1889, -0.1889, 0.0]]
    assert_rows(advantages_of(**options, turn_baseline="all_turns"), rows)
    # `absent_turns` has no effect with this baseline.
    assert_rows(advantages_of(**options, turn_baseline="all_turns", absent_turns="zero"), rows)


def test_prefix_credits_the_turns_up_to_the_hit():
    options = {"outcomes": [0, 0, 0, 0], "num_turns": [4, 4, 4, 4], "first_hits": [1, -1, -1, -1]}
    assert_rows(advantages_of(**options)[0], [0.0, 0.7499, 0.0, 0.0])
    assert_rows(advantages_of(**options, credit="prefix")[0], [0.7499, 0.7499, 0.0, 0.0])


def test_without_scaling_outcome_and_evidence_are_deviations_from_the_mean():
    # Outcome: .75 and -.25. Evidence of turn 0: .5, .5, -.5, -.5.
    advantages = advantages_of([1, 0, 0, 0], [2, 2, 2, 2], [0, 0, -1, -1], scale_rewards="none")
    assert_rows(advantages, [[1.0, 0.75], [0.0, -0.25], [-0.5, -0.25], [-0.5, -0.25]])


def test_batch_scaling_takes_the_deviation_of_all_outcomes_and_of_all_evidence():
    # Outcomes 1, 0, 0, 0: deviation .5. Evidence (0, 0), (0, 0), (1), (0, 0): deviation .37796. The first group has no
    # signal in its evidence, and the second has none in its outcomes.
    options = {"num_turns": [2, 2, 2, 2], "first_hits": [-1, -1, 0, -1], "group_size": 2, "scale_rewards": "batch"}
    advantages = advantages_of([1, 0, 0, 0], **options)
    assert_rows(advantages, [[0.9998, 0.9998], [-0.9998, -0.9998], [0.6613, 0.0], [-0.6613, 0.0]])


def test_alpha_is_the_weight_of_the_evidence():
    arguments = ([0, 0, 0, 0], [2, 2, 2, 2], [0, -1, -1, -1])
    assert_rows(advantages_of(*arguments, alpha=2.0)[0], [2.9994, 0.0])


def test_a_group_of_one_has_no_advantage():
    assert advantages_of([0, 1], [3, 3], [0, -1], 1, turn_baseline="all_turns").count_nonzero() == 0


@pytest.mark.parametrize(
    "without_effect",
    [
        {"turn_level_groups": "always"},
        {"turn_level_groups": "never"},
        {"latent_in_mixed_groups": False},
        {"success_threshold": 0.0},
    ],
)
def test_the_composition_of_the_group_has_no_effect(without_effect):
    arguments = ([1, 0, 0, 0, 0, 0, 0, 0], [2, 3, 3, 2, 3, 3, 3, 3], [0, 1, -1, -1, 0, 1, -1, -1])
    assert torch.equal(advantages_of(*arguments, **without_effect), advantages_of(*arguments))


@pytest.mark.parametrize("turn_level_groups", ["all_wrong", "always", "never"])
@pytest.mark.parametrize("absent_turns", ["skip", "zero"])
@pytest.mark.parametrize("scale_rewards", ["group", "batch", "none"])
def test_without_alpha_the_advantages_are_grpos_to_the_bit(turn_level_groups, absent_turns, scale_rewards):
    generator = torch.Generator().manual_seed(0)
    outcomes = torch.randint(0, 2, (64,), generator=generator) * torch.rand(64, generator=generator)
    outcomes[torch.rand(64, generator=generator) < 0.2] = NAN
    num_turns = torch.randint(1, 5, (64,), generator=generator)
    batch = (outcomes.tolist(), num_turns.tolist(), (num_turns - 1).clamp(max=1).tolist())
    options = {"alpha": 0.0, "scale_rewards": scale_rewards}
    advantages = advantages_of(*batch, **options, turn_level_groups=turn_level_groups, absent_turns=absent_turns)
    assert torch.equal(advantages, group_advantages_of(*batch, **options, turn_level_groups="never"))
