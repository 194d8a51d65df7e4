"""Batches computed by hand, by TRL's configuration and by a real training run."""

import pytest
from datasets import Dataset

from tspo_trl.dry_run import DryRunArguments, planned_config, planned_launch
from tspo_trl.dry_run.batch import plan_batches
from tspo_trl.dry_run.launch import Launch
from tspo_trl.rewards import exact_match_reward


def config(tmp_path, num_processes=1, **changes):
    return planned_config(num_processes)(output_dir=str(tmp_path), use_cpu=True, bf16=False, **changes)


def test_search_r1s_batch_on_eight_processes(tmp_path):
    changes = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4, "steps_per_generation": 40}
    plan = plan_batches(config(tmp_path, 8, num_generations=5, max_steps=10_050, **changes), 170_000)
    assert plan.completions_per_generation == 8 * 8 * 40 == 2560
    assert plan.questions_per_generation == 512
    assert plan.completions_per_step == 8 * 8 * 4 == 256
    assert plan.questions_per_step == 51.2
    assert plan.steps_per_generation == 10
    assert plan.steps_per_epoch == 170_000 // 512 * 10 == 3320
    assert plan.generations == 1005
    assert plan.rollouts == 1005 * 2560
    assert plan.epochs == pytest.approx(10_050 / 3320)


def test_steps_come_from_epochs_where_max_steps_is_not_set(tmp_path):
    plan = plan_batches(config(tmp_path, per_device_train_batch_size=8, num_generations=4, num_train_epochs=1.5), 10)
    # Two questions and one step per generation, five steps per epoch.
    assert (plan.questions_per_generation, plan.steps_per_epoch, plan.steps) == (2, 5, 8)


def test_every_generation_is_learned_from_num_iterations_times(tmp_path):
    changes = {"per_device_train_batch_size": 8, "num_generations": 4, "max_steps": 12}
    plan = plan_batches(config(tmp_path, num_iterations=3, **changes), 10)
    # Five generations of two questions, each with three steps.
    assert (plan.steps_per_generation, plan.steps_per_epoch, plan.generations) == (3, 15, 4)


def test_too_few_questions_for_one_generation_make_no_epoch(tmp_path):
    plan = plan_batches(config(tmp_path, per_device_train_batch_size=8, num_generations=4, max_steps=3), 1)
    assert plan.steps_per_epoch == 0


def test_optimizer_step_over_two_generations_is_refused(tmp_path):
    args = config(tmp_path, num_generations=4, gradient_accumulation_steps=3, steps_per_generation=4)
    with pytest.raises(
        ValueError, match=r"`steps_per_generation=4` .* not a multiple of `gradient_accumulation_steps=3`"
    ):
        plan_batches(args, 100)


def test_trls_own_checks_are_those_of_the_planned_number_of_processes(tmp_path):
    changes = {"per_device_train_batch_size": 3, "num_generations": 4}
    with pytest.raises(ValueError, match=r"generation_batch_size \(6\) must be divisible by num_generations \(4\)"):
        config(tmp_path, 2, **changes)
    assert config(tmp_path, 4, **changes).generation_batch_size == 12


@pytest.mark.slow
@pytest.mark.parametrize("num_iterations", [1, 2])
def test_training_takes_the_steps_and_generations_of_the_plan(make_trainer, num_iterations):
    generated = []

    def count(completions, **kwargs):
        generated.append(len(completions))
        return exact_match_reward(completions=completions, **kwargs)

    rows = Dataset.from_list([{"question": "What is the capital of France?", "golden_answers": ["Paris"]}] * 13)
    trainer = make_trainer(
        max_steps=-1,
        num_train_epochs=2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        steps_per_generation=4,
        num_iterations=num_iterations,
        trainer_kwargs={"train_dataset": rows, "reward_funcs": count},
    )
    plan = plan_batches(trainer.args, len(rows))
    trainer.train()
    # An epoch of 13 questions has three generations of four questions.
    assert plan.steps == 2 * 3 * 2 * num_iterations
    assert trainer.state.global_step == plan.steps
    assert len(generated) == plan.generations == 6
    assert sum(generated) == plan.rollouts


@pytest.mark.parametrize(
    ("environment", "launch"),
    [
        ({}, Launch(1, "single")),
        ({"WORLD_SIZE": "4"}, Launch(4, "ddp")),
        (
            {"WORLD_SIZE": "4", "ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
            Launch(4, "zero2"),
        ),
        ({"WORLD_SIZE": "2", "ACCELERATE_USE_FSDP": "true"}, Launch(2, "fsdp")),
    ],
)
def test_launch_is_read_from_what_accelerate_launch_sets(monkeypatch, environment, launch):
    for name in ("WORLD_SIZE", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert planned_launch(DryRunArguments()) == launch


def test_number_of_processes_can_be_given(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert planned_launch(DryRunArguments(dry_run_num_processes=8)) == Launch(8, "ddp")
    assert planned_launch(DryRunArguments(dry_run_num_processes=1)) == Launch(1, "single")
    with pytest.raises(ValueError, match="number of processes is 0"):
        planned_launch(DryRunArguments(dry_run_num_processes=0))
