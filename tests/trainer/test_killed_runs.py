"""A training run that is killed at any moment goes on from its last checkpoint, and ends as if it never had been."""

import json
import multiprocessing
import random
import shutil
import signal
import time

import pytest

from ..training_runs.killable_run import MAX_STEPS, train

SEED = 0
EVERY_STEP = range(1, MAX_STEPS + 1)
WRITTEN = [  # files of a checkpoint in the order of writing, then those of trajectories; the steps that write them
    ("checkpoint-{}/config.json", EVERY_STEP), ("checkpoint-{}/model.safetensors", EVERY_STEP),
    ("checkpoint-{}/optimizer.pt", EVERY_STEP), ("checkpoint-{}/rng_state.pth", EVERY_STEP),
    ("checkpoint-{}/rollouts_0.pt", EVERY_STEP), ("checkpoint-{}/trainer_state.json", EVERY_STEP),
    ("trajectories/step_{:06d}.jsonl.part", (1, 3, 5)), ("trajectories/step_{:06d}.jsonl", (1, 3, 5)),
    ("trajectories/eval_step_{:06d}.jsonl.part", (2, 4, 6)), ("trajectories/eval_step_{:06d}.jsonl", (2, 4, 6)),
]  # fmt: skip

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tspo_trl.trainer.trainer"])


class Runs:
    """Starts runs in processes that share an import of the packages."""

    def __init__(self, model, index):
        self.model, self.index = model, index

    def start(self, output_dir):
        """Start or resume a run; returns its process when training begins."""
        receiver, sender = processes.Pipe(duplex=False)
        process = processes.Process(target=train, args=(output_dir, self.model, self.index, sender))
        process.start()
        sender.close()
        assert receiver.poll(timeout=120), "the run has not begun"
        assert receiver.recv() == "begun"
        return process

    def finish(self, output_dir):
        """Start or resume a run and let it end; returns the seconds that training took."""
        process = self.start(output_dir)
        start = time.perf_counter()
        process.join(timeout=120)
        assert process.exitcode == 0
        return time.perf_counter() - start

    def kill_after(self, output_dir, seconds):
        """Start a run and kill it when it has trained for some time; for half of it, if it ends before."""
        process = self.start(output_dir)
        process.join(timeout=seconds)
        if process.exitcode == 0:
            shutil.rmtree(output_dir)
            self.kill_after(output_dir, seconds / 2)
        else:
            self._kill(process)

    def kill_when_there(self, output_dir, paths):
        """Start a run and kill it as soon as one of the files is there, whole or not."""
        process = self.start(output_dir)
        while process.is_alive() and not any(path.exists() for path in paths):
            time.sleep(0.0001)
        assert any(path.exists() for path in paths)
        self._kill(process, may_have_ended=True)  # the last files are there shortly before the end

    def _kill(self, process, may_have_ended=False):
        process.kill()
        process.join(timeout=60)
        assert process.exitcode == -signal.SIGKILL or (may_have_ended and process.exitcode == 0)


@pytest.fixture(scope="module")
def runs(searching_model_path, index_path):
    return Runs(searching_model_path, index_path)


def trajectory_files(output_dir):
    return {path.name: path.read_text(encoding="utf-8") for path in (output_dir / "trajectories").glob("*")}


def last_parameters(output_dir):
    return (output_dir / f"checkpoint-{MAX_STEPS}" / "model.safetensors").read_bytes()


def assert_well_formed(output_dir, whole):
    """What a killed run leaves are whole files of the uninterrupted run, and at most one that is not finished."""
    left = trajectory_files(output_dir)
    finished = {name: text for name, text in left.items() if name.endswith(".jsonl")}
    assert finished.items() <= whole.items()
    assert len(left) - len(finished) <= 1
    for text in finished.values():
        for line in text.splitlines():
            json.loads(line)


@pytest.mark.slow
def test_run_killed_at_ten_random_moments_ends_with_the_same_parameters_and_trajectories(runs, tmp_path):
    generator = random.Random(SEED)
    whole = tmp_path / "whole"
    seconds = runs.finish(whole)
    expected = trajectory_files(whole)
    assert expected.keys() == {f"{name}.jsonl" for name in (
        "step_000001", "step_000003", "step_000005", "eval_step_000002", "eval_step_000004", "eval_step_000006"
    )}  # fmt: skip
    for number in range(10):
        killed = tmp_path / f"killed-{number}"
        if number % 2:
            name, steps = generator.choice(WRITTEN)
            step = generator.choice(steps)
            moment = f"at {name.format(step)}"
            # A file that is there for an instant only may be missed: its finished one will do, or a later one.
            names = {name, name.removesuffix(".part")}
            paths = [killed / one.format(later) for later in steps if later >= step for one in names]
            runs.kill_when_there(killed, paths)
        else:
            delay = generator.uniform(0, seconds)
            moment = f"after {delay:.2f} of {seconds:.2f} s"
            runs.kill_after(killed, delay)
        print(f"killed {moment}; left: {sorted(path.name for path in killed.glob('*'))}")
        assert_well_formed(killed, expected)
        runs.finish(killed)
        assert trajectory_files(killed) == expected, moment
        assert last_parameters(killed) == last_parameters(whole), moment
