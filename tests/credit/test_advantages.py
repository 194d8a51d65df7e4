"""Group-relative advantages: examples of the method and of each option, computed by hand."""

import math

import pytest
import torch
from trl.trainer.utils import nanstd

from tspo_trl.credit import (
    all_wrong_groups,
    group_advantages,
    groups_with_signal,
    near_misses,
)

NAN = math.nan


def advantages_of(outcomes, num_turns, first_hits, group_size=4, **options):
    return group_advantages(
        torch.tensor(outcomes, dtype=torch.float32),
        torch.tensor(num_turns),
        torch.tensor(first_hits),
        group_size,
        **options,
    )


def assert_rows(advantages, rows):
    """Compare with rows that are rounded to four decimals."""
    torch.testing.assert_close(advantages, torch.tensor(rows), atol=6e-5, rtol=0)


# The method


def test_one_near_miss_in_an_all_wrong_group_is_credited_in_the_turn_of_its_hit():
    advantages = advantages_of([0, 0, 0, 0], [2, 2, 2, 2], [0, -1, -1, -1])
    assert_rows(advantages, [[1.4994, 0.0], [-0.4998, 0.0], [-0.4998, 0.0], [-0.4998, 0.0]])


def test_two_near_misses_are_credited_each_in_its_own_turn():
    advantages = advantages_of([0, 0, 0, 0], [3, 3, 3, 3], [0, 1, -1, -1])
    rows = [[1.4994, -0.4998, 0.0], [-0.4998, 1.4994, 0.0], [-0.4998, -0.4998, 0.0], [-0.4998, -0.4998, 0.0]]
    assert_rows(advantages, rows)


def test_a_group_with_a_correct_rollout_is_credited_by_trajectory():
    advantages = advantages_of([1, 0, 0, 0], [2, 2, 3, 1], [0, 0, -1, -1])
    rows = [[1.3053, 1.3053, 0.0], [0.2611, 0.2611, 0.0], [-0.7832, -0.7832, -0.7832], [-0.7832, 0.0, 0.0]]
    assert_rows(advantages, rows)


def test_an_all_correct_group_has_no_advantages():
    assert advantages_of([1, 1, 1, 1], [2, 3, 1, 2], [0, 2, -1, 1]).count_nonzero() == 0


# Options, one by one


def test_prefix_credit_rewards_the_turns_up_to_the_hit():
    options = {"outcomes": [0, 0, 0, 0], "num_turns": [3, 3, 3, 3], "first_hits": [1, -1, -1, -1]}
    assert_rows(advantages_of(**options)[0], [0.0, 1.4994, 0.0])
    assert_rows(advantages_of(**options, credit="prefix")[0], [1.4994, 1.4994, 0.0])


def test_never_at_turn_level_spreads_the_latent_reward_over_the_trajectory():
    advantages = advantages_of([0, 0, 0, 0], [2, 1, 1, 1], [0, -1, -1, -1], turn_level_groups="never")
    assert_rows(advantages, [[1.4994, 1.4994], [-0.4998, 0.0], [-0.4998, 0.0], [-0.4998, 0.0]])


def test_never_at_turn_level_and_no_latent_reward_leaves_an_all_wrong_group_without_signal():
    advantages = advantages_of(
        [0, 0, 0, 0], [2, 1, 1, 1], [0, -1, -1, -1], turn_level_groups="never", latent_in_mixed_groups=False
    )
    assert advantages.count_nonzero() == 0


def test_always_at_turn_level_compares_turns_of_mixed_groups_too():
    # Turn 0: 1, .5, 0, 0. Turn 1: 1, 0, 0 of the three rollouts that reach it. Turn 2: one rollout, no baseline.
    advantages = advantages_of([1, 0, 0, 0], [2, 2, 3, 1], [0, 0, -1, -1], turn_level_groups="always")
    assert_rows(advantages, [[1.3053, 1.1545, 0.0], [0.2611, -0.5773, 0.0], [-0.7832, -0.5773, 0.0], [-0.7832, 0, 0]])


def test_without_latent_reward_in_mixed_groups_they_are_credited_by_outcome():
    options = {"outcomes": [1, 0, 0, 0], "num_turns": [1, 1, 1, 1], "first_hits": [0, 0, -1, -1]}
    advantages = advantages_of(**options, latent_in_mixed_groups=False)
    assert_rows(advantages, [[1.4997], [-0.4999], [-0.4999], [-0.4999]])


def test_latent_in_mixed_groups_does_not_touch_all_wrong_groups():
    options = {"outcomes": [0, 0, 0, 0], "num_turns": [2, 2, 2, 2], "first_hits": [0, 1, -1, -1]}
    assert torch.equal(advantages_of(**options), advantages_of(**options, latent_in_mixed_groups=False))


def test_absent_turns_are_left_out_of_the_baseline_or_count_as_zero():
    options = {"outcomes": [0, 0, 0, 0], "num_turns": [2, 2, 1, 1], "first_hits": [1, -1, -1, -1]}
    assert_rows(advantages_of(**options), [[0.0, 0.7069], [0.0, -0.7069], [0.0, 0.0], [0.0, 0.0]])
    rows = [[0.0, 1.4994], [0.0, -0.4998], [0.0, 0.0], [0.0, 0.0]]
    assert_rows(advantages_of(**options, absent_turns="zero"), rows)


def test_a_turn_that_one_rollout_reaches_alone_has_a_baseline_only_if_absent_turns_count():
    options = {"outcomes": [0, 0, 0, 0], "num_turns": [2, 1, 1, 1], "first_hits": [1, -1, -1, -1]}
    assert_rows(advantages_of(**options)[0], [0.0, 0.0])
    assert_rows(advantages_of(**options, absent_turns="zero")[0], [0.0, 1.4994])


def test_the_baseline_of_all_turns_pools_the_turns_of_the_group():
    # Turn rewards: (0, .5), (0), (0), (0, 0): mean 1/12, standard deviation .2041.
    options = {"outcomes": [0, 0, 0, 0], "num_turns": [2, 1, 1, 2], "first_hits": [1, -1, -1, -1]}
    rows = [[-0.4080, 2.0402], [-0.4080, 0.0], [-0.4080, 0.0], [-0.4080, -0.4080]]
    assert_rows(advantages_of(**options, turn_baseline="all_turns"), rows)
    # `absent_turns` has no effect with this baseline.
    assert_rows(advantages_of(**options, turn_baseline="all_turns", absent_turns="zero"), rows)


def test_the_baseline_of_all_turns_needs_two_turns_not_two_rollouts():
    options = {"num_turns": [2, 2], "first_hits": [1, -1], "group_size": 2, "turn_baseline": "all_turns"}
    assert_rows(advantages_of([0, NAN], **options), [[-0.7069, 0.7069], [0.0, 0.0]])


# Groups of two, one turn each: mixed, all wrong with one near miss, all wrong with two.
THREE_GROUPS = {
    "outcomes": [1, 0, 0, 0, 0, 0],
    "num_turns": [1, 1, 1, 1, 1, 1],
    "first_hits": [-1, -1, 0, -1, 0, 0],
    "group_size": 2,
}


def test_group_scaling_takes_each_group_for_itself():
    assert_rows(advantages_of(**THREE_GROUPS), [[0.7070], [-0.7070], [0.7069], [-0.7069], [0.0], [0.0]])


def test_batch_scaling_takes_the_deviation_of_all_trajectories_or_of_all_turns_at_turn_level():
    # Trajectory rewards 1, 0, .5, 0, .5, .5: deviation .3764. Turn rewards .5, 0, .5, .5: deviation .25.
    rows = [[1.3281], [-1.3281], [0.9996], [-0.9996], [0.0], [0.0]]
    assert_rows(advantages_of(**THREE_GROUPS, scale_rewards="batch"), rows)


def test_batch_scaling_at_turn_level_counts_no_absent_turns():
    # Turn rewards .5, 0 | 0: deviation .2887. With the two absent turns as zeros it would be .25.
    options = {
        "outcomes": [0, 0],
        "num_turns": [2, 1],
        "first_hits": [0, -1],
        "group_size": 2,
        "scale_rewards": "batch",
    }
    assert_rows(advantages_of(**options, absent_turns="zero"), [[0.8657, 0.0], [-0.8657, 0.0]])


def test_a_batch_without_deviation_has_no_advantages_even_where_absent_turns_count_as_zero():
    # Turn 1 has .25 and an absent turn, but every turn reward of the batch is .25.
    options = {"scale_rewards": "batch", "absent_turns": "zero"}
    assert advantages_of([0.25, 0.25], [2, 1], [-1, -1], 2, **options).count_nonzero() == 0


def test_without_scaling_advantages_are_deviations_from_the_mean():
    options = {"num_turns": [1, 1, 1, 1], "first_hits": [0, 0, -1, -1], "scale_rewards": "none"}
    assert_rows(advantages_of([1, 0, 0, 0], **options), [[0.625], [0.125], [-0.375], [-0.375]])
    assert_rows(advantages_of([0, 0, 0, 0], **options), [[0.25], [0.25], [-0.25], [-0.25]])


@pytest.mark.parametrize(("spelling", "meaning"), [(True, "group"), (False, "none")])
def test_scale_rewards_takes_booleans_as_trl_does(spelling, meaning):
    arguments = ([1, 0, 0, 0], [1, 1, 1, 1], [0, 0, -1, -1])
    assert torch.equal(
        advantages_of(*arguments, scale_rewards=spelling), advantages_of(*arguments, scale_rewards=meaning)
    )


def test_partial_outcomes_below_the_threshold_count_and_get_the_latent_reward_on_top():
    # All wrong. Turn 0: .25 + .5, .25, 0, 0.
    advantages = advantages_of([0.25, 0.25, 0, 0], [1, 1, 1, 1], [0, -1, -1, -1])
    assert_rows(advantages, [[1.4138], [0.0], [-0.7069], [-0.7069]])


def test_the_success_threshold_decides_which_groups_are_all_wrong():
    options = {"outcomes": [0.25, 0.25, 0, 0], "num_turns": [2, 2, 2, 2], "first_hits": [-1, -1, 0, -1]}
    # Correct from .25 on: a mixed group, R = .25, .25, .24, 0 on both turns.
    rows = [[0.5262, 0.5262], [0.5262, 0.5262], [0.4453, 0.4453], [-1.4977, -1.4977]]
    assert_rows(advantages_of(**options, success_threshold=0.25), rows)
    # All wrong by default: turn 0 has .25, .25, .5, 0 and turn 1 has .25, .25, 0, 0.
    rows = [[0.0, 0.8654], [0.0, 0.8654], [1.2241, -0.8654], [-1.2241, -0.8654]]
    assert_rows(advantages_of(**options), rows)


def test_alpha_is_the_size_of_the_latent_reward():
    options = {"num_turns": [1, 1, 1, 1], "first_hits": [0, -1, -1, -1], "scale_rewards": "none"}
    assert_rows(advantages_of([0, 0, 0, 0], **options, alpha=0.2), [[0.15], [-0.05], [-0.05], [-0.05]])


# Groups without signal


def test_near_misses_that_all_hit_in_the_same_turn_carry_no_signal():
    assert advantages_of([0, 0, 0, 0], [2, 2, 2, 2], [1, 1, 1, 1]).count_nonzero() == 0


def test_near_misses_that_hit_in_different_turns_carry_signal_at_turn_level_only():
    arguments = ([0, 0, 0, 0], [2, 2, 2, 2], [0, 1, 1, 1])
    assert_rows(advantages_of(*arguments)[0], [1.4994, -1.4994])
    assert advantages_of(*arguments, turn_level_groups="never").count_nonzero() == 0


@pytest.mark.parametrize("outcome", [0.1, 3333.3])
@pytest.mark.parametrize("scale_rewards", ["group", "batch", "none"])
def test_rewards_that_differ_by_rounding_only_give_exactly_zero(scale_rewards, outcome):
    outcomes = [outcome] * 7
    assert nanstd(torch.tensor(outcomes)) > 0  # in float32 their mean differs slightly from their value
    advantages = advantages_of(outcomes, [1] * 7, [-1] * 7, 7, turn_level_groups="never", scale_rewards=scale_rewards)
    assert advantages.count_nonzero() == 0


def test_small_but_real_differences_keep_their_signal():
    assert groups_with_signal(advantages_of([0.0, 1e-5], [1, 1], [-1, -1], 2), 2).all()


def test_a_group_of_one_has_no_advantage():
    options = {"turn_level_groups": "always", "turn_baseline": "all_turns"}
    assert advantages_of([0, 1], [2, 2], [0, -1], 1, **options).count_nonzero() == 0


# Unscorable rollouts


def test_an_unscorable_rollout_gets_nothing_and_counts_nowhere():
    with_nan = advantages_of([0, NAN, 0, 0], [2, 2, 2, 2], [0, 0, -1, -1])
    assert_rows(with_nan, [[1.1543, 0.0], [0.0, 0.0], [-0.5771, 0.0], [-0.5771, 0.0]])


def test_unscorable_rollouts_do_not_make_a_group_all_wrong_or_mixed():
    # The rest of the group is correct: trajectory level, no variance.
    assert advantages_of([1, NAN, 1, NAN], [2, 2, 2, 2], [0, 0, -1, 0]).count_nonzero() == 0


@pytest.mark.parametrize("absent_turns", ["skip", "zero"])
def test_one_scorable_rollout_has_no_baseline(absent_turns):
    advantages = advantages_of([0, NAN, NAN, NAN], [2, 2, 2, 2], [0, 0, 0, 0], absent_turns=absent_turns)
    assert advantages.count_nonzero() == 0


@pytest.mark.parametrize("scale_rewards", ["group", "batch", "none"])
def test_a_group_that_is_unscorable_altogether_has_no_advantages_and_harms_no_other(scale_rewards):
    advantages = advantages_of([NAN, NAN, 0, 0], [1, 1, 1, 1], [0, -1, 0, -1], 2, scale_rewards=scale_rewards)
    assert advantages[:2].count_nonzero() == 0
    assert advantages[2] > 0 > advantages[3]


# Off is GRPO


def trl_advantages(rewards, group_size, scale_rewards):
    """The advantages of TRL's GRPOTrainer for rewards (N,) of one reward function."""
    mean = torch.nanmean(rewards.view(-1, group_size), dim=1).repeat_interleave(group_size, dim=0)
    if scale_rewards == "batch":
        std = nanstd(rewards).expand_as(rewards)
    else:
        std = nanstd(rewards.view(-1, group_size), dim=1).repeat_interleave(group_size, dim=0)
    advantages = rewards - mean
    return torch.nan_to_num(advantages if scale_rewards == "none" else advantages / (std + 1e-4), nan=0.0)


@pytest.mark.parametrize("scale_rewards", ["group", "batch", "none"])
@pytest.mark.parametrize("group_size", [2, 3, 5, 8, 16])
@pytest.mark.parametrize("share_of_nan", [0.0, 0.3])
def test_without_latent_reward_and_turn_level_the_advantages_are_those_of_trl_to_the_bit(
    scale_rewards, group_size, share_of_nan
):
    generator = torch.Generator().manual_seed(group_size)
    rewards = torch.randn(64 * group_size, generator=generator) * 3
    rewards[torch.rand(len(rewards), generator=generator) < share_of_nan] = NAN
    num_turns = torch.randint(1, 5, rewards.shape, generator=generator)
    advantages = group_advantages(
        rewards, num_turns, num_turns - 1, group_size, alpha=0, turn_level_groups="never", scale_rewards=scale_rewards
    )
    expected = trl_advantages(rewards, group_size, scale_rewards)
    exists = torch.arange(4) < num_turns.unsqueeze(1)
    assert torch.equal(advantages, expected.unsqueeze(1) * exists)


# Shapes and types


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_advantages_are_float32_whatever_the_outcomes_are(dtype):
    advantages = group_advantages(
        torch.tensor([0, 0], dtype=dtype), torch.tensor([3, 1]), torch.tensor([0, -1], dtype=torch.int32), 2
    )
    assert advantages.dtype == torch.float32
    assert advantages.shape == (2, 3)


def test_the_arguments_are_left_as_they_were():
    outcomes, num_turns, first_hits = torch.tensor([0.0, NAN]), torch.tensor([2, 1]), torch.tensor([1, -1])
    group_advantages(outcomes, num_turns, first_hits, 2, absent_turns="zero")
    assert outcomes[0] == 0
    assert outcomes[1].isnan()
    assert num_turns.tolist() == [2, 1]
    assert first_hits.tolist() == [1, -1]


# What the metrics count


def test_near_misses_are_wrong_scorable_rollouts_with_a_hit():
    outcomes, first_hits = torch.tensor([0.0, 0.0, 1.0, NAN, 0.5]), torch.tensor([0, -1, 0, 0, 2])
    assert near_misses(outcomes, first_hits).tolist() == [True, False, False, False, True]
    assert near_misses(outcomes, first_hits, success_threshold=0.5).tolist() == [True, False, False, False, False]


def test_all_wrong_groups_have_a_scorable_rollout_and_no_correct_one():
    outcomes = torch.tensor([0, 0, 0, 1, 0, NAN, 1, NAN, NAN, NAN, 0.5, 0])
    assert all_wrong_groups(outcomes, 2).tolist() == [True, False, True, False, False, True]
    assert all_wrong_groups(outcomes, 2, success_threshold=0.5).tolist() == [True, False, True, False, False, False]


def test_groups_with_signal_have_an_advantage_that_moves_something():
    advantages = torch.tensor([[0.0, 0.0], [0.0, -0.1], [0.0, 0.0], [0.0, 0.0], [1e-7, 0.0], [0.0, 0.0]])
    assert groups_with_signal(advantages, 2).tolist() == [True, False, False]
