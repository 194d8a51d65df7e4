"""A run that was interrupted ends as if it had not been: real training, real checkpoints."""

import importlib.util
import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from trl import TrlParser

from tspo_trl import TSPOConfig

from ..training_runs.killable_run import QUESTIONS, length_reward
from .test_checkpoints import write_checkpoint


def trajectory_files(folder):
    return {path.name: path.read_text(encoding="utf-8") for path in (Path(folder) / "trajectories").iterdir()}


def parameters(trainer):
    return dict(trainer.model.named_parameters())


def assert_equal_parameters(one, other):
    other = parameters(other)
    assert [name for name, value in parameters(one).items() if not torch.equal(value, other[name])] == []


def keep_up_to(step, source, target):
    """The folder of a run as it was right after its checkpoint of a step."""
    shutil.copytree(source / f"checkpoint-{step}", target / f"checkpoint-{step}")
    (target / "trajectories").mkdir()
    for path in (source / "trajectories").iterdir():
        if int(path.stem.split("_")[-1]) <= step:
            shutil.copy(path, target / "trajectories")


def test_resumed_run_ends_with_the_same_parameters_and_files(make_run, tmp_path):
    """With two of eight questions to a step, an epoch has four steps: in it, at its end and in the next one."""
    whole = make_run("whole")
    whole.train()
    for step in (2, 4, 5):
        folder = f"resumed at {step}"
        keep_up_to(step, tmp_path / "whole", tmp_path / folder)
        resumed = make_run(folder)
        resumed.train(resume_from_checkpoint=True)
        assert resumed.state.global_step == 6
        assert_equal_parameters(resumed, whole)
        assert trajectory_files(tmp_path / folder) == trajectory_files(tmp_path / "whole")


@pytest.mark.parametrize(
    ("step", "changes"),
    [
        (1, {"num_iterations": 2}),
        (3, {"num_iterations": 2, "logging_steps": 2}),
        (3, {"steps_per_generation": 2}),
        (1, {"steps_per_generation": 3, "num_iterations": 2, "logging_steps": 3}),
        (1, {"steps_per_generation": 3, "gradient_accumulation_steps": 2}),
    ],
)
def test_rollouts_that_serve_for_several_steps_outlive_a_checkpoint(make_run, tmp_path, step, changes):
    whole = make_run("whole", **changes)
    whole.train()
    keep_up_to(step, tmp_path / "whole", tmp_path / "resumed")
    resumed = make_run("resumed", **changes)
    resumed.train(resume_from_checkpoint=True)
    assert_equal_parameters(resumed, whole)
    assert trajectory_files(tmp_path / "resumed") == trajectory_files(tmp_path / "whole")


def test_rollouts_of_another_shape_are_not_used(make_run, tmp_path, caplog):
    make_run("out", num_iterations=2, max_steps=1).train()
    trainer = make_run("out", num_iterations=3)
    with caplog.at_level(logging.WARNING):
        trainer.train(resume_from_checkpoint=True)
    assert "are not used, new ones are generated: `num_iterations` was 2 and is 3." in caplog.text
    assert "step_000002.jsonl" in trajectory_files(tmp_path / "out")


def test_checkpoint_between_two_generations_alone_holds_rollouts(make_run, tmp_path):
    make_run("out", num_iterations=2, max_steps=2).train()
    between, after = (saved_rollouts(tmp_path / "out" / f"checkpoint-{step}") for step in (1, 2))
    assert len(between[0]["completion_ids"]) == 8
    assert after is None


def saved_rollouts(checkpoint):
    return torch.load(checkpoint / "rollouts_0.pt", weights_only=True)["state"]["buffered_inputs"]


@pytest.mark.parametrize(("max_steps", "logging_steps"), [(5, 2), (4, 3), (8, 3)])
def test_last_trajectories_are_written_by_a_run_killed_after_its_last_checkpoint(
    make_run, tmp_path, max_steps, logging_steps
):
    """The end of training logs, too: after four or eight steps, it is the end of an epoch as well."""
    settings = {"max_steps": max_steps, "logging_steps": logging_steps}
    make_run("whole", **settings).train()
    keep_up_to(max_steps, tmp_path / "whole", tmp_path / "resumed")
    last = f"step_{max_steps:06d}.jsonl"
    (tmp_path / "resumed" / "trajectories" / last).unlink()
    make_run("resumed", **settings).train(resume_from_checkpoint=True)
    written = trajectory_files(tmp_path / "resumed")
    assert last in written
    assert written == trajectory_files(tmp_path / "whole")


@pytest.mark.parametrize("is_saved", [True, False])
def test_rollouts_of_an_earlier_training_in_the_same_process_are_not_used(make_run, tmp_path, is_saved):
    """Step 3 generates, and its rollouts are to serve for step 4: training resumed at step 2 has others."""
    whole = make_run("whole", num_iterations=2)
    whole.train()
    keep_up_to(2, tmp_path / "whole", tmp_path / "resumed")
    if not is_saved:
        (tmp_path / "resumed" / "checkpoint-2" / "rollouts_0.pt").unlink()
    resumed = make_run("resumed", num_iterations=2)
    resumed.args.max_steps = 3
    resumed.args.save_strategy = "no"
    resumed.train()
    resumed.args.max_steps = 6
    resumed.train(resume_from_checkpoint=str(tmp_path / "resumed" / "checkpoint-2"))
    assert_equal_parameters(resumed, whole)


def test_run_begun_anew_in_the_same_process_generates_anew(make_run, tmp_path):
    trainer = make_run("out", num_iterations=2, max_steps=1)
    trainer.train()
    (tmp_path / "out" / "trajectories" / "step_000001.jsonl").unlink()
    trainer.train()
    assert "step_000001.jsonl" in trajectory_files(tmp_path / "out")


def test_without_its_rollouts_a_run_generates_at_once_and_again_with_the_next_questions(make_run, tmp_path):
    """Step 2 lacks the rollouts of step 1, and does not use those of step 5 that an earlier training in the same
    process left. Step 3 has other questions, as if step 2 had not generated."""
    trainer = make_run("out", num_iterations=2)
    trainer.train()
    for step in range(2, 7):
        shutil.rmtree(tmp_path / "out" / f"checkpoint-{step}")
    questions = {name: {json.loads(line)["question"] for line in text.splitlines()}
                 for name, text in trajectory_files(tmp_path / "out").items()}  # fmt: skip
    shutil.rmtree(tmp_path / "out" / "trajectories")
    (tmp_path / "out" / "checkpoint-1" / "rollouts_0.pt").unlink()
    trainer.train(resume_from_checkpoint=True)
    resumed = {name: {json.loads(line)["question"] for line in text.splitlines()}
               for name, text in trajectory_files(tmp_path / "out").items()}  # fmt: skip
    assert resumed.pop("step_000002.jsonl") == questions.pop("step_000001.jsonl")
    assert resumed == questions


def test_rollouts_are_not_used_where_the_dataset_is_begun_again(make_run, tmp_path):
    make_run("out", num_iterations=2, max_steps=1).train()
    trainer = make_run("out", num_iterations=2, max_steps=2, ignore_data_skip=True)
    trainer.train(resume_from_checkpoint=True)
    assert "step_000002.jsonl" in trajectory_files(tmp_path / "out")


def test_epochs_are_counted_in_steps_of_the_resumed_run(make_run, tmp_path, monkeypatch):
    """Four steps of two questions were an epoch. In steps of one question they are half of one."""
    make_run("out", max_steps=4).train()
    trainer = make_run("out", max_steps=5, per_device_train_batch_size=4)
    trainer.train(resume_from_checkpoint=True)
    (record, *_) = trajectory_files(tmp_path / "out")["step_000005.jsonl"].splitlines()
    order = [QUESTIONS[row]["question"] for row in dict.fromkeys(trainer._get_train_sampler())]
    assert json.loads(record)["question"] == order[4]


def test_run_that_had_taken_all_its_steps_takes_no_more(make_run, tmp_path):
    whole = make_run("out")
    whole.train()
    random_state = torch.get_rng_state()  # an evaluation afterwards is to sample the same
    resumed = make_run("out")
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 6
    assert_equal_parameters(resumed, whole)
    assert torch.equal(torch.get_rng_state(), random_state)


def test_run_that_had_taken_more_steps_than_it_is_to_take_now_takes_no_more(make_run, tmp_path):
    """Two epochs are planned, and the checkpoint is in the first: the second is not begun, either."""
    make_run("out", max_steps=3).train()
    resumed = make_run("out", max_steps=2)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 3


# Runs that are not resumed exactly


def test_resuming_a_stream_warns(make_trainer, tmp_path, caplog):
    def make():
        kwargs = {"train_dataset": QUESTIONS.to_iterable_dataset(), "reward_funcs": length_reward}
        settings = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1, "per_device_train_batch_size": 8}
        return make_trainer(trainer_kwargs=kwargs, output_dir=str(tmp_path / "out"), **settings)

    make().train()
    assert "IterableDataset" not in caplog.text
    make().train(resume_from_checkpoint=True)
    assert "`train_dataset` is an `IterableDataset`: if its first pass was over, it is begun again" in caplog.text


def test_resuming_with_a_synced_reference_model_warns(make_run, caplog):
    settings = {"max_steps": 1, "beta": 0.1, "sync_ref_model": True}
    make_run("out", **settings).train()
    assert "reference model" not in caplog.text
    make_run("out", **settings).train(resume_from_checkpoint=True)
    assert "`sync_ref_model` is True: no checkpoint holds the synced reference model." in caplog.text


def test_resuming_exactly_does_not_warn(make_run, caplog):
    make_run("out", max_steps=1).train()
    make_run("out", max_steps=1).train(resume_from_checkpoint=True)
    assert [record for record in caplog.records if record.name == "tspo_trl.trainer.checkpoints"] == []


# Resuming from the command line


@pytest.fixture(scope="module")
def train_script():
    path = Path(__file__).parents[2] / "examples" / "train.py"
    spec = importlib.util.spec_from_file_location("train_script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parse_config(*flags):
    parser = TrlParser(TSPOConfig)
    (args,) = parser.parse_args_and_config(["--use_cpu", "--bf16", "False", *map(str, flags)])
    return args


@pytest.mark.parametrize("word", ["true", "True"])
def test_script_resumes_the_last_complete_checkpoint_or_begins(train_script, tmp_path, word):
    args = parse_config("--output_dir", tmp_path, "--resume_from_checkpoint", word)
    assert train_script.checkpoint_to_resume(args) is None
    complete = write_checkpoint(tmp_path, 1, "{}")
    write_checkpoint(tmp_path, 2, None)
    assert train_script.checkpoint_to_resume(args) == complete


def test_script_reads_true_in_a_recipe_as_on_the_command_line(train_script, tmp_path):
    complete = write_checkpoint(tmp_path, 1, "{}")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"resume_from_checkpoint: true\noutput_dir: {tmp_path}\n", encoding="utf-8")
    assert train_script.checkpoint_to_resume(parse_config("--config", recipe)) == complete


def test_script_resumes_the_checkpoint_that_is_named_or_none(train_script, tmp_path):
    write_checkpoint(tmp_path, 1, "{}")
    named = parse_config("--output_dir", tmp_path, "--resume_from_checkpoint", "some/checkpoint-3")
    assert train_script.checkpoint_to_resume(named) == "some/checkpoint-3"
    assert train_script.checkpoint_to_resume(parse_config("--output_dir", tmp_path)) is None


def test_plain_grpo_is_resumed_as_well(make_run, tmp_path):
    off = {"alpha": 0.0, "turn_level_groups": "never", "num_iterations": 2}
    whole = make_run("whole", **off)
    whole.train()
    keep_up_to(5, tmp_path / "whole", tmp_path / "resumed")
    resumed = make_run("resumed", **off)
    resumed.train(resume_from_checkpoint=True)
    assert_equal_parameters(resumed, whole)
