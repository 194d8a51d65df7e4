"""The dry run finds out how a run would be launched, without waiting for other processes."""

import json
import os

import pytest

from tspo_trl.dry_run import DryRunArguments, Launch, leave_other_processes, planned_launch

from .dry_runs import check_fixture, lines, model_fixture, questions_fixture, run_train  # noqa: F401


@pytest.fixture
def run_arguments(tmp_path, model_without_weights, index_path, questions):
    return [
        *("--dry_run", "--model_name_or_path", model_without_weights, "--index", index_path),
        *("--train_file", questions, "--output_dir", tmp_path / "out", "--max_steps", "2"),
        *("--per_device_train_batch_size", "2", "--num_generations", "4", "--dry_run_gpu_memory", "400"),
    ]


@pytest.mark.slow
def test_dry_run_under_a_launcher_reports_once_and_waits_for_nobody(run_arguments):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    result = run_train(*run_arguments, launcher=launcher)
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
    assert result.stdout.count("Ready to run.") == 1
    assert "2 processes, ddp" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--dry_run_accelerate_config", "no-such.yaml"], "no-such.yaml"),
        (["--dry_run_num_processes", "0"], "The number of processes is 0: pass `dry_run_num_processes`"),
        (["--train_file", "no-questions.jsonl", "--dry_run_num_processes", "0"], "No file of questions at"),
    ],
)
def test_impossible_launch_is_in_the_report(run_arguments, changes, message):
    result = run_train(*run_arguments, *changes)
    assert result.returncode == 1
    assert "Launch: " in result.stdout
    assert message in result.stdout
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_malformed_recipe_is_in_the_report(run_arguments, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("alpha: [0.5\n", encoding="utf-8")
    result = run_train(*run_arguments, "--config", recipe)
    assert result.returncode == 1
    assert "1. Arguments: while parsing a flow sequence" in result.stdout
    assert "Traceback" not in result.stderr


def test_launchers_variables_are_forgotten_and_no_others(monkeypatch):
    set_by_launchers = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    for name in (*set_by_launchers, "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.setenv(name, "1")
    before = {*os.environ}
    leave_other_processes()
    assert before - {*os.environ} == {*set_by_launchers, "ACCELERATE_USE_DEEPSPEED"}


@pytest.fixture
def deepspeed_file(tmp_path):
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 2}}), encoding="utf-8")
    return str(path)


def test_stage_is_read_from_the_file_that_an_accelerate_configuration_names(tmp_path, deepspeed_file):
    path = tmp_path / "accelerate.yaml"
    text = "distributed_type: DEEPSPEED\nnum_processes: 8\ndeepspeed_config:\n  deepspeed_config_file: "
    path.write_text(f"{text}{deepspeed_file}\n", encoding="utf-8")
    assert planned_launch(DryRunArguments(dry_run_accelerate_config=str(path))) == Launch(8, "zero2")


def test_stage_is_read_from_the_file_that_accelerate_launch_names(monkeypatch, deepspeed_file):
    for name, value in {"WORLD_SIZE": "4", "ACCELERATE_USE_DEEPSPEED": "true"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", deepspeed_file)
    assert planned_launch(DryRunArguments()) == Launch(4, "zero2")


def test_deepspeed_of_the_configuration_wins_over_the_launcher(check, deepspeed_file):
    report = check(Launch(4, "ddp"), deepspeed=deepspeed_file)
    assert report.problems == []
    assert lines(report, "Launch") == "4 processes, ddp\nwith `deepspeed`: 4 processes, zero2"
    memory = "Memory of a GPU (an estimate)"
    assert lines(report, memory) == lines(check(Launch(4, "zero2")), memory)


def test_deepspeed_without_a_stage_is_a_problem(check, tmp_path):
    path = tmp_path / "empty.json"
    path.write_text("{}", encoding="utf-8")
    (problem,) = check(deepspeed=str(path)).problems
    assert problem.startswith("Launch: `zero_stage` in ")
