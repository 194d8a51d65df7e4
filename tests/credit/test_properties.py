"""Group advantages against a plain, slow reading of the method: any batch, every option, and real trajectories."""

import itertools
import json
import math
import random
import statistics
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tspo_trl.answers import normalize_answer
from tspo_trl.credit import first_occurrence, group_advantages, turn_rewards

DEFAULTS = {
    "alpha": 0.5,
    "credit": "first_occurrence",
    "turn_level_groups": "all_wrong",
    "turn_baseline": "same_turn",
    "absent_turns": "skip",
    "latent_in_mixed_groups": True,
    "scale_rewards": "group",
    "success_threshold": 1.0,
    "additive_credit": False,
}


# The plain reading: a rollout is (outcome, number of turns, first hit or None)


def plain_advantages(rollouts, group_size, **options):
    """Advantages as one list per rollout, by loops over groups, turns and rollouts, in double precision."""
    options = DEFAULTS | options
    if options["additive_credit"]:
        return plain_additive_advantages(rollouts, group_size, options)
    groups = [rollouts[start : start + group_size] for start in range(0, len(rollouts), group_size)]
    turn_level = [is_turn_level(group, options) for group in groups]
    scorable = [rollout for rollout in rollouts if not math.isnan(rollout[0])]
    all_trajectory_rewards = [trajectory_reward(rollout, options) for rollout in scorable]
    all_turn_rewards = [
        reward
        for group, by_turn in zip(groups, turn_level, strict=True)
        for rollout in group
        if by_turn and not math.isnan(rollout[0])
        for reward in rewards_of(rollout, options)
    ]
    rows = []
    for group, by_turn in zip(groups, turn_level, strict=True):
        if by_turn:
            rows += [turn_row(rollout, group, all_turn_rewards, options) for rollout in group]
        else:
            rows += [trajectory_row(rollout, group, all_trajectory_rewards, options) for rollout in group]
    return rows


def plain_additive_advantages(rollouts, group_size, options):
    scorable = [rollout for rollout in rollouts if not math.isnan(rollout[0])]
    all_outcomes = [outcome for outcome, _, _ in scorable]
    all_evidence = [reward for rollout in scorable for reward in evidence_of(rollout, options)]
    rows = []
    for i, (outcome, num_turns, hit) in enumerate(rollouts):
        if math.isnan(outcome):
            rows.append([0.0] * num_turns)
            continue
        start = i - i % group_size
        group = [other for other in rollouts[start : start + group_size] if not math.isnan(other[0])]
        row = [scaled(outcome, [other[0] for other in group], all_outcomes, options)] * num_turns
        others = [evidence_of(other, options) for other in group]
        for turn, reward in enumerate(evidence_of((outcome, num_turns, hit), options)):
            pool = turn_pool(turn, others, [0.0] * len(others), options)
            row[turn] += options["alpha"] * scaled(reward, pool, all_evidence, options)
        rows.append(row)
    return rows


def evidence_of(rollout, options):
    """Evidence rewards of the turns that are compared: all but the last of a rollout that found its evidence."""
    _, num_turns, hit = rollout
    if hit is None:
        return [0.0] * num_turns
    first_rewarded = hit if options["credit"] == "first_occurrence" else 0
    return [float(first_rewarded <= turn <= hit) for turn in range(num_turns - 1)]


def is_turn_level(group, options):
    if options["turn_level_groups"] != "all_wrong":
        return options["turn_level_groups"] == "always"
    outcomes = [outcome for outcome, _, _ in group if not math.isnan(outcome)]
    return bool(outcomes) and all(outcome < options["success_threshold"] for outcome in outcomes)


def rewards_of(rollout, options):
    outcome, num_turns, hit = rollout
    rewards = [outcome] * num_turns
    if outcome < options["success_threshold"] and hit is not None:
        latent = max(0.0, min(options["alpha"], options["success_threshold"] - 0.01 - outcome))
        for turn in [hit] if options["credit"] == "first_occurrence" else range(hit + 1):
            rewards[turn] += latent
    return rewards


def trajectory_reward(rollout, options):
    return max(rewards_of(rollout, options)) if options["latent_in_mixed_groups"] else rollout[0]


def trajectory_row(rollout, group, batch, options):
    outcome, num_turns, _ = rollout
    if math.isnan(outcome):
        return [0.0] * num_turns
    pool = [trajectory_reward(other, options) for other in group if not math.isnan(other[0])]
    return [scaled(trajectory_reward(rollout, options), pool, batch, options)] * num_turns


def turn_row(rollout, group, batch, options):
    outcome, num_turns, _ = rollout
    if math.isnan(outcome):
        return [0.0] * num_turns
    scorable = [other for other in group if not math.isnan(other[0])]
    others, absent = [rewards_of(other, options) for other in scorable], [other[0] for other in scorable]
    pools = [turn_pool(turn, others, absent, options) for turn in range(num_turns)]
    rewards = rewards_of(rollout, options)
    return [scaled(reward, pool, batch, options) for reward, pool in zip(rewards, pools, strict=True)]


def turn_pool(turn, others, absent, options):
    if options["turn_baseline"] == "all_turns":
        return list(itertools.chain(*others))
    if options["absent_turns"] == "zero":
        pairs = zip(others, absent, strict=True)
        return [rewards[turn] if turn < len(rewards) else instead for rewards, instead in pairs]
    return [rewards[turn] for rewards in others if turn < len(rewards)]


def scaled(value, pool, batch, options):
    if len(pool) < 2:
        return 0.0
    deviation = value - statistics.fmean(pool)
    if options["scale_rewards"] == "none":
        return deviation
    values = pool if options["scale_rewards"] == "group" else batch
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    return deviation / (std + 1e-4) if std > 0 else 0.0


def advantages_of(rollouts, group_size, **options):
    outcomes, num_turns, hits = zip(*rollouts, strict=True)
    return group_advantages(
        torch.tensor(outcomes, dtype=torch.float32),
        torch.tensor(num_turns),
        torch.tensor([-1 if hit is None else hit for hit in hits]),
        group_size,
        **options,
    )


def padded(rows):
    """Rows of unequal length as a float32 tensor, filled up with 0."""
    width = max(map(len, rows))
    return torch.tensor([row + [0.0] * (width - len(row)) for row in rows], dtype=torch.float32)


def assert_equal(advantages, expected):
    torch.testing.assert_close(advantages, expected, atol=2e-5, rtol=1e-4)


# Batches and options


@st.composite
def rollouts(draw, outcomes=(0.0, 0.0, 0.0, 0.25, 1.0, math.nan)):
    num_turns = draw(st.integers(1, 4))
    hit = draw(st.none() | st.integers(0, num_turns - 1))
    return draw(st.sampled_from(outcomes)), num_turns, hit


@st.composite
def batches(draw, **kwargs):
    group_size = draw(st.integers(2, 6))
    num_rollouts = group_size * draw(st.integers(1, 4))
    return draw(st.lists(rollouts(**kwargs), min_size=num_rollouts, max_size=num_rollouts)), group_size


all_wrong_batches = batches(outcomes=(0.0,))

options = st.fixed_dictionaries(
    {
        "alpha": st.sampled_from([0.0, 0.25, 0.5, 2.0]),
        "credit": st.sampled_from(["first_occurrence", "prefix"]),
        "turn_level_groups": st.sampled_from(["all_wrong", "always", "never"]),
        "turn_baseline": st.sampled_from(["same_turn", "all_turns"]),
        "absent_turns": st.sampled_from(["skip", "zero"]),
        "latent_in_mixed_groups": st.booleans(),
        "scale_rewards": st.sampled_from(["group", "batch", "none"]),
        "success_threshold": st.sampled_from([0.25, 1.0, 2.0]),
        "additive_credit": st.booleans(),
    }
)


# Properties


@settings(max_examples=500, deadline=None)
@given(batches(), options)
def test_advantages_are_those_of_the_plain_reading(batch, options):
    assert_equal(advantages_of(*batch, **options), padded(plain_advantages(*batch, **options)))


@given(rollouts(), options)
def test_turn_rewards_are_those_of_the_plain_reading(rollout, options):
    names = ("alpha", "credit", "success_threshold")
    rewards = turn_rewards(*rollout, **{name: options[name] for name in names})
    assert rewards == pytest.approx(rewards_of(rollout, options), nan_ok=True)


@given(batches(), options, st.randoms(use_true_random=False))
def test_permuting_the_rollouts_of_a_group_permutes_their_advantages(batch, options, randomness):
    rollouts, group_size = batch
    order = []
    for start in range(0, len(rollouts), group_size):
        order += randomness.sample(range(start, start + group_size), group_size)
    permuted = advantages_of([rollouts[i] for i in order], group_size, **options)
    assert_equal(permuted, advantages_of(*batch, **options)[order])


@given(batches(), batches(), options.filter(lambda options: options["scale_rewards"] != "batch"))
def test_groups_do_not_see_each_other_unless_scaled_by_the_batch(batch, other, options):
    rollouts, group_size = batch
    others = (other[0] * group_size)[: group_size * 2]
    together = advantages_of(rollouts + others, group_size, **options)
    alone = advantages_of(rollouts, group_size, **options)
    assert_equal(together[: len(rollouts), : alone.shape[1]], alone)


@given(batches(), options)
def test_an_unscorable_rollout_counts_like_one_that_is_not_there(batch, options):
    rollouts, group_size = batch
    group = rollouts[:group_size]
    with_unscorable = advantages_of([*group, (math.nan, 2, 0)], group_size + 1, **options)
    assert with_unscorable[-1].count_nonzero() == 0
    without = advantages_of(group, group_size, **options)
    assert_equal(with_unscorable[:-1, : without.shape[1]], without)


@given(batches(), options)
def test_there_is_no_advantage_past_the_last_turn(batch, options):
    advantages = advantages_of(*batch, **options)
    assert advantages.shape == (len(batch[0]), max(num_turns for _, num_turns, _ in batch[0]))
    for row, (_, num_turns, _) in zip(advantages, batch[0], strict=True):
        assert row[num_turns:].count_nonzero() == 0


@given(all_wrong_batches)
def test_turn_level_advantages_of_a_turn_sum_to_zero_over_the_group(batch):
    rollouts, group_size = batch
    sums = advantages_of(*batch).view(-1, group_size, max(turns for _, turns, _ in rollouts)).sum(dim=1)
    assert_equal(sums, torch.zeros_like(sums))


@given(batches(), st.sampled_from(["group", "batch", "none"]))
def test_trajectory_level_advantages_sum_to_zero_over_the_group(batch, scale_rewards):
    advantages = advantages_of(*batch, turn_level_groups="never", scale_rewards=scale_rewards)
    sums = advantages[:, 0].view(-1, batch[1]).sum(dim=1)
    assert_equal(sums, torch.zeros_like(sums))


@given(all_wrong_batches, options)
def test_alpha_cancels_in_all_wrong_groups_scaled_by_their_deviation(batch, options):
    options["scale_rewards"] = "group"
    options["latent_in_mixed_groups"] = True
    options["additive_credit"] = False
    small, large = (advantages_of(*batch, **{**options, "alpha": alpha}) for alpha in (0.5, 2.0))
    torch.testing.assert_close(small, large, atol=0, rtol=2e-3)  # all that is left is the epsilon beside the deviation


@given(all_wrong_batches)
def test_alpha_is_a_factor_where_nothing_divides(batch):
    one, four = (advantages_of(*batch, alpha=alpha, scale_rewards="none") for alpha in (0.125, 0.5))
    assert_equal(one * 4, four)


@given(batches(outcomes=(0.0, 0.25, math.nan)), st.sampled_from(["group", "batch", "none"]))
def test_adding_a_constant_to_every_outcome_changes_nothing_while_all_stay_wrong(batch, scale_rewards):
    rollouts, group_size = batch
    shifted = [(outcome + 0.125, num_turns, hit) for outcome, num_turns, hit in rollouts]
    moved = advantages_of(shifted, group_size, scale_rewards=scale_rewards)
    assert_equal(moved, advantages_of(rollouts, group_size, scale_rewards=scale_rewards))


@given(batches())
def test_without_alpha_and_turn_level_every_turn_has_the_advantage_of_its_trajectory(batch):
    advantages = advantages_of(*batch, alpha=0, turn_level_groups="never")
    for row, (_, num_turns, _) in zip(advantages, batch[0], strict=True):
        assert (row[:num_turns] == row[0]).all()


# Real trajectories


TRAJECTORIES = Path(__file__).parents[3] / "shared" / "data" / "trajectories"


@pytest.fixture(params=["hotpotqa_qwen2.5-7b", "2wikimultihopqa_qwen2.5-7b"], scope="module")
def trajectories(request):
    path = TRAJECTORIES / f"{request.param}.jsonl"
    if not path.exists():
        pytest.skip(f"no real trajectories: {path} is absent")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def plain_first_occurrence(trajectory):
    """Slides every gold answer over the tokens of every feedback."""
    golds = [normalize_answer(gold).split() for gold in trajectory["golden_answers"]]
    for index, turn in enumerate(trajectory["turns"]):
        tokens = normalize_answer(turn["feedback"] or "").split()
        for gold in golds:
            evidence = gold and " ".join(gold) not in {"yes", "no", "noanswer", "no answer"}
            if evidence and any(tokens[i : i + len(gold)] == gold for i in range(len(tokens))):
                return index
    return None


def hit_of(trajectory):
    return first_occurrence([turn["feedback"] for turn in trajectory["turns"]], trajectory["golden_answers"])


def test_first_occurrence_in_real_trajectories_is_that_of_the_plain_reading(trajectories):
    hits = [hit_of(trajectory) for trajectory in trajectories]
    assert hits == [plain_first_occurrence(trajectory) for trajectory in trajectories]
    assert None in hits
    assert len(set(hits)) > 2


def test_near_misses_are_most_of_the_failures_in_real_trajectories(trajectories):
    failures = [trajectory for trajectory in trajectories if not trajectory["em"]]
    near_misses = [trajectory for trajectory in failures if hit_of(trajectory) is not None]
    assert len(near_misses) > len(failures) / 2


@pytest.mark.parametrize("group_size", [2, 5, 10])
def test_advantages_of_real_trajectories_are_those_of_the_plain_reading(trajectories, group_size):
    rollouts = [(float(trajectory["em"]), len(trajectory["turns"]), hit_of(trajectory)) for trajectory in trajectories]
    random.Random(0).shuffle(rollouts)
    for turn_level_groups in ("all_wrong", "always", "never"):
        options = {"turn_level_groups": turn_level_groups}
        expected = padded(plain_advantages(rollouts, group_size, **options))
        assert_equal(advantages_of(rollouts, group_size, **options), expected)
