"""Metrics of a batch, compared with values computed by hand."""

import math
from dataclasses import replace

import pytest
import torch

from tspo_trl.search.statistics import SearchStatistics
from tspo_trl.trainer.metrics import credit_metrics, length_metrics, rollout_metrics, search_metrics
from tspo_trl.trajectory import Trajectory, Turn

NAN = math.nan


def metrics(outcomes, num_turns, first_hits, advantages, group_size=4):
    return credit_metrics(
        torch.tensor(outcomes),
        torch.tensor(num_turns),
        torch.tensor(first_hits),
        torch.tensor(advantages),
        group_size,
        1.0,
    )


def test_kinds_are_shares_of_the_scorable_rollouts():
    # Success with and without retrieval, near miss, two failures. The last three rollouts are unscorable.
    outcomes = [1.0, 1.0, 0.5, 0.0, 0.0, NAN, NAN, NAN]
    values = metrics(outcomes, [1] * 8, [0, -1, 0, -1, -1, 0, -1, -1], [[0.0]] * 8)
    assert values["tspo/complete_success"] == pytest.approx(1 / 5)
    assert values["tspo/success_without_retrieval"] == pytest.approx(1 / 5)
    assert values["tspo/near_miss"] == pytest.approx(1 / 5)
    assert values["tspo/complete_failure"] == pytest.approx(2 / 5)


def test_group_is_all_wrong_without_a_correct_rollout_but_not_without_a_scorable_one():
    outcomes = [1.0, 0.0, 0.0, 0.0] + [0.0, 0.0, 0.0, NAN] + [NAN] * 4 + [0.5] * 4
    values = metrics(outcomes, [1] * 16, [-1] * 16, [[0.0]] * 16)
    assert values["tspo/all_wrong_groups"] == 2 / 4


def test_signal_is_counted_for_these_advantages_and_for_grpos():
    # All wrong with an occurrence: signal for TSPO only. Mixed: signal for both. All right, all wrong: no signal.
    outcomes = [0.0] * 4 + [1.0, 0.0, 0.0, 0.0] + [1.0] * 4 + [0.0] * 4
    signal = [[1.5], [-0.5], [-0.5], [-0.5]]
    values = metrics(outcomes, [1] * 16, [0] + [-1] * 15, signal * 2 + [[0.0]] * 8)
    assert values["tspo/groups_without_signal"] == 2 / 4
    assert values["tspo/groups_without_signal_grpo"] == 3 / 4


def test_first_occurrence_turn_is_the_mean_over_rollouts_that_have_one():
    values = metrics([0.0] * 4, [3] * 4, [0, 2, 2, -1], [[0.0] * 3] * 4)
    assert values["tspo/first_occurrence_turn"] == pytest.approx(4 / 3)
    assert math.isnan(metrics([0.0] * 4, [1] * 4, [-1] * 4, [[0.0]] * 4)["tspo/first_occurrence_turn"])


def test_early_and_late_stopping_are_told_by_the_groups_mean_number_of_turns():
    # The mean is 2 turns: the first rollout stops early, the last late. Their advantages are means over their turns.
    advantages = [[3.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [-3.0, 0.0, -3.0]]
    values = metrics([0.0] * 4, [1, 2, 2, 3], [-1] * 4, advantages)
    assert values["tspo/advantage/early_stopping"] == pytest.approx(3.0)
    assert values["tspo/advantage/late_stopping"] == pytest.approx(-2.0)


def test_rollouts_are_counted_one_by_one():
    search = Turn(text="", token_span=(0, 1), action="search", content="x")
    invalid = Turn(text="", token_span=(1, 2), is_cut=True)
    answer = Turn(text="", token_span=(2, 3), action="answer", content="y")
    rollouts = [Trajectory((search, invalid, answer), "answered"), Trajectory((search, search), "max_length")]
    values = {name: counts.tolist() for name, counts in rollout_metrics(rollouts).items()}
    assert values["rollout/turns"] == [3, 2]
    assert values["rollout/searches"] == [1, 2]
    assert values["rollout/invalid_actions"] == [1, 0]
    assert values["rollout/cut_turns"] == [1, 0]
    assert values["rollout/end/answered"] == [1, 0]
    assert values["rollout/end/max_length"] == [0, 1]


def test_queries_are_counted_with_those_that_the_rollout_had_asked_before():
    both = Turn(text="", token_span=(0, 1), action="search", content="Paris\nRome", queries=("Paris", "Rome"))
    again = Turn(text="", token_span=(1, 2), action="search", content=" PARIS", queries=(" PARIS",))
    answer = Turn(text="", token_span=(2, 3), action="answer", content="Paris")
    rollouts = [
        Trajectory((both, again), "max_turns"),
        Trajectory((both, answer), "answered"),
        Trajectory((answer,), "answered"),
    ]
    values = rollout_metrics(rollouts)
    assert values["rollout/queries"].tolist() == [3, 2, 0]
    assert values["rollout/duplicate_queries"].tolist() == [1, 0, 0]


def test_terminated_lengths_are_those_of_completions_that_were_not_clipped():
    assert length_metrics(torch.tensor([10.0, 99.0, 40.0, 25.0]), torch.tensor([False, True, False, False])) == {
        "completions/mean_length": 43.5,
        "completions/min_length": 10.0,
        "completions/max_length": 99.0,
        "completions/clipped_ratio": 0.25,
        "completions/mean_terminated_length": 25.0,
        "completions/min_terminated_length": 10.0,
        "completions/max_terminated_length": 40.0,
    }


def test_terminated_lengths_are_0_where_every_completion_was_clipped():
    assert length_metrics(torch.tensor([99.0]), torch.tensor([True])) == {
        "completions/mean_length": 99.0,
        "completions/min_length": 99.0,
        "completions/max_length": 99.0,
        "completions/clipped_ratio": 1.0,
        "completions/mean_terminated_length": 0.0,
        "completions/min_terminated_length": 0.0,
        "completions/max_terminated_length": 0.0,
    }


ONE = SearchStatistics(queries=6, sent=4, cached=2, failed=1, empty=0, calls=2, seconds=0.8)
OTHER = SearchStatistics(queries=4, sent=2, cached=2, failed=0, empty=2, calls=2, seconds=0.2)


def test_searches_are_summed_over_processes_and_latency_is_per_call_of_the_retriever():
    counts = {"search/queries": 10, "search/sent": 6, "search/cached": 4, "search/failed": 1, "search/empty": 2}
    assert search_metrics([ONE, OTHER]) == counts | {"search/latency": 0.25}
    assert math.isnan(search_metrics([SearchStatistics()])["search/latency"])


def test_what_the_retriever_counts_is_a_metric_even_where_processes_count_different_things():
    one = replace(ONE, counters={"retries": 2, "failed": 9})
    other = replace(OTHER, counters={"retries": 1, "skipped": 3})
    values = search_metrics([one, other])
    assert (values["search/retries"], values["search/skipped"]) == (3, 3)
    assert values["search/failed"] == 1  # the loop's count


def test_a_cache_has_a_hit_rate():
    cached = replace(ONE, counters={"cache_hits": 3, "cache_misses": 1})
    assert search_metrics([cached])["search/cache_hit_rate"] == 0.75
    assert search_metrics([replace(ONE, counters={"cache_hits": 3})])["search/cache_hit_rate"] == 1.0
    idle = search_metrics([replace(ONE, counters={"cache_hits": 0, "cache_misses": 0})])
    assert math.isnan(idle["search/cache_hit_rate"])
