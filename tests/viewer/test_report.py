"""Contents of a report."""

import pytest

from tspo_trl.viewer import make_report

from ..analysis.lines import file_of
from .credited import HIT, MISS, failure, near_miss, success


@pytest.fixture
def run_folder(tmp_path):
    """Two steps of two groups of two, and an evaluation."""
    folder = tmp_path / "trajectories"
    folder.mkdir()
    for step in (1, 2):
        lines = [near_miss(group=0), failure(group=0), success(group=1), (failure, success)[step - 1](group=1)]
        file_of(folder, *({"step": step, **line} for line in lines), name=f"step_{step:06d}.jsonl")
    file_of(folder, success(step=2, group=0), name="eval_step_000002.jsonl")
    return tmp_path


def test_a_step_is_counted(run_folder):
    # Step 1: near miss, failure | success, failure. GRPO learns only from the second group.
    entry = make_report(run_folder)["steps"][0]
    assert entry == {
        "series": "training", "step": 1, "n": 4, "groups": 2, "outcome": 0.25, "complete_failure": 0.5,
        "near_miss": 0.25, "complete_success": 0.25, "success_without_retrieval": 0.0, "all_wrong": 0.5,
        "with_signal": 1.0, "with_signal_grpo": 0.5, "turns": 2.75, "searches": 1.75,
    }  # fmt: skip


def test_training_comes_before_evaluations_and_steps_in_order(run_folder):
    steps = make_report(run_folder)["steps"]
    assert [(entry["series"], entry["step"]) for entry in steps] == [("training", 1), ("training", 2), ("eval", 2)]


def test_shares_of_nothing_are_none(run_folder):
    evaluation = make_report(run_folder)["steps"][-1]
    assert evaluation["with_signal"] is None
    assert evaluation["with_signal_grpo"] is None


def test_a_turn_has_its_text_its_evidence_and_its_credit(run_folder):
    report = make_report(run_folder)
    rollout = report["groups"][0]["rollouts"][0]
    assert rollout["kind"] == "near_miss"
    assert rollout["first_occurrence"] == 1
    assert rollout["end_reason"] == "answered"
    turn = rollout["turns"][1]
    assert (turn["text"], turn["queries"]) == ("<search> capital </search>", ("capital",))
    assert (turn["reward"], turn["advantage"]) == (0.5, 0.7)
    pieces = [piece for passage in report["evidences"][turn["evidence"]] for piece in passage.values()]
    assert "".join(map("".join, pieces)) == HIT
    assert ["Its capital is ", "Paris.", "\n"] in pieces


def test_an_evidence_is_kept_once_however_often_it_is_read(run_folder):
    texts = ["".join("".join(piece) for passage in one for piece in passage.values())
             for one in make_report(run_folder)["evidences"]]  # fmt: skip
    assert sorted(texts) == sorted([HIT, MISS])


def test_of_more_trajectories_than_the_limit_whole_steps_are_kept_and_all_counted(tmp_path):
    folder = tmp_path / "trajectories"
    folder.mkdir()
    for step in range(1, 10):
        file_of(folder, success(step=step, group=0), failure(step=step, group=0), name=f"step_{step:06d}.jsonl")
    report = make_report(tmp_path, limit=7)
    assert report["n"] == 18
    assert report["kept"] == 6
    assert [group["step"] for group in report["groups"]] == [3, 6, 9]
    assert len(report["steps"]) == 9


def test_of_a_last_step_above_the_limit_groups_are_kept(tmp_path):
    lines = [success(step=1, group=i, question=f"{i}?") for i in range(10)]
    report = make_report(file_of(tmp_path, *lines), limit=4)
    assert report["n"] == 10
    assert [group["question"] for group in report["groups"]] == ["0?", "3?", "6?", "9?"]


def test_every_series_keeps_a_group_of_its_last_step(run_folder):
    groups = make_report(run_folder, limit=1)["groups"]
    assert [(group["series"], group["step"]) for group in groups] == [("training", 2), ("eval", 2)]


def test_a_limit_below_one_is_refused(run_folder):
    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        make_report(run_folder, limit=0)


def test_a_broken_line_is_named(tmp_path):
    path = file_of(tmp_path, {"question": "?"})
    with pytest.raises(ValueError, match=r"step_000001.jsonl, line 1: not a trajectory"):
        make_report(path)
