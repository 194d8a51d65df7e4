"""The rows of published numbers."""

import pytest

from tspo_trl.data import BENCHMARKS
from tspo_trl.evaluation.published import PUBLISHED, published_rows


def test_all_rows_have_seven_numbers_and_a_source():
    assert len(PUBLISHED) == 8
    for result in PUBLISHED:
        assert len(result.exact_match) == len(BENCHMARKS)
        assert result.source


def test_published_averages_are_those_of_their_rows():
    for result in PUBLISHED:
        # The published average of StepSearch is 0.382, that of its seven numbers 0.3837.
        average = 0.3837 if result.name == "StepSearch 7B" else result.average
        assert average == pytest.approx(sum(result.exact_match) / 7, abs=0.001), result.name


def test_only_evaluated_datasets_are_shown_and_no_average():
    row = published_rows(["bamboogle", "nq", "own"])[0]
    assert row["name"] == "Search-R1 3B base, GRPO"
    assert row["exact_match"] == {"nq": 0.421, "bamboogle": 0.128}
    assert row["average"] is None


def test_average_is_shown_where_all_seven_were_evaluated():
    rows = published_rows([*BENCHMARKS, "own"])
    assert [row["average"] for row in rows] == [0.312, 0.336, 0.431, 0.396, 0.382, 0.391, 0.425, 0.421]
    assert list(rows[0]["exact_match"]) == list(BENCHMARKS)


def test_there_is_nothing_to_show_beside_other_datasets():
    assert published_rows(["own"]) == []
