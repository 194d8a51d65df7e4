"""The alarm detects a collapsing policy from its log entries, warns once, and can stop training."""

import logging
import math
from copy import deepcopy
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainerState
from transformers.trainer_callback import TrainerControl

from tspo_trl.trainer.callbacks import Alarm, CollapseAlarm

from ..tiny_models import save, teach, tiny_qwen2

SOUND = {
    "rollout/turns": 2.5, "rollout/searches": 1.5, "rollout/queries": 1.5, "rollout/duplicate_queries": 0.1,
    "rollout/invalid_actions": 0.1, "rollout/end/answered": 0.9, "rollout/end/max_turns": 0.05,
    "rollout/end/max_length": 0.0, "rollout/end/no_action": 0.05, "rollout/end/search_failed": 0.0,
    "tspo/groups_without_signal": 0.3, "entropy": 0.4,
}  # fmt: skip


class Run:
    """The trainer's part of a run: it keeps the log entries and passes each to the callback."""

    def __init__(self, state=None, **arguments):
        self.callback = CollapseAlarm(**{"patience": 3, **arguments})
        self.state, self.control = state or TrainerState(is_world_process_zero=True), TrainerControl()
        self.callback.on_train_begin(SimpleNamespace(max_turns=2), self.state, self.control)

    def log(self, *entries):
        for entry in entries:
            self.state.global_step += 10
            self.state.log_history.append({**entry, "step": self.state.global_step})
            self.callback.on_log(None, self.state, self.control, logs=dict(entry))
        return self

    @property
    def alarms(self):
        return [(alarm.name, alarm.step) for alarm in self.callback.alarms]


def entry(metric, value):
    return {**SOUND, metric: value}


def entries(metric, values):
    return [entry(metric, value) for value in values]


def test_a_sound_run_raises_no_alarm():
    assert Run().log(*[SOUND] * 20).alarms == []


@pytest.mark.parametrize(
    ("name", "metric", "value"),
    [
        ("rollout/searches", "rollout/searches", 0.09),
        ("most searches", "rollout/searches", 1.91),  # of two turns
        ("valid turns", "rollout/invalid_actions", 1.5),  # of 2.5: 40% are valid, 96% were
        ("rollout/end/answered", "rollout/end/answered", 0.44),
        ("rollout/end/max_turns", "rollout/end/max_turns", 0.51),
        ("rollout/end/max_length", "rollout/end/max_length", 0.51),
        ("rollout/end/no_action", "rollout/end/no_action", 0.51),
        ("rollout/end/search_failed", "rollout/end/search_failed", 0.51),
        ("duplicate queries", "rollout/duplicate_queries", 0.8),  # of 1.5 queries
        ("low entropy", "entropy", 0.009),
        ("high entropy", "entropy", 1.21),
        ("tspo/groups_without_signal", "tspo/groups_without_signal", 0.96),
    ],
)
def test_an_alarm_is_raised_when_a_value_has_been_past_its_threshold_for_long_enough(name, metric, value):
    run = Run().log(*[SOUND] * 3, *entries(metric, [value] * 2))
    assert run.alarms == []
    assert run.log(entry(metric, value)).alarms == [(name, 60)]


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("rollout/searches", 0.1),
        ("rollout/searches", 1.9),
        ("rollout/invalid_actions", 1.2),  # 52% are valid
        ("rollout/end/answered", 0.46),
        ("rollout/end/max_turns", 0.5),
        ("rollout/duplicate_queries", 0.7),
        ("entropy", 0.01),
        ("entropy", 1.19),
        ("tspo/groups_without_signal", 0.95),
    ],
)
def test_no_alarm_is_raised_up_to_the_threshold(metric, value):
    assert Run().log(*[SOUND] * 3, *entries(metric, [value] * 9)).alarms == []


@pytest.mark.parametrize(
    ("name", "metric", "value"),
    [
        ("rollout/searches", "rollout/searches", 0.0),
        ("valid turns", "rollout/invalid_actions", 2.4),
        ("rollout/end/answered", "rollout/end/answered", 0.05),
        ("tspo/groups_without_signal", "tspo/groups_without_signal", 1.0),
    ],
)
def test_a_policy_that_was_so_from_the_beginning_is_told_too(name, metric, value):
    assert Run().log(*entries(metric, [value] * 3)).alarms == [(name, 30)]


def test_a_policy_that_begins_badly_and_learns_raises_no_alarm():
    assert Run().log(*entries("rollout/end/answered", [0.05, 0.08, 0.12, 0.1, 0.2, 0.4, 0.8, 0.9])).alarms == []


def test_answers_and_valid_turns_are_compared_with_the_best_of_the_run_not_with_its_beginning():
    learned = entries("rollout/end/answered", [0.2] * 3 + [0.8] * 3)
    assert Run().log(*learned, *entries("rollout/end/answered", [0.39] * 3)).alarms == [("rollout/end/answered", 90)]
    assert Run().log(*learned, *entries("rollout/end/answered", [0.41] * 3)).alarms == []


@pytest.mark.parametrize("lucky", [0, 2])
def test_one_lucky_entry_is_not_the_best_of_the_run(lucky):
    values = [0.3] * 7
    values[lucky] = 0.9  # the best mean of three is 0.5
    assert Run().log(*entries("rollout/end/answered", values)).alarms == []


def test_entropy_is_compared_with_the_beginning_of_the_run_not_with_what_it_grew_to():
    grown = entries("entropy", [0.4] * 3 + [0.6] * 3 + [0.9] * 3)
    assert Run().log(*grown, *entries("entropy", [1.3] * 3)).alarms == [("high entropy", 120)]


def test_a_policy_with_high_entropy_from_the_beginning_does_not_explode():
    assert Run().log(*entries("entropy", [2.0] * 9)).alarms == []


def test_low_entropy_may_grow_to_that_of_ordinary_text():
    assert Run().log(*entries("entropy", [0.02] * 3 + [0.99] * 9)).alarms == []


def test_two_hops_in_two_turns_from_the_beginning_are_no_alarm():
    # Rollouts search in all their turns, and then answer.
    assert Run().log(*entries("rollout/searches", [1.8] * 3 + [2.0] * 9)).alarms == []


def test_a_trainer_without_turns_has_no_most_searches():
    run = Run()
    run.callback.on_train_begin(SimpleNamespace(), run.state, run.control)
    assert run.log(*entries("rollout/searches", [1.0] * 3 + [9.0] * 9)).alarms == []


def test_a_value_that_comes_back_in_between_raises_no_alarm():
    assert Run().log(*entries("rollout/searches", [0, 0, 0.5] * 5)).alarms == []


def test_an_alarm_is_raised_once_until_the_value_recovers():
    run = Run().log(*entries("rollout/searches", [0] * 9))
    assert run.alarms == [("rollout/searches", 30)]
    run.log(SOUND, *entries("rollout/searches", [0] * 3))
    assert run.alarms == [("rollout/searches", 30), ("rollout/searches", 130)]


@pytest.mark.parametrize(
    "gap",
    [{}, {"loss": 0.1}, {"rollout/searches": None}, {"rollout/searches": math.nan}, {"eval_rollout/searches": 2.0}],
)
def test_entries_without_the_value_neither_count_nor_interrupt(gap):
    no_searches = {"rollout/searches": 0.0}
    run = Run().log(*[gap] * 9, no_searches, gap, no_searches, gap)
    assert run.alarms == []
    assert run.log(no_searches).alarms == [("rollout/searches", 140)]


def test_evaluations_are_not_looked_at():
    assert Run().log(*[{f"eval_{metric}": 0.0 for metric in SOUND}] * 9).alarms == []


def test_rollouts_without_a_query_have_no_duplicates():
    run = Run(min_searches=0).log(*[{**SOUND, "rollout/queries": 0.0, "rollout/duplicate_queries": 0.0}] * 9)
    assert run.alarms == []


@given(st.lists(st.sampled_from([0.0, 0.05, 0.2, 1.0, math.nan, None]), max_size=40), st.integers(0, 40))
def test_a_resumed_run_raises_the_alarms_of_one_that_was_not_interrupted(values, cut):
    whole = Run().log(*entries("rollout/end/answered", values))
    before = Run().log(*entries("rollout/end/answered", values[:cut]))
    resumed = Run(state=before.state).log(*entries("rollout/end/answered", values[cut:]))
    assert resumed.callback.alarms == whole.callback.alarms


def test_a_second_training_begins_anew():
    run = Run().log(*entries("rollout/searches", [0] * 2))
    run.state = TrainerState(is_world_process_zero=True)
    run.callback.on_train_begin(SimpleNamespace(max_turns=2), run.state, run.control)
    assert run.log(*entries("rollout/searches", [0] * 2)).alarms == []


# Warnings and stopping


def test_the_warning_names_value_threshold_step_and_remedy(caplog):
    Run().log(*[SOUND] * 3, *entries("rollout/searches", [0.02] * 5))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "COLLAPSE at step 60: rollout/searches is 0.02, below 0.1, for 3 log entries." in record.message
    assert "Rollouts answer without a search." in record.message
    assert "go back to an earlier checkpoint with a lower `learning_rate`" in record.message
    assert "`output_dir/trajectories`" in record.message
    assert "Training stops" not in record.message


def test_every_alarm_has_its_advice(caplog):
    bad = dict.fromkeys(SOUND, 0.0) | {"rollout/turns": 1.0, "rollout/invalid_actions": 1.0}
    bad |= {"rollout/queries": 1.0, "rollout/duplicate_queries": 1.0, "tspo/groups_without_signal": 1.0}
    bad |= {f"rollout/end/{end}": 1.0 for end in ("max_turns", "max_length", "no_action", "search_failed")}
    wild = {**SOUND, "entropy": 9.0, "rollout/searches": 2.0}
    run = Run().log(*[SOUND] * 3, *[bad] * 3, *[wild] * 3)
    assert len(run.callback.alarms) == 12
    assert len({record.message.split("entries. ")[1] for record in caplog.records}) >= 10


def test_other_processes_say_nothing_and_decide_alike(caplog):
    run = Run(state=TrainerState(is_world_process_zero=False), stop=True)
    run.log(*entries("rollout/searches", [0] * 3))
    assert caplog.text == ""
    assert run.alarms == [("rollout/searches", 30)]
    assert run.control.should_training_stop


def test_training_goes_on_by_default():
    assert not Run().log(*entries("rollout/searches", [0] * 9)).control.should_training_stop


def test_training_stops_if_wanted_and_the_warning_says_so(caplog):
    run = Run(stop=True).log(*entries("rollout/searches", [0] * 2))
    assert not run.control.should_training_stop
    assert run.log(entry("rollout/searches", 0)).control.should_training_stop
    assert not run.control.should_save
    assert "Training stops." in caplog.text


def test_a_run_that_is_resumed_after_its_alarm_stops_again_unless_it_has_recovered(caplog):
    stopped = Run(stop=True).log(*entries("rollout/searches", [0] * 3))
    recovered = Run(state=deepcopy(stopped.state), stop=True).log(SOUND)
    assert not recovered.control.should_training_stop
    caplog.clear()
    again = Run(state=stopped.state, stop=True).log(entry("rollout/searches", 0))
    assert again.control.should_training_stop
    assert "COLLAPSE at step 40" in caplog.text
    assert again.alarms == [("rollout/searches", 30)]


@pytest.mark.parametrize("value", [0, -1, 2.5, "3"])
def test_patience_is_a_number_of_log_entries(value):
    with pytest.raises(ValueError, match="`patience` must be a whole number of at least 1"):
        CollapseAlarm(patience=value)


@pytest.mark.parametrize("name", ["min_searches", "min_valid", "min_share_of_best", "max_end", "max_entropy_growth"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_thresholds_are_finite_and_not_negative(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be a finite number of at least 0"):
        CollapseAlarm(**{name: value})


# In training


@pytest.fixture(scope="module")
def silent_model_path(tmp_path_factory, tokenizer):
    """Folder of a tiny model that answers without a search."""
    model = tiny_qwen2(tokenizer, num_hidden_layers=1)
    teach(model, tokenizer, ["?\n"], ["<answer> Paris </answer>", "<answer> Rome </answer>"])
    return save(model, tokenizer, tmp_path_factory.mktemp("model") / "silent-qwen2")


@pytest.mark.parametrize("patience", [2, 3])
def test_training_of_a_policy_that_does_not_search_stops_and_adds_no_checkpoint(
    make_trainer, silent_model_path, tmp_path, patience
):
    callback = CollapseAlarm(patience=patience, stop=True)
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2}
    trainer = make_trainer(model=silent_model_path, trainer_kwargs={"callbacks": [callback]}, **settings)
    trainer.train()
    assert trainer.state.global_step == patience
    assert Alarm("rollout/searches", patience, 0.0, 0.1) in callback.alarms
    assert [path.name for path in (tmp_path / "out").glob("checkpoint-*")] == ["checkpoint-2"]


def test_a_killed_run_remembers_what_was_logged_before(make_trainer, silent_model_path):
    settings = {"model": silent_model_path, "max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    callbacks = [CollapseAlarm(patience=2), CollapseAlarm(patience=2)]
    make_trainer(**{**settings, "max_steps": 1}, trainer_kwargs={"callbacks": callbacks[:1]}).train()
    assert callbacks[0].alarms == []
    make_trainer(**settings, trainer_kwargs={"callbacks": callbacks[1:]}).train(resume_from_checkpoint=True)
    assert callbacks[1].alarms[0] == Alarm("rollout/searches", 2, 0.0, 0.1)


def test_a_run_without_retriever_is_watched_by_what_it_logs(make_trainer, dataset):
    callback = CollapseAlarm(patience=1, min_entropy=100.0)
    kwargs = {"retriever": None, "train_dataset": dataset.rename_column("question", "prompt"), "callbacks": [callback]}
    trainer = make_trainer(
        trainer_kwargs=kwargs, max_steps=1, alpha=0.0, turn_level_groups="never", max_completion_length=8
    )
    trainer.train()
    assert [alarm.name for alarm in callback.alarms] == ["low entropy"]
