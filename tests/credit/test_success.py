"""What is right: a success reward next to the outcome, a tolerance for float32, and the cap of the latent reward."""

import math

import pytest
import torch

from tspo_trl.credit import all_wrong_groups, group_advantages, near_misses, trajectory_kinds, turn_rewards

GRPO = {"alpha": 0.0, "turn_level_groups": "never"}


def advantages_of(outcomes, num_turns, first_hits, successes=None, **options):
    return group_advantages(
        torch.tensor(outcomes),
        torch.tensor(num_turns),
        torch.tensor(first_hits),
        len(outcomes),
        successes=None if successes is None else torch.tensor(successes),
        **options,
    )


@pytest.mark.parametrize("weights", [(0.65, 0.15, 0.2), (0.7, 0.2, 0.1), (1 / 3, 1 / 3, 1 / 3)])
def test_weighted_sums_in_float32_are_right(weights):
    total = (torch.ones(1, 3) * torch.tensor(weights)).nansum(dim=1)
    outcomes, hits = torch.cat([total, torch.zeros(1)]), torch.tensor([0, 0])
    assert not all_wrong_groups(outcomes, 2).any()
    assert near_misses(outcomes, hits).tolist() == [False, True]
    assert trajectory_kinds(outcomes, hits, 1.0)["complete_success"].tolist() == [True, False]
    assert turn_rewards(total.item(), 2, 0) == [total.item()] * 2
    options = {"latent_in_mixed_groups": False}
    assert torch.equal(
        advantages_of(outcomes.tolist(), [1, 1], [0, 0], **options),
        advantages_of(outcomes.tolist(), [1, 1], [0, 0], **GRPO),
    )


def test_an_outcome_below_the_tolerance_is_wrong():
    assert turn_rewards(0.99999, 1, 0, alpha=0.5) == [0.99999]  # wrong, but there is no room below the threshold
    assert near_misses(torch.tensor([0.99999, 0.9999995]), torch.tensor([0, 0])).tolist() == [True, False]


@pytest.mark.parametrize("bonus", [0.2, 1.0, 5.0])
def test_a_bonus_does_not_make_a_group_right(bonus):
    advantages = advantages_of([bonus] * 4, [2] * 4, [0, -1, -1, -1], successes=[0.0] * 4)
    assert advantages[0, 0] > 1.0
    assert (advantages[1:, 0] < 0).all()
    assert turn_rewards(bonus, 2, 0, success=0.0)[0] > bonus


def test_a_weight_does_not_make_a_right_rollout_wrong():
    outcomes, hits = [0.5, 0.0, 0.0, 0.0], [0, -1, -1, -1]
    successes = [1.0, 0.0, 0.0, 0.0]
    assert torch.equal(
        advantages_of(outcomes, [2] * 4, hits, successes), advantages_of(outcomes, [2] * 4, hits, **GRPO)
    )
    assert turn_rewards(0.5, 2, 0, success=1.0) == [0.5, 0.5]


def test_an_unknown_success_is_neither_right_nor_wrong():
    assert not all_wrong_groups(torch.tensor([math.nan, math.nan]), 2).any()
    assert turn_rewards(0.0, 2, 0, success=math.nan) == [0.0, 0.0]
    mixed = advantages_of([0.5, 0.0, 0.0], [1] * 3, [0, -1, -1], [math.nan, 0.0, 0.0])
    assert torch.equal(mixed, advantages_of([0.5, 0.0, 0.0], [1] * 3, [-1] * 3))


def test_a_success_of_an_unscorable_rollout_does_not_count():
    successes = [1.0, 0.0, 0.0]
    advantages = advantages_of([math.nan, 0.0, 0.0], [1] * 3, [-1, 0, -1], successes)
    assert torch.equal(advantages, advantages_of([math.nan, 0.0, 0.0], [1] * 3, [-1, 0, -1]))
    assert advantages[1] > 0


@pytest.mark.parametrize(
    ("successes", "error", "message"),
    [
        ([0.0], TypeError, "successes must be a tensor, got list"),
        (torch.zeros(3), ValueError, "successes must have one entry per rollout, as outcomes, got 3 and 2 entries"),
        (torch.zeros(2, dtype=torch.int64), ValueError, "successes must have a floating point type"),
    ],
)
def test_impossible_successes_are_refused(successes, error, message):
    with pytest.raises(error, match=message):
        group_advantages(torch.zeros(2), torch.ones(2).long(), torch.zeros(2).long(), 2, successes=successes)


# The cap


@pytest.mark.parametrize("alpha", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("f1", [0.2, 0.5, 0.8, 0.9, 0.985, 0.995])
@pytest.mark.parametrize("threshold", [1.0, 2.0])
def test_a_graded_near_miss_stays_below_a_right_rollout(f1, alpha, threshold):
    latent = turn_rewards(f1, 1, 0, alpha=alpha, success_threshold=threshold)[0] - f1
    assert latent == pytest.approx(max(0.0, min(alpha, threshold - 0.01 - f1)))
    for options in ({}, {"turn_level_groups": "always"}):
        options |= {"alpha": alpha, "success_threshold": threshold, "scale_rewards": "none"}
        near_miss, right = advantages_of([f1, threshold], [1, 1], [0, -1], **options)
        assert near_miss < right
        assert (right - near_miss).item() == pytest.approx(threshold - f1 - latent, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.5, 0.9])
@pytest.mark.parametrize("level", ["all_wrong", "always"])
def test_no_weight_lets_a_near_miss_beat_a_right_rollout_of_its_group(alpha, level):
    near_miss, right = advantages_of(
        [0.0, 0.5], [1, 1], [0, -1], [0.0, 1.0], alpha=alpha, turn_level_groups=level, scale_rewards="none"
    )
    assert near_miss < right
    assert (right - near_miss).item() == pytest.approx(max(0.01, 0.5 - alpha))


# Absent turns


def test_an_absent_turn_counts_as_a_turn_without_latent_reward():
    # Turn 1 exists for two of four rollouts. The others ended with outcomes of 0.4 and 0.
    outcomes, turns, hits = [0.4, 0.2, 0.4, 0.0], [1, 2, 2, 1], [-1, 1, -1, -1]
    advantages = advantages_of(outcomes, turns, hits, absent_turns="zero", scale_rewards="none")
    rewards = torch.tensor([0.4, 0.7, 0.4, 0.0])
    expected = (rewards - rewards.mean()) * torch.tensor([0.0, 1.0, 1.0, 0.0])
    torch.testing.assert_close(advantages[:, 1], expected)


def test_equal_outcomes_do_not_pay_for_later_turns():
    advantages = advantages_of([0.5] * 4, [1, 1, 3, 3], [-1] * 4, absent_turns="zero")
    assert advantages.abs().max() == 0


def test_absent_evidence_of_additive_credit_is_0():
    # Outcomes are equal, so the advantages are those of the evidence: 1 in turn 1 against an absent turn.
    advantages = advantages_of([0.5, 0.5], [3, 1], [1, -1], absent_turns="zero", additive_credit=True, alpha=1.0)
    assert advantages[0, 1] == pytest.approx(0.7070, abs=1e-3)
