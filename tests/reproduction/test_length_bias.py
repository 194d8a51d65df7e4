"""Credit for stopping: tiny groups by hand, and worlds with a known answer."""

import pytest
import torch

from benchmarks.reproduction.length_bias import (
    GROUP_SIZE,
    MAX_TURNS,
    Rollouts,
    evidence_rollouts,
    first_search_rollouts,
    measure,
    measure_variants,
    noise_rollouts,
    table,
)

TSPO, TRAJECTORY_LEVEL = "tspo (first_occurrence, same_turn, skip)", "turn_level_groups=never (trajectory level)"


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def measured():
    """
    Two equal groups. Rollout 1 finds the evidence with its search and stops. Rollout 2 finds it and searches once
    more. The others stop at once.
    """
    num_turns = torch.tensor([1, 2, 3, 1, 1, 1, 1, 1])
    first_hits = torch.tensor([-1, 0, 0, -1, -1, -1, -1, -1])
    advantages = torch.zeros(GROUP_SIZE, MAX_TURNS)
    advantages[0, 0], advantages[1, 1], advantages[2, 1] = 1.0, 2.0, 0.5
    rollouts = Rollouts(num_turns.repeat(2), first_hits.repeat(2), first_decision=0)
    return measure(advantages.repeat(2, 1), rollouts)


def test_stopping_is_compared_with_searching_in_the_same_state():
    got = measured()
    assert got["not_found"]["stop_minus_search"] == pytest.approx(1 / 6)  # six stops sum to 1, two searches to 0
    assert got["found"]["stop_minus_search"] == pytest.approx(0.5)  # stops with 2 and 0, a search with 0.5
    assert got["all"]["stop_minus_search"] == pytest.approx(3 / 8 - 0.5 / 3)


def test_stopping_is_compared_with_searching_turn_by_turn():
    assert measured()["found"]["by_turn"] == [None, 1.5, None, None, None]


def test_gradient_weighs_advantages_with_the_score_of_stopping():
    got = measured()
    assert got["not_found"]["gradient"] == pytest.approx(0.7 / 8)
    assert got["found"]["gradient"] == pytest.approx((2 * 0.7 - 0.5 * 0.3) / 8)
    assert got["all"]["gradient"] == pytest.approx((0.7 + 1.4 - 0.15) / 8)
    assert got["all"]["gradient_standard_error"] == 0.0  # the two groups are equal


def test_forced_turns_are_no_decisions():
    rollouts = Rollouts(torch.full((16,), MAX_TURNS), torch.full((16,), -1), first_decision=MAX_TURNS - 1)
    assert measure(torch.ones(16, MAX_TURNS), rollouts)["all"]["gradient"] == 0.0


@pytest.mark.parametrize("sample", [evidence_rollouts, noise_rollouts, first_search_rollouts])
def test_evidence_is_found_by_a_search(sample):
    rollouts = sample(4000)
    assert ((rollouts.first_hits >= -1) & (rollouts.first_hits < rollouts.num_turns - 1)).all()
    assert rollouts.num_turns.min() == 1 + rollouts.first_decision
    assert rollouts.num_turns.max() == MAX_TURNS


def test_evidence_is_found_with_its_probability():
    rollouts = evidence_rollouts(40_000)
    searched = rollouts.num_turns > 1
    assert searched.float().mean() == pytest.approx(0.7, abs=0.01)
    assert (rollouts.first_hits == 0)[searched].float().mean() == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("sample", [noise_rollouts, first_search_rollouts])
def test_half_find_what_searching_on_does_not_change(sample):
    rollouts = sample(40_000)
    for turns in (2, MAX_TURNS):
        found = (rollouts.first_hits >= 0)[rollouts.num_turns == turns]
        assert found.float().mean() == pytest.approx(0.5, abs=0.02)


def test_trajectory_level_credit_pays_searching_only_where_it_finds():
    evidence = measure_variants(evidence_rollouts(16_000))[TRAJECTORY_LEVEL]
    noise = measure_variants(noise_rollouts(16_000))[TRAJECTORY_LEVEL]["all"]
    assert evidence["not_found"]["gradient"] < -0.3
    for nothing in (evidence["found"], noise):
        assert abs(nothing["gradient"]) < 4 * nothing["gradient_standard_error"]


def test_turn_level_credit_pays_random_evidence_for_searching_and_a_settled_search_nothing():
    noise = measure_variants(noise_rollouts(16_000))[TSPO]["all"]
    settled = measure_variants(first_search_rollouts(16_000))[TSPO]["all"]
    assert noise["gradient"] < -0.1
    assert settled["gradient"] == 0.0


def test_table_has_a_row_for_each_variant():
    results = {"one": measured()}
    assert table(results, ("found",)).splitlines() == [
        "| credit | found: stop - search | found: gradient |",
        "|---|---|---|",
        "| one | +0.500 | +0.1562 ± 0.0000 |",
    ]
