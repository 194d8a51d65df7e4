"""The best checkpoint on held-out questions is kept and loaded, and a run that does not get better stops.

Transformers does both, with real evaluations. At every step the policy is replaced by one that always gives the same
answer, so that exact match is known. Of the four gold answers one is Paris and two are Rome.
"""

import shutil

import pytest
import torch
from datasets import Dataset
from transformers import EarlyStoppingCallback, TrainerCallback

from tspo_trl.trainer.checkpoints import ResumableTrainer, last_complete_checkpoint

from ..tiny_models import teach, tiny_qwen2

HELD_OUT = Dataset.from_list(
    [
        {"question": "What is the capital of France?", "golden_answers": [answer]}
        for answer in ("Paris", "Rome", "Rome", "Madrid")
    ]
)


class Answers(TrainerCallback):
    """Callback that sets the policy's answer at the end of each step."""

    def __init__(self, answers, policies):
        self.answers, self.policies = answers, policies

    def on_step_end(self, args, state, control, model=None, **kwargs):
        model.load_state_dict(self.policies[self.answers[state.global_step - 1]])


@pytest.fixture(scope="module")
def policies(tokenizer):
    """Parameters of a policy for each answer."""
    parameters = {}
    for answer in ("Paris", "Rome"):
        model = tiny_qwen2(tokenizer, num_hidden_layers=1)
        teach(model, tokenizer, ["?\n"], [f"<answer> {answer} </answer>"])
        parameters[answer] = model.state_dict()
    return parameters


@pytest.fixture
def make_selection(make_trainer, policies):
    """Build a trainer with one answer of the policy, one evaluation and one checkpoint per step."""

    def make(answers, patience=None, eval_dataset=HELD_OUT, trainer_kwargs=None, **changes):
        callbacks = [Answers(answers, policies), *([EarlyStoppingCallback(patience)] if patience else [])]
        settings = {
            "max_steps": len(answers),
            "learning_rate": 0.0,
            "per_device_train_batch_size": 4,
            "per_device_eval_batch_size": 4,
            "eval_strategy": "steps",
            "eval_steps": 1,
            "save_strategy": "steps",
            "save_steps": 1,
            "load_best_model_at_end": True,
            "metric_for_best_model": "exact_match",
            "restore_callback_states_from_checkpoint": True,
            **changes,
        }
        kwargs = {"eval_dataset": eval_dataset, "callbacks": callbacks, **(trainer_kwargs or {})}
        return make_trainer(trainer_kwargs=kwargs, **settings)

    return make


@pytest.fixture
def output_dir(tmp_path):
    return tmp_path / "out"


def scores(trainer, name="eval_exact_match"):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def checkpoints(output_dir):
    return sorted(path.name for path in output_dir.glob("checkpoint-*"))


def assert_has_loaded(trainer, policy):
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, policy[name]), name


def test_the_best_checkpoint_is_loaded_in_the_end(make_selection, policies, output_dir):
    trainer = make_selection(["Paris", "Rome", "Paris"])
    trainer.train()
    assert scores(trainer) == [0.25, 0.5, 0.25]
    assert trainer.state.best_metric == 0.5
    assert trainer.state.best_model_checkpoint == str(output_dir / "checkpoint-2")
    assert_has_loaded(trainer, policies["Rome"])


@pytest.mark.slow
def test_of_equal_checkpoints_the_first_is_the_best(make_selection):
    trainer = make_selection(["Paris", "Rome", "Rome"])
    trainer.train()
    assert trainer.state.best_global_step == 2


def test_a_run_that_does_not_get_better_stops(make_selection, policies):
    trainer = make_selection(["Rome", "Paris", "Paris", "Paris"], patience=2)
    trainer.train()
    assert scores(trainer) == [0.5, 0.25, 0.25]
    assert_has_loaded(trainer, policies["Rome"])


@pytest.mark.slow
def test_the_best_checkpoint_outlives_newer_ones(make_selection, output_dir):
    make_selection(["Rome", "Paris", "Paris", "Paris"], save_total_limit=2).train()
    assert checkpoints(output_dir) == ["checkpoint-1", "checkpoint-4"]


@pytest.mark.slow
def test_only_the_best_checkpoints_may_be_saved(make_selection, output_dir):
    trainer = make_selection(["Paris", "Paris", "Rome", "Paris"], save_strategy="best")
    trainer.train()
    assert checkpoints(output_dir) == ["checkpoint-1", "checkpoint-3"]
    assert last_complete_checkpoint(output_dir) == str(output_dir / "checkpoint-3")


@pytest.mark.slow
@pytest.mark.parametrize("killed_after", [2, 3])
def test_a_killed_run_knows_its_best_checkpoint_and_its_patience(make_selection, policies, output_dir, killed_after):
    answers = ["Paris", "Rome", "Paris", "Paris", "Paris"]
    make_selection(answers, patience=2).train()
    for step in range(killed_after + 1, 5):
        shutil.rmtree(output_dir / f"checkpoint-{step}")
    resumed = make_selection(answers, patience=2)
    resumed.train(resume_from_checkpoint=True)
    assert scores(resumed) == [0.25, 0.5, 0.25, 0.25]
    assert resumed.state.best_model_checkpoint == str(output_dir / "checkpoint-2")
    assert_has_loaded(resumed, policies["Rome"])


def test_a_run_that_was_not_to_stop_early_may_be_resumed_so(make_selection, output_dir):
    answers = ["Rome", "Paris", "Paris"]
    make_selection(answers, max_steps=1).train()
    resumed = make_selection(answers, patience=1)
    resumed.train(resume_from_checkpoint=True)
    assert scores(resumed) == [0.5, 0.25]
    assert checkpoints(output_dir) == ["checkpoint-1", "checkpoint-2"]


@pytest.mark.slow
def test_one_of_several_sets_may_select(make_selection):
    sets = {"city": HELD_OUT, "seat": HELD_OUT.select([0])}
    trainer = make_selection(["Rome", "Paris", "Rome"], eval_dataset=sets, metric_for_best_model="seat_exact_match")
    trainer.train()
    assert scores(trainer, "eval_seat_exact_match") == [0.0, 1.0, 0.0]
    assert trainer.state.best_global_step == 2


@pytest.mark.slow
def test_the_mean_over_data_sources_may_select(make_selection):
    sources = HELD_OUT.add_column("data_source", ["few", "many", "many", "many"])
    trainer = make_selection(["Rome", "Paris"], eval_dataset=sources, metric_for_best_model="macro/exact_match")
    trainer.train()
    # Rome is correct for 0 of 1 and 2 of 3 questions, Paris for 1 of 1 and 0 of 3.
    assert scores(trainer, "eval_macro/exact_match") == pytest.approx([1 / 3, 1 / 2])
    assert trainer.state.best_global_step == 2


@pytest.mark.slow
def test_a_trainer_of_grpo_selects_by_reward(make_selection, policies):
    def is_rome(completions, **kwargs):
        return [float("Rome" in completion) for completion in completions]

    questions = HELD_OUT.map(lambda row: {"prompt": row["question"] + "\n"}).select_columns("prompt")
    kwargs = {"retriever": None, "reward_funcs": is_rome, "train_dataset": questions}
    settings = {"trainer_class": ResumableTrainer, "eval_dataset": questions, "metric_for_best_model": "reward"}
    trainer = make_selection(
        ["Paris", "Rome", "Paris", "Paris"], 2, trainer_kwargs=kwargs, max_completion_length=24, **settings
    )
    trainer.train()
    assert scores(trainer, "eval_reward")[1] > max(scores(trainer, "eval_reward")[0::2])
    assert_has_loaded(trainer, policies["Rome"])
