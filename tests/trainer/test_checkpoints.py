"""A checkpoint that was not written to its end is known as such, and not resumed."""

import json
import logging
from pathlib import Path

import pytest

from tspo_trl.trainer.checkpoints import is_complete, last_complete_checkpoint


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


def test_checkpoint_that_is_written_over_loses_the_rollouts_of_processes_that_are_no_more(make_run, tmp_path):
    make_run("out", max_steps=1).train()
    (tmp_path / "out" / "checkpoint-1" / "rollouts_1.pt").touch()
    make_run("out", max_steps=1).train()
    assert [path.name for path in (tmp_path / "out" / "checkpoint-1").glob("rollouts_*")] == ["rollouts_0.pt"]


def test_every_process_that_saves_removes_the_trainer_state_that_it_will_write(make_run, tmp_path, monkeypatch):
    """With `save_on_each_node` that is one process of each machine, not the main one alone."""
    make_run("out", max_steps=1).train()
    trainer = make_run("out", max_steps=1)
    monkeypatch.setattr(type(trainer.accelerator), "is_main_process", False)
    trainer.state.global_step = 1

    def fail(output_dir, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(trainer, "save_model", fail)
    with pytest.raises(OSError, match="disk full"):
        trainer._save_checkpoint(trainer.model, None)
    assert not is_complete(tmp_path / "out" / "checkpoint-1")


ADAPTIVE_ENTROPY = {"use_adaptive_entropy": True, "entropy_coef": 0.01, "max_steps": 1}


def test_checkpoint_without_its_entropy_coefficient_is_not_complete(make_run, tmp_path, monkeypatch):
    """TRL writes it after the trainer's state."""
    trainer = make_run("out", **ADAPTIVE_ENTROPY)
    monkeypatch.setattr("trl.trainer.grpo_trainer.json.dump", lambda *args: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception, match="killed"):
        trainer.train()
    checkpoint = tmp_path / "out" / "checkpoint-1"
    assert json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["global_step"] == 1
    assert not is_complete(checkpoint)


def test_checkpoint_is_not_complete_before_its_entropy_coefficient_is_written(make_run, tmp_path, monkeypatch):
    trainer = make_run("out", **ADAPTIVE_ENTROPY)
    checkpoint, seen = tmp_path / "out" / "checkpoint-1", []
    rotate = "transformers.trainer.rotate_checkpoints"  # between the trainer's state and TRL's own
    monkeypatch.setattr(rotate, lambda **kwargs: seen.append(is_complete(checkpoint)))
    trainer.train()
    assert seen == [False]
    assert is_complete(checkpoint)
    assert json.loads((checkpoint / "entropy_ctrl_state.json").read_text(encoding="utf-8"))["entropy_coef"] > 0


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
