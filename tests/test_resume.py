"""A run that was interrupted ends as if it had not been: real training, real checkpoints."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch

from tspo_trl.checkpoints import is_complete, last_complete_checkpoint

from .training_runs.killable_run import QUESTIONS, length_reward


@pytest.fixture
def make_run(make_trainer, tmp_path):
    """Builds a trainer of six steps that writes to a folder of the given name."""

    def make(folder, **changes):
        settings = {
            "max_steps": 6,
            "per_device_train_batch_size": 8,
            "save_strategy": "steps",
            "save_steps": 1,
            "output_dir": str(tmp_path / folder),
        }
        kwargs = {"train_dataset": QUESTIONS, "reward_funcs": length_reward}
        return make_trainer(trainer_kwargs=kwargs, **{**settings, **changes})

    return make


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
    assert (tmp_path / "out" / "checkpoint-1" / "rollouts_0.pt").is_file()
    assert not (tmp_path / "out" / "checkpoint-2" / "rollouts_0.pt").exists()


def test_run_that_had_taken_all_its_steps_takes_no_more(make_run, tmp_path):
    whole = make_run("out")
    whole.train()
    random_state = torch.get_rng_state()  # an evaluation afterwards is to sample the same
    resumed = make_run("out")
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 6
    assert_equal_parameters(resumed, whole)
    assert torch.equal(torch.get_rng_state(), random_state)


def test_plain_grpo_is_resumed_as_well(make_run, tmp_path):
    off = {"alpha": 0.0, "turn_level_groups": "never", "num_iterations": 2}
    whole = make_run("whole", **off)
    whole.train()
    keep_up_to(5, tmp_path / "whole", tmp_path / "resumed")
    resumed = make_run("resumed", **off)
    resumed.train(resume_from_checkpoint=True)
    assert_equal_parameters(resumed, whole)


# Checkpoints that were not written to their end


def write_checkpoint(output_dir, step, state):
    folder = output_dir / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    if state is not None:
        (folder / "trainer_state.json").write_text(state, encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("state", [None, "", '{"epoch": 1.0, "global_st'])
def test_checkpoint_without_the_whole_trainer_state_is_not_complete(tmp_path, state):
    complete = write_checkpoint(tmp_path, 9, '{"epoch": 1.0}')
    incomplete = write_checkpoint(tmp_path, 10, state)
    assert (is_complete(complete), is_complete(incomplete)) == (True, False)
    assert last_complete_checkpoint(tmp_path) == complete


def test_last_checkpoint_is_that_of_the_highest_step(tmp_path):
    for step in (9, 100, 20):
        write_checkpoint(tmp_path, step, "{}")
    write_checkpoint(tmp_path, "101-copy", "{}")
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-100")


def test_there_is_no_checkpoint_in_an_empty_or_missing_folder(tmp_path):
    assert last_complete_checkpoint(tmp_path) is None
    assert last_complete_checkpoint(tmp_path / "missing") is None


def test_incomplete_checkpoint_is_passed_over_with_a_warning(make_run, tmp_path, caplog):
    make_run("out", max_steps=2).train()
    (tmp_path / "out" / "checkpoint-2" / "trainer_state.json").unlink()
    resumed = make_run("out", max_steps=2)
    with caplog.at_level(logging.WARNING):
        resumed.train(resume_from_checkpoint=True)
    assert "checkpoint-2 is passed over: it was not written to its end." in caplog.text
    assert "checkpoint-1 is passed over" not in caplog.text
    assert is_complete(tmp_path / "out" / "checkpoint-2")


def test_resuming_without_a_complete_checkpoint_is_refused(make_run, tmp_path):
    write_checkpoint(tmp_path / "out", 1, None)
    with pytest.raises(ValueError, match=r"is True, but there is no complete checkpoint in .*out.*out to begin"):
        make_run("out").train(resume_from_checkpoint=True)


def test_resuming_an_incomplete_checkpoint_by_name_is_refused(make_run, tmp_path):
    folder = write_checkpoint(tmp_path / "out", 1, "{")
    with pytest.raises(ValueError, match=r"checkpoint-1', but no complete checkpoint is there.*Pass `True`"):
        make_run("out").train(resume_from_checkpoint=folder)


def test_checkpoint_that_is_written_over_is_not_complete_meanwhile(make_run, tmp_path, monkeypatch):
    make_run("out", max_steps=1).train()
    assert is_complete(tmp_path / "out" / "checkpoint-1")
    trainer = make_run("out", max_steps=1)

    def fail(output_dir):
        raise OSError("disk full")

    monkeypatch.setattr(trainer, "_save_optimizer_and_scheduler", fail)
    with pytest.raises(OSError, match="disk full"):
        trainer.train()
    assert not is_complete(tmp_path / "out" / "checkpoint-1")


def test_trainer_state_is_written_after_all_that_a_process_writes(make_run, tmp_path, monkeypatch):
    """`is_complete` rests on it: a test of transformers rather than of ours."""
    trainer = make_run("out", max_steps=1)
    held = {}
    save = trainer._save_rng_state

    def save_and_look(output_dir):
        save(output_dir)
        held.update({path.name: path.stat().st_size for path in Path(output_dir).iterdir()})

    monkeypatch.setattr(trainer, "_save_rng_state", save_and_look)
    trainer.train()
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"} <= held.keys()
    after = {path.name: path.stat().st_size for path in (tmp_path / "out" / "checkpoint-1").iterdir()}
    assert after.keys() - held.keys() == {"trainer_state.json", "retriever.json"}
    assert held.items() <= after.items()
    json.loads((tmp_path / "out" / "checkpoint-1" / "trainer_state.json").read_text(encoding="utf-8"))
