"""Scores read from trajectory files."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from tspo_trl.data import BENCHMARKS
from tspo_trl.evaluation.scores import dataset_order, read_scores, read_settings
from tspo_trl.trainer.scores import SCORES

from .answer_lines import line, write_evaluation, write_lines


def test_scores_stand_in_the_order_of_the_report(tmp_path):
    scores = dict(zip(reversed(SCORES), [3.0, 1.0, 0.0, 1.0, 0.5, 0.0], strict=True))
    read = read_scores(write_lines(tmp_path / "a.jsonl", line("7") | scores))
    assert list(read) == ["nq"]
    assert read["nq"].ids == ["7"]
    assert read["nq"].values.tolist() == [[0.0, 0.5, 1.0, 0.0, 1.0, 3.0]]


def test_all_files_of_a_folder_are_read_and_their_cut_does_not_matter(tmp_path):
    lines = [line("a", 1.0), line("b", 0.0), line("c", 1.0), line("a", 0.0, data_source="own")]
    one = write_evaluation(tmp_path / "one", *lines)
    write_lines(tmp_path / "two" / "trajectories" / "process_0.jsonl", lines[2], lines[3])
    write_lines(tmp_path / "two" / "trajectories" / "process_1.jsonl", lines[1], lines[0])
    for name, scores in read_scores(one).items():
        other = read_scores(tmp_path / "two")[name]
        assert scores.ids == other.ids
        assert np.array_equal(scores.values, other.values)
        assert np.array_equal(scores.digests, other.digests)


def test_datasets_stand_in_the_order_of_the_field_and_others_by_name(tmp_path):
    lines = [line("a", data_source=name) for name in ("zebra", "musique", "own", "nq", "triviaqa")]
    assert list(read_scores(write_lines(tmp_path / "a.jsonl", *lines))) == [
        "nq",
        "triviaqa",
        "musique",
        "own",
        "zebra",
    ]
    assert dataset_order(reversed(BENCHMARKS)) == list(BENCHMARKS)


def test_a_last_line_that_was_cut_off_is_passed_over_with_a_warning(tmp_path, caplog):
    path = write_lines(tmp_path / "a.jsonl", line("a"), line("b", question="Où?"))
    whole = json.dumps(line("b", question="Où?"), ensure_ascii=False).encode()
    for length in (1, whole.index("ù".encode()) + 1, len(whole) - 1):  # the second is within a character
        path.write_bytes((json.dumps(line("a")) + "\n").encode() + whole[:length])
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert read_scores(path)["nq"].ids == ["a"]
        assert f"{path}, line 2 is cut off" in caplog.text


def test_a_whole_last_line_without_its_newline_counts(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(line("a")), encoding="utf-8")
    assert read_scores(path)["nq"].ids == ["a"]


@pytest.mark.parametrize("rest", ["\n", "\n" + json.dumps(line("b")) + "\n"])
def test_a_broken_line_that_was_not_cut_off_is_an_error(tmp_path, rest):
    path = tmp_path / "a.jsonl"
    path.write_text('{"data_source": "nq' + rest, encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.jsonl, line 1: not valid JSON .* fix or remove that line"):
        read_scores(path)


def test_the_same_question_twice_is_an_error_that_names_both_files(tmp_path):
    write_lines(tmp_path / "trajectories" / "process_0.jsonl", line("a"))
    write_lines(tmp_path / "trajectories" / "process_1.jsonl", line("b"), line("a"))
    with pytest.raises(ValueError, match=r"'a' of nq is in .*process_0\.jsonl and again in .*1\.jsonl, line 2"):
        read_scores(tmp_path)


def test_one_id_in_two_datasets_is_two_questions(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", line("a"), line("a", data_source="popqa"))
    assert [len(scores) for scores in read_scores(path).values()] == [1, 1]


def test_a_file_that_is_no_evaluation_is_named_with_what_it_lacks(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", line("a"), {"question": "Who?", "golden_answers": [], "f1": 1.0})
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2 is not .* it has no data_source, id, exact_match, c"):
        read_scores(path)


def test_a_line_that_is_no_object_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"a\.jsonl, line 1: expected a JSON object, got list"):
        read_scores(write_lines(tmp_path / "a.jsonl", [1]))


@pytest.mark.parametrize("value", [None, "1.0", float("nan"), float("inf")])
def test_a_score_that_is_no_finite_number_is_an_error(tmp_path, value):
    path = write_lines(tmp_path / "a.jsonl", line("a", f1=value))
    with pytest.raises(ValueError, match=r"a\.jsonl, line 1: `f1` is .*, expected a finite number"):
        read_scores(path)


def test_nothing_there_and_another_folder_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no evaluation at .*none"):
        read_scores(tmp_path / "none")
    with pytest.raises(ValueError, match="is not an evaluation: it has no folder `trajectories`"):
        read_scores(tmp_path)


def test_an_evaluation_that_answered_nothing_has_no_dataset(tmp_path):
    assert read_scores(write_evaluation(tmp_path)) == {}


def test_settings_are_known_of_a_folder_only(tmp_path):
    folder = write_evaluation(tmp_path / "run", line("a"), settings={"model": "m"})
    assert read_settings(folder) == {"model": "m"}
    assert read_settings(folder / "trajectories" / "process_0.jsonl") is None
    assert read_settings(Path(write_evaluation(tmp_path / "bare", line("a")))) is None
