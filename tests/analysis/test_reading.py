"""Which files are read, what is read from a line, and what is refused."""

import json
import math

import pytest

from tspo_trl.analysis.reading import read_trajectories, trajectory_files

from .lines import file_of, own, plain

HIT = "Paris is the capital."


def read(tmp_path, line):
    [record] = read_trajectories(file_of(tmp_path, line))
    return record


def test_line_of_a_training_run(tmp_path):
    line = own([HIT, None], prediction="Paris", step=3, group=1, outcome=1.0, first_occurrence=0)
    record = read(tmp_path, line)
    assert (record.question, record.golden_answers) == ("Capital of France?", ["Paris"])
    assert (record.step, record.group, record.outcome, record.first_occurrence) == (3, 1, 1.0, 0)
    assert (record.prediction, record.trajectory.end_reason) == ("Paris", "answered")
    assert record.trajectory.evidence == [HIT, None]


def test_line_of_an_evaluation_has_neither_step_nor_group(tmp_path):
    record = read(tmp_path, own(data_source="nq", id="7", outcome=0.0, exact_match=0.0, f1=0.5))
    assert (record.step, record.group, record.outcome) == (None, None, 0.0)


def test_null_is_unscorable_and_never_and_an_absent_key_is_not_recorded(tmp_path):
    recorded = read(tmp_path, own(outcome=None, first_occurrence=None))
    assert math.isnan(recorded.outcome)
    assert recorded.first_occurrence == -1
    absent = read(tmp_path, own())
    assert (absent.outcome, absent.first_occurrence) == (None, None)


def test_plain_line_is_evidence_as_it_stands_in_the_feedback(tmp_path):
    record = read(tmp_path, plain([HIT, None], em=0))
    first, last = record.trajectory.turns
    assert (first.action, first.queries, first.evidence) == ("search", ("capital",), HIT)
    assert (last.action, last.content, last.evidence) == ("answer", "London", None)
    assert (record.outcome, record.first_occurrence, record.trajectory.end_reason) == (0.0, None, "answered")


def test_plain_queries_may_stand_in_the_tags_of_search_r1(tmp_path):
    record = read(tmp_path, plain(["a", None], texts=["<search> x\ny </search> and <search>z</search>", ""]))
    assert record.trajectory.turns[0].queries == ("x\ny", "z")


def test_plain_rollout_without_a_prediction_did_not_answer_and_nothing_tells_why_it_ended(tmp_path):
    trajectory = read(tmp_path, plain(["a", None], prediction=None)).trajectory
    assert (trajectory.turns[-1].action, trajectory.end_reason) == (None, "unknown")


def test_plain_turn_searched_if_something_came_back_or_it_holds_a_query(tmp_path):
    texts = ["no tags", "no tags", "<|begin_of_query|> q <|end_of_query|>", "the end"]
    trajectory = read(tmp_path, plain(["a", None, None, None], texts=texts)).trajectory
    assert [turn.action for turn in trajectory.turns] == ["search", None, "search", "answer"]


def test_both_forms_may_stand_in_one_file_with_blank_lines_between(tmp_path):
    path = tmp_path / "mixed.jsonl"
    path.write_text(f"{json.dumps(own())}\n\n  \n{json.dumps(plain())}\n")
    assert len(list(read_trajectories(path))) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not valid JSON"),
        ("[1]", "expected a JSON object, got list"),
        ('{"id": "1", "contents": "text"}', r"not a trajectory: it has the keys \['contents', 'id'\]"),
        (json.dumps(own() | {"turns": []}), "`turns` is .*at least one"),
        (json.dumps(own() | {"turns": ["text"]}), "`turns` is"),
        (json.dumps(own() | {"turns": [{"text": None}]}), "`text` of a turn is None"),
        (json.dumps(own() | {"turns": [{"text": "x", "evidence": 5}]}), "`evidence` is 5, expected str or null"),
        (json.dumps(own() | {"turns": [{"text": "x"}]}), "its turns are not those .*token_span"),
        (json.dumps(own([None, None], queries=[(5,)])), "`queries` of a turn has 5"),
        (json.dumps(own(golden_answers=None)), "`golden_answers` is None"),
        (json.dumps(own(golden_answers="Paris")), "`golden_answers` is 'Paris'"),
        (json.dumps(own(golden_answers=[])), "`golden_answers` is"),
        (json.dumps(own(golden_answers=[1])), "`golden_answers` is"),
        (json.dumps(own(question=5)), "`question` is 5"),
        (json.dumps(own(outcome="right")), "`outcome` is 'right', expected int or float or null"),
        (json.dumps(own(outcome=math.nan)), "`outcome` is nan, expected a finite number"),
        (json.dumps(own(first_occurrence="never")), "`first_occurrence` is 'never'"),
        (json.dumps(plain(em=math.inf)), "`em` is inf, expected a finite number"),
        (json.dumps(plain(em=10**400)), r"`em` is 1000+\.\.\.0+, expected a finite number"),
        (json.dumps(own(end_reason=None)), "`end_reason` is None, expected a string"),
        (json.dumps(own(end_reason=["answered"])), r"`end_reason` is \['answered'\], expected a string"),
        (json.dumps({k: v for k, v in plain().items() if k != "prediction"}), "not a trajectory"),
        (json.dumps(plain(prediction=["Paris"])), "`prediction` is .*expected str or null"),
        (json.dumps(plain([5, None])), "`feedback` is 5"),
    ],
)
def test_another_line_is_refused_with_file_and_line(tmp_path, line, message):
    path = tmp_path / "wrong.jsonl"
    path.write_text(f"{json.dumps(own())}\n\n{line}\n")
    with pytest.raises(ValueError, match=rf"wrong\.jsonl, line 3: {message}"):
        list(read_trajectories(path))


def test_bytes_that_are_no_text_are_refused_with_file_and_line(tmp_path):
    path = tmp_path / "wrong.jsonl"
    path.write_bytes(b'{"question": "\xff"}\n')
    with pytest.raises(ValueError, match=r"wrong\.jsonl, line 1: not valid JSON"):
        list(read_trajectories(path))


def test_last_line_that_is_not_yet_written_to_its_end_is_passed_over_with_a_warning(tmp_path, caplog):
    path = tmp_path / "process_0.jsonl"
    whole = json.dumps(own(question="Où?"), ensure_ascii=False).encode()
    for cut in (b'{"question": "O\xc3', whole[:40]):
        caplog.clear()
        path.write_bytes(whole + b"\n" + cut)
        assert len(list(read_trajectories(path))) == 1
        assert "process_0.jsonl, line 2 is cut off" in caplog.text
    path.write_bytes(whole + b"\n" + whole)
    assert len(list(read_trajectories(path))) == 2


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_file_without_a_trajectory_is_refused(tmp_path, text):
    (tmp_path / "empty.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"empty\.jsonl has no trajectory"):
        list(read_trajectories(tmp_path / "empty.jsonl"))


def test_folder_stands_for_its_json_lines_by_name(tmp_path):
    for name in ("b.jsonl", "a.jsonl", "notes.txt"):
        (tmp_path / name).touch()
    assert trajectory_files([tmp_path]) == [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]


def test_folder_of_a_run_stands_for_its_trajectories(tmp_path):
    (tmp_path / "trajectories").mkdir()
    (tmp_path / "trajectories" / "a.jsonl").touch()
    (tmp_path / "questions.jsonl").touch()
    assert trajectory_files([tmp_path]) == [tmp_path / "trajectories" / "a.jsonl"]


def test_file_that_is_named_twice_counts_once_and_where_it_came_first(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    first = tmp_path / "sub" / ".." / "b.jsonl"
    assert trajectory_files([first, tmp_path]) == [first, tmp_path / "a.jsonl"]


def test_nothing_to_read_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.jsonl does not exist"):
        trajectory_files([tmp_path / "no.jsonl"])
    with pytest.raises(FileNotFoundError, match=r"has no \*\.jsonl"):
        trajectory_files([tmp_path])
    with pytest.raises(ValueError, match="nothing to analyze"):
        trajectory_files([])
