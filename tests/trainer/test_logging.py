"""`log_completions` in real training, with and without search, and its side effects."""

import sys

import pandas as pd
import pytest
from datasets import Dataset
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def no_reward(completions, **kwargs):
    return [0.0] * len(completions)


def completions(tmp_path, step):
    return pd.read_parquet(tmp_path / "out" / "completions" / f"completions_{step:05d}.parquet")


def recording(trainer):
    """Return a list to which the trainer appends the tables of turns that it logs."""
    tables, log_turns = [], trainer._log_turns

    def log_and_keep(mode, columns):
        tables.append(trainer._turn_tables.turns(mode, trainer.state.global_step))
        log_turns(mode, columns)

    trainer._log_turns = log_and_keep
    return tables


def log_a_batch(trainer):
    """Generate, score and log a batch without an optimizer step, at step 0."""
    inputs = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    trainer._generate_and_score_completions(inputs)
    trainer.log({})


def test_without_log_completions_and_log_trajectories_there_are_no_tables_and_files(make_trainer, tmp_path):
    trainer = make_trainer(max_steps=1, log_trajectories=False)
    tables = recording(trainer)
    trainer.train()
    assert tables == []
    assert not (tmp_path / "out" / "completions").exists()
    assert not (tmp_path / "out" / "trajectories").exists()
    assert not trainer._turn_tables.completion_columns()


@pytest.mark.parametrize("changes", [{"log_trajectories": False}, {"alpha": 0.0, "turn_level_groups": "never"}])
def test_kind_agrees_with_reward_and_first_occurrence(make_trainer, tmp_path, changes):
    log_a_batch(make_trainer(log_completions=True, **changes))
    table = completions(tmp_path, 0)
    assert set(table["question"]) == {"What is the capital of France?"}
    assert (tmp_path / "out" / "trajectories").exists() == changes.get("log_trajectories", True)
    names = {
        (0.0, False): "complete_failure",
        (0.0, True): "near_miss",
        (1.0, True): "complete_success",
        (1.0, False): "success_without_retrieval",
    }
    pairs = zip(table["exact_match_reward"], ~table["first_occurrence"].isna(), strict=True)
    assert list(table["kind"]) == [names[pair] for pair in pairs]
    assert len(set(table["kind"])) > 1
    assert [sum(row) / len(row) for row in table["turn_advantages"]] == pytest.approx(table["advantage"], abs=1e-4)


def test_search_without_gold_answers_is_of_no_kind(make_trainer, tmp_path):
    rows = Dataset.from_list([{"question": "Capital?"}] * 4)
    kwargs = {"train_dataset": rows, "reward_funcs": no_reward}
    log_a_batch(make_trainer(log_completions=True, trainer_kwargs=kwargs))
    table = completions(tmp_path, 0)
    assert table["kind"].isna().all()
    assert table["golden_answers"].isna().all()
    assert all(len(row) > 0 for row in table["turn_advantages"])


def test_table_of_rollouts_that_are_not_credited_is_trls(make_trainer, tmp_path):
    rows = Dataset.from_list([{"prompt": "capital?"}] * 4)
    kwargs = {"train_dataset": rows, "retriever": None, "reward_funcs": no_reward}
    trainer = make_trainer(log_completions=True, trainer_kwargs=kwargs, max_completion_length=24)
    tables = recording(trainer)
    log_a_batch(trainer)
    assert list(completions(tmp_path, 0).columns) == ["step", "prompt", "completion", "no_reward", "advantage"]
    assert tables == []


def test_rows_of_rollouts_that_are_not_credited_stay_in_their_places(make_trainer, tokenizer, tmp_path):
    """TRL generates the rollouts. Training has gold answers, the evaluation has not."""

    def rollout_func(prompts, trainer):
        ids = tokenizer("<answer> Paris </answer>")["input_ids"]
        return {"prompt_ids": [[5, 6]] * len(prompts), "completion_ids": [ids] * len(prompts), "logprobs": None}

    kwargs = {
        "train_dataset": Dataset.from_list([{"prompt": "train", "question": "q", "golden_answers": ["Paris"]}] * 4),
        "eval_dataset": Dataset.from_list([{"prompt": "eval"}] * 2),
        "reward_funcs": no_reward,
        "retriever": None,
        "rollout_func": rollout_func,
    }
    settings = {"num_generations": 2, "per_device_train_batch_size": 6, "per_device_eval_batch_size": 4}
    settings["num_completions_to_print"] = 1
    settings |= {"eval_strategy": "steps", "eval_steps": 1}
    trainer = make_trainer(log_completions=True, trainer_kwargs=kwargs, **settings)
    tables = recording(trainer)
    trainer.train()
    for step in (1, 2):
        table = completions(tmp_path, step)
        assert list(table["prompt"]) == ["train"] * 2 + ["eval"] * 4
        assert list(table["mode"].fillna("")) == ["train"] * 2 + [""] * 4
    assert [len(table) for table in tables] == [6, 6]


def test_trackers_that_are_not_used_are_not_imported_and_trls_logs_are_left_alone(make_trainer, tmp_path, monkeypatch):
    for name in ("wandb", "trackio", "tensorboard", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    trainer = make_trainer(max_steps=1, log_completions=True, num_completions_to_print=1)
    trainer.train()
    assert "kind" in completions(tmp_path, 1)
    assert trainer.num_completions_to_print == 1
    assert not trainer._logs["extra"]
    assert trainer._logs["completion"].maxlen == 16


def test_trls_logs_are_left_as_they_were_when_logging_fails(make_trainer, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no space left on device")

    trainer = make_trainer(log_completions=True, num_completions_to_print=1)
    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail)
    with pytest.raises(OSError, match="no space"):
        log_a_batch(trainer)
    assert trainer.num_completions_to_print == 1
    assert not trainer._logs["extra"]


def test_evaluation_that_fills_the_table_leaves_no_turns_of_training(make_trainer, dataset):
    """Step 2 uses the rollouts of step 1 again. When it logs, the table has the rollouts of the evaluation."""
    settings = {"num_iterations": 2, "logging_steps": 2, "eval_strategy": "steps", "eval_steps": 1}
    settings |= {"per_device_train_batch_size": 4, "per_device_eval_batch_size": 4, "num_generations_eval": 1}
    settings["report_to"] = "tensorboard"  # which shows groups, if there are any
    trainer = make_trainer(log_completions=True, trainer_kwargs={"eval_dataset": dataset}, **settings)
    tables = recording(trainer)
    trainer.train()
    assert [set(table["mode"]) if len(table) else None for table in tables] == [{"eval"}, None, {"eval"}]


def test_rollouts_that_serve_for_several_steps_have_their_turns_logged_once(make_trainer):
    trainer = make_trainer(max_steps=3, num_iterations=2, log_completions=True, num_completions_to_print=0)
    tables = recording(trainer)
    trainer.train()
    assert [set(table["step"]) for table in tables] == [{1}, {3}]


def test_resumed_run_goes_on_with_its_texts_in_tensorboard(make_run, tmp_path):
    settings = {"log_completions": True, "num_completions_to_print": 1, "report_to": "tensorboard"}
    make_run("out", max_steps=1, **settings).train()
    make_run("out", max_steps=2, **settings).train(resume_from_checkpoint=True)
    steps = []
    for events in sorted((tmp_path / "out" / "runs").glob("*/events.out.tfevents.*")):
        steps += [event.step for event in EventAccumulator(str(events)).Reload().Tensors("train/turns/text_summary")]
    assert steps == [1, 2]
