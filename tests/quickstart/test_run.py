"""The whole quickstart on a very small scale: it runs, resumes and loses nothing."""

import io
import json

import pytest
from rich.console import Console

from tspo_trl.quickstart.run import make_trainer, make_world, run_quickstart
from tspo_trl.quickstart.settings import QuickstartSettings
from tspo_trl.search import BM25Retriever

SETTINGS = QuickstartSettings(
    steps=2,
    warm_start_steps=4,
    groups=2,
    num_generations=4,
    num_train_questions=60,
    num_test_questions=6,
    num_people=120,
    num_places=40,
    num_works=40,
)


def run(output, settings=SETTINGS):
    out = io.StringIO()
    report = run_quickstart(output, settings, Console(file=out, width=200))
    return report, out.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output = tmp_path_factory.mktemp("quickstart") / "run"
    report, printed = run(output)
    return output, report, printed


def test_report_has_what_is_promised(finished):
    output, report, _ = finished
    assert json.loads((output / "report.json").read_text(encoding="utf-8")) == report
    assert {
        "exact_match_before", "exact_match_after", "greedy_exact_match_before", "greedy_exact_match_after",
        "retrieval_rate_before", "retrieval_rate_after", "seconds", "seconds_warm_start",
    } <= report.keys()  # fmt: skip
    assert (report["steps"], report["num_test_questions"], report["seed"], report["method"]) == (2, 6, 0, "tspo")


def test_learning_curve_and_trajectories_of_every_step_are_left(finished):
    output, _, _ = finished
    assert (output / "learning_curve.png").stat().st_size > 1000
    names = {path.name for path in (output / "training" / "trajectories").iterdir()}
    assert {"step_000001.jsonl", "step_000002.jsonl", "eval_before_step_000000.jsonl"} <= names
    sampled = (output / "training" / "trajectories" / "eval_after_step_000002.jsonl").read_text(encoding="utf-8")
    assert len(sampled.splitlines()) == 2 * 6


def test_finished_run_is_reported_and_left_alone(finished):
    output, report, _ = finished
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    again, printed = run(output)
    assert again == report
    assert "contains a finished run" in printed
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


@pytest.mark.slow
def test_interrupted_run_goes_on_where_it_was_left(finished):
    output, report, _ = finished
    policy = (output / "policy" / "model.safetensors").stat().st_mtime_ns
    for name in ("report.json", "after.json"):
        (output / name).unlink()
    again, printed = run(output)
    assert "Warm start" not in printed
    assert (output / "policy" / "model.safetensors").stat().st_mtime_ns == policy
    before = ("exact_match_before", "retrieval_rate_before", "seconds_warm_start")
    assert [again[name] for name in before] == [report[name] for name in before]


@pytest.mark.slow
def test_grpo_runs_through_the_same_code(tmp_path):
    report, _ = run(tmp_path / "grpo", QuickstartSettings(**{**vars(SETTINGS), "method": "grpo"}))
    assert report["method"] == "grpo"


def test_reported_exact_match_is_the_mean_over_all_rollouts_of_the_evaluation(finished):
    output, report, _ = finished
    for stage, step in (("before", 0), ("after", 2)):
        for prefix, name in (("", "exact_match"), ("_greedy", "greedy_exact_match")):
            path = output / "training" / "trajectories" / f"eval_{stage}{prefix}_step_{step:06d}.jsonl"
            outcomes = [json.loads(line)["outcome"] for line in path.read_text(encoding="utf-8").splitlines()]
            assert report[f"{name}_{stage}"] == pytest.approx(sum(outcomes) / len(outcomes))
            assert len(outcomes) == (6 if prefix else 12)


def test_training_shows_the_live_line_and_no_log_entries(finished, capfd):
    output, _, _ = finished
    world = make_world(SETTINGS)
    trainer = make_trainer(world, BM25Retriever(output / "index"), output / "policy", SETTINGS, output.parent / "live")
    trainer.train()
    shown = capfd.readouterr()
    assert "exact match 0." in shown.err
    assert "'loss'" not in shown.out + shown.err
