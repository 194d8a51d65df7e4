"""A paired comparison of two evaluations."""

import io

import numpy as np
import pytest
from rich.console import Console

from tspo_trl.evaluation.compare import compare, print_comparison, settings_differences
from tspo_trl.trainer.scores import SCORES

from .answer_lines import line, write_evaluation


def evaluation(folder, exact_match, *, data_source="nq", settings=None):
    """The folder of an evaluation with the given exact match of each question, by id."""
    lines = [line(id, score, data_source=data_source) for id, score in exact_match.items()]
    return write_evaluation(folder, *lines, settings=settings)


def printed(comparison):
    out = io.StringIO()
    print_comparison(Console(file=out, width=80), comparison)
    return out.getvalue()


@pytest.fixture
def pair(tmp_path):
    """A answers 3 of 8 questions right, and B answers 5: two in both, one only in A, three only in B."""
    a = evaluation(tmp_path / "a", dict(zip("abcdefgh", [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0], strict=True)))
    b = evaluation(tmp_path / "b", dict(zip("hgfedcba", [0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0], strict=True)))
    return a, b


def test_difference_is_b_minus_a(pair):
    row = compare(*pair)["datasets"]["nq"]["exact_match"]
    assert (row["a"], row["b"], row["difference"]) == (3 / 8, 5 / 8, 2 / 8)
    assert row["low"] < 0 < row["high"]
    assert row["p_value"] > 0.05


def test_questions_are_paired_by_id_and_counted_where_only_one_is_right(pair):
    row = compare(*pair)["datasets"]["nq"]
    assert (row["n"], row["only_a_right"], row["only_b_right"]) == (8, 1, 3)
    assert row["mcnemar_p_value"] == pytest.approx(0.625)  # 2 * (C(4,0) + C(4,1)) / 2^4


def test_an_evaluation_compared_with_itself_differs_nowhere(pair):
    comparison = compare(pair[0], pair[0])
    for row in (comparison["datasets"]["nq"], comparison["macro"]):
        assert (row["only_a_right"], row["only_b_right"], row["mcnemar_p_value"]) == (0, 0, 1.0)
        for score in SCORES:
            values = row[score]
            assert (values["difference"], values["low"], values["high"], values["p_value"]) == (0.0, 0.0, 0.0, 1.0)


def test_swapping_the_two_turns_the_sign(pair):
    forth = compare(*pair)["datasets"]["nq"]["exact_match"]
    back = compare(*reversed(pair))["datasets"]["nq"]["exact_match"]
    assert forth["difference"] == -back["difference"]
    assert (forth["low"], forth["high"]) == pytest.approx((-back["high"], -back["low"]))
    assert forth["p_value"] == pytest.approx(back["p_value"])


def test_a_difference_on_every_question_is_certain_however_the_questions_vary(tmp_path):
    f1 = np.random.default_rng(0).random(30) / 2
    a = write_evaluation(tmp_path / "a", *(line(str(i), f1=value) for i, value in enumerate(f1)))
    b = write_evaluation(tmp_path / "b", *(line(str(i), f1=value + 0.125) for i, value in enumerate(f1)))
    row = compare(a, b)["datasets"]["nq"]["f1"]
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((0.125, 0.125, 0.125))
    assert row["p_value"] == pytest.approx(2 / 1001)


def test_macro_averages_datasets_and_counts_their_questions(tmp_path):
    sources = {"nq": 4, "bamboogle": 2, "own": 2}
    a = [line(str(i), 0.0, data_source=name) for name, count in sources.items() for i in range(count)]
    b = [line(str(i), float(i == 0), data_source=name) for name, count in sources.items() for i in range(count)]
    comparison = compare(write_evaluation(tmp_path / "a", *a), write_evaluation(tmp_path / "b", *b))
    macro, without = comparison["macro"], comparison["macro_without_bamboogle"]
    assert macro["exact_match"]["difference"] == pytest.approx((0.25 + 0.5 + 0.5) / 3)
    assert macro["exact_match"]["b"] == pytest.approx((0.25 + 0.5 + 0.5) / 3)
    assert (macro["n"], macro["only_a_right"], macro["only_b_right"]) == (8, 0, 3)
    assert without["exact_match"]["difference"] == pytest.approx((0.25 + 0.5) / 2)
    assert without["n"] == 6


def test_different_questions_are_an_error_that_counts_them(tmp_path):
    a = evaluation(tmp_path / "a", {"a": 1.0, "b": 0.0, "c": 0.0})
    b = evaluation(tmp_path / "b", {"c": 1.0, "d": 0.0})
    with pytest.raises(ValueError, match=r"2 \(nq 2\) only in A, 1 \(nq 1\) only in B\. .* --allow-missing"):
        compare(a, b)


def test_questions_of_one_are_left_out_when_that_is_allowed(tmp_path):
    a = evaluation(tmp_path / "a", {"a": 1.0, "b": 0.0, "c": 0.0})
    b = evaluation(tmp_path / "b", {"b": 0.0, "c": 1.0, "d": 1.0, "e": 1.0})
    comparison = compare(a, b, allow_missing=True)
    assert (comparison["only_in_a"], comparison["only_in_b"]) == ({"nq": 1}, {"nq": 2})
    row = comparison["datasets"]["nq"]
    assert (row["n"], row["exact_match"]["a"], row["exact_match"]["b"]) == (2, 0.0, 0.5)
    assert "Left out, because only A or B answered them: 1 (nq 1) in A, 2 (nq 2) in B." in printed(comparison)


def test_a_dataset_of_one_alone_is_left_out_when_that_is_allowed(tmp_path):
    a = write_evaluation(tmp_path / "a", line("a"), line("a", data_source="popqa"))
    b = write_evaluation(tmp_path / "b", line("a"), line("b", data_source="popqa"))
    comparison = compare(a, b, allow_missing=True)
    assert list(comparison["datasets"]) == ["nq"]
    assert (comparison["only_in_a"], comparison["only_in_b"]) == ({"popqa": 1}, {"popqa": 1})


def test_nothing_in_common_is_an_error(tmp_path):
    a, b = evaluation(tmp_path / "a", {"a": 1.0}), evaluation(tmp_path / "b", {"b": 1.0})
    with pytest.raises(ValueError, match=r"No question was answered in both .*, so there is nothing to compare"):
        compare(a, b, allow_missing=True)


@pytest.mark.parametrize("change", [{"question": "Another?"}, {"golden_answers": ["Paris"]}])
@pytest.mark.parametrize("allow_missing", [False, True])
def test_one_id_for_two_questions_is_always_an_error(tmp_path, change, allow_missing):
    a = write_evaluation(tmp_path / "a", line("a"), line("b"))
    b = write_evaluation(tmp_path / "b", line("a"), line("b", **change))
    with pytest.raises(ValueError, match="1 ids of nq, such as 'b', have another question or other gold answers"):
        compare(a, b, allow_missing=allow_missing)


def test_the_order_of_gold_answers_does_not_count(tmp_path):
    a = write_evaluation(tmp_path / "a", line("a", golden_answers=["x", "y"]))
    b = write_evaluation(tmp_path / "b", line("a", golden_answers=["y", "x"]))
    assert compare(a, b)["datasets"]["nq"]["n"] == 1


def test_one_question_has_a_difference_and_no_interval(tmp_path):
    row = compare(evaluation(tmp_path / "a", {"a": 0.0}), evaluation(tmp_path / "b", {"a": 1.0}))["datasets"]["nq"]
    assert row["exact_match"] == {"a": 0.0, "b": 1.0, "difference": 1.0, "low": None, "high": None, "p_value": None}
    assert (row["only_b_right"], row["mcnemar_p_value"]) == (1, 1.0)


def test_settings_that_differ_are_listed_by_their_parts():
    a = {"model": "m", "retriever": {"kind": "bm25", "top_k": 3}, "max_turns": 4}
    b = {"model": "m", "retriever": {"kind": "dense", "top_k": 3}, "seed": 1}
    assert settings_differences(a, b) == {
        "retriever.kind": ["bm25", "dense"],
        "max_turns": [4, None],
        "seed": [None, 1],
    }


def test_settings_of_a_file_are_not_known(pair):
    assert settings_differences({"model": "m"}, None) is None
    comparison = compare(pair[0], pair[1] / "trajectories" / "process_0.jsonl")
    assert comparison["settings"] is None
    assert comparison["datasets"]["nq"]["n"] == 8
    assert "Settings are not compared: A or B has no settings.json." in printed(comparison)


def test_tables_show_settings_differences_and_counts(tmp_path):
    scores = {str(number): float(number % 2) for number in range(20)}
    a = evaluation(tmp_path / "a", dict.fromkeys(scores, 0.0), settings={"retriever": "bm25"})
    b = evaluation(tmp_path / "b", scores, settings={"retriever": "dense"})
    text = printed(compare(a, b))
    assert "Settings that differ:\n  retriever: 'bm25' in A, 'dense' in B\n" in text
    rows = [row.split() for row in text.splitlines()]
    assert ["nq", "exact", "match", "0.000", "0.500", "0.500"] in [row[:6] for row in rows]
    assert ["searches", "1.000", "1.000", "0.000", "[0.000,", "0.000]", "1.000"] in rows
    assert ["nq", "20", "0", "10", "0.002"] in rows
    assert "…" not in text


def test_equal_settings_are_said_to_be_so(tmp_path):
    a = evaluation(tmp_path / "a", {"a": 1.0}, settings={"model": "m"})
    assert "Settings: the same." in printed(compare(a, a))
