"""`TSPOTrainer.evaluate`: greedy rollouts, and scores over questions."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback

from tspo_trl.trainer.evaluation import EvaluationScores, greedy_evaluation
from tspo_trl.trajectory import Trajectory, Turn

QUESTIONS = Dataset.from_list(
    [
        {
            "id": str(number),
            "question": f"Number {number}, what is the capital of France?",
            "golden_answers": ["Paris"] if number % 2 else ["Rome"],
            "data_source": "odd" if number % 2 else "even",
        }
        for number in range(6)
    ]
)
SCORES = {"exact_match", "f1", "cover_exact_match", "retrieval_recall", "near_miss", "searches"}


class Kept(TrainerCallback):
    """Callback that records the metrics of each evaluation."""

    def __init__(self):
        self.metrics = []

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        self.metrics.append(dict(metrics))


class DrawsOne(TrainerCallback):
    """Callback that draws a random number at the end of each step."""

    def on_step_end(self, args, state, control, **kwargs):
        torch.empty((), dtype=torch.int64).random_()


@pytest.fixture
def trainer(make_trainer):
    return make_trainer(per_device_eval_batch_size=4, trainer_kwargs={"eval_dataset": QUESTIONS})


def files(trainer):
    paths = sorted(trainer._trajectory_files._folder.glob("eval*.jsonl"))
    return [[json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] for path in paths]


def answered(prediction, *, evidence=None, end_reason="answered"):
    turn = Turn("", (0, 1), action="search", queries=("q",), evidence=evidence)
    answer = Turn("", (1, 2), action="answer", content=prediction)
    return Trajectory((turn, answer) if evidence else (answer,), end_reason)


def break_off_at_the_second_batch(trainer):
    predict = trainer.prediction_step
    batches = iter([predict])

    def step(*args, **kwargs):
        if (first := next(batches, None)) is None:
            raise KeyboardInterrupt
        return first(*args, **kwargs)

    return step


def test_evaluation_is_the_same_every_time_and_training_samples_as_before(trainer):
    before = trainer.num_generations_eval, trainer.generation_config.do_sample
    trainer.evaluate(metric_key_prefix="eval_one")
    trainer.evaluate(metric_key_prefix="eval_two")
    assert (trainer.num_generations_eval, trainer.generation_config.do_sample) == before == (4, True)
    one, two = files(trainer)
    assert [record["turns"] for record in one] == [record["turns"] for record in two]


def test_sampled_evaluation_makes_several_rollouts_of_each_question(make_trainer):
    trainer = make_trainer(
        greedy_evaluation=False,
        num_generations_eval=2,
        per_device_eval_batch_size=4,
        trainer_kwargs={"eval_dataset": QUESTIONS},
    )
    metrics = trainer.evaluate()
    (records,) = files(trainer)
    assert len(records) == 12
    assert metrics["eval_exact_match"] == sum(record["outcome"] for record in records) / 12


def test_each_question_is_answered_once_and_metrics_are_means_over_the_questions(trainer):
    metrics = trainer.evaluate()
    (records,) = files(trainer)
    assert sorted(record["id"] for record in records) == ["0", "1", "2", "3", "4", "5"]
    # A mean over questions. The batches have four questions and two.
    assert metrics["eval_exact_match"] == pytest.approx(sum(record["outcome"] for record in records) / 6)
    near = [not record["outcome"] and record["first_occurrence"] is not None for record in records]
    assert metrics["eval_near_miss"] == pytest.approx(sum(near) / 6)
    assert {name.removeprefix("eval_") for name in metrics} >= SCORES
    # Means over the questions of each data source.
    means = {
        source: sum(record["outcome"] for record in records if record["data_source"] == source) / 3
        for source in ("odd", "even")
    }
    assert metrics["eval_odd/exact_match"] == means["odd"]
    assert metrics["eval_even/exact_match"] == means["even"]
    assert metrics["eval_macro/exact_match"] == (means["odd"] + means["even"]) / 2


def test_metrics_reach_callbacks_and_the_log(make_trainer):
    kept = Kept()
    trainer = make_trainer(
        eval_strategy="steps",
        eval_steps=1,
        max_steps=1,
        per_device_eval_batch_size=8,
        trainer_kwargs={"eval_dataset": QUESTIONS, "callbacks": [kept]},
    )
    trainer.train()
    assert 0 <= kept.metrics[0]["eval_exact_match"] <= 1
    assert any("eval_exact_match" in entry for entry in trainer.state.log_history)


def test_several_datasets_have_their_own_prefixes(make_trainer):
    datasets = {"one": QUESTIONS.select([0, 1]), "two": QUESTIONS.select([2, 3, 4, 5])}
    metrics = make_trainer(per_device_eval_batch_size=4, trainer_kwargs={"eval_dataset": datasets}).evaluate()
    assert {"eval_one_exact_match", "eval_two_exact_match"} <= set(metrics)


def test_training_with_evaluations_draws_one_random_number_more_for_each(make_trainer):
    """Torch's data loader draws it, in TRL's own evaluation, too."""
    parameters = []
    for evaluates in (True, False):
        settings = {"eval_strategy": "steps", "eval_steps": 1} if evaluates else {}
        trainer = make_trainer(
            max_steps=2,  # the second step shows what the first evaluation drew
            per_device_eval_batch_size=8,
            trainer_kwargs={"eval_dataset": QUESTIONS.select([0, 1])},
            **settings,
        )
        if not evaluates:
            trainer.add_callback(DrawsOne())
        trainer.train()
        parameters.append(trainer.model.state_dict())
    for name, value in parameters[0].items():
        assert torch.equal(value, parameters[1][name]), name


def test_evaluation_that_fails_leaves_the_trainer_as_it_was(trainer, monkeypatch):
    monkeypatch.setattr(trainer, "get_eval_dataloader", lambda dataset: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.evaluate()
    assert (trainer.num_generations_eval, trainer.generation_config.do_sample) == (4, True)


def test_scores_of_one_evaluation_do_not_enter_the_next(trainer):
    first = trainer.evaluate()
    second = trainer.evaluate(eval_dataset=QUESTIONS.select([0, 1]))
    (records,) = files(trainer)  # the second replaced the file of the first
    assert len(records) == 2
    assert second["eval_exact_match"] == sum(record["outcome"] for record in records) / 2
    assert "eval_odd/exact_match" in first


def test_rollouts_of_an_evaluation_that_was_broken_off_do_not_enter_the_next(trainer, monkeypatch):
    monkeypatch.setattr(trainer, "prediction_step", break_off_at_the_second_batch(trainer))
    with pytest.raises(KeyboardInterrupt):
        trainer.evaluate()
    monkeypatch.undo()
    metrics = trainer.evaluate()
    (records,) = files(trainer)
    assert sorted(record["id"] for record in records) == ["0", "1", "2", "3", "4", "5"]
    assert metrics["eval_exact_match"] == sum(record["outcome"] for record in records) / 6


def test_rollouts_of_a_prediction_do_not_enter_the_next_evaluation(trainer):
    trainer.predict(QUESTIONS)
    trainer.evaluate()
    (records,) = files(trainer)
    assert sorted(record["id"] for record in records) == ["0", "1", "2", "3", "4", "5"]


def test_completions_of_trls_own_generation_have_no_prediction_and_no_scores(make_trainer):
    rows = Dataset.from_list([{"prompt": "What is the capital of France?\n", "golden_answers": ["Paris"]}] * 4)
    kwargs = {"retriever": None, "train_dataset": rows, "eval_dataset": rows}
    settings = {"alpha": 0.0, "turn_level_groups": "never", "max_completion_length": 8}
    metrics = make_trainer(trainer_kwargs=kwargs, per_device_eval_batch_size=4, **settings).evaluate()
    assert "eval_reward" in metrics
    assert not {name.removeprefix("eval_") for name in metrics} & SCORES


@pytest.mark.slow
def test_two_processes_count_every_question_once(tmp_path, searching_model_path, index_path):
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS.select(range(5))), encoding="utf-8")
    script = Path(__file__).parents[1] / "training_runs" / "evaluation_run.py"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    arguments = map(str, (searching_model_path, index_path, questions, tmp_path))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [*launch, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    one, other = (json.loads((tmp_path / f"metrics_{rank}.json").read_text(encoding="utf-8")) for rank in range(2))
    (path,) = (tmp_path / "trajectories").glob("eval*.jsonl")
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert sorted(record["id"] for record in records) == ["0", "1", "2", "3", "4"]
    right = {source: [r["outcome"] for r in records if r["data_source"] == source] for source in ("odd", "even")}
    for metrics in (one, other):
        assert metrics["eval_exact_match"] == pytest.approx(sum(map(sum, right.values())) / 5)
        for source, outcomes in right.items():
            assert metrics[f"eval_{source}/exact_match"] == pytest.approx(sum(outcomes) / len(outcomes))
    assert 0 < one["eval_exact_match"] < 1  # otherwise this does not detect questions that count twice


def test_dataset_without_gold_answers_has_no_scores(make_trainer):
    rows = Dataset.from_list([{"question": "Who?"}] * 4)
    trainer = make_trainer(
        trainer_kwargs={
            "train_dataset": rows,
            "eval_dataset": rows,
            "reward_funcs": lambda completions, **kwargs: [0.0] * len(completions),
        },
        per_device_eval_batch_size=4,
    )
    assert "eval_exact_match" not in trainer.evaluate()


def test_failed_search_is_in_no_mean():
    scores = EvaluationScores()
    rows = [{"golden_answers": ["Paris"]}] * 3
    trajectories = [answered("Paris"), answered("Rome", evidence="Paris"), answered(None, end_reason="search_failed")]
    scores.add(trajectories, rows, [-1, 0, -1])
    means = scores.means(None, "eval")
    assert means["eval_exact_match"] == 1 / 2
    assert means["eval_near_miss"] == 1 / 2
    assert means["eval_searches"] == 1 / 2


def test_means_are_not_a_number_where_every_search_failed():
    scores = EvaluationScores()
    scores.add([answered(None, end_reason="search_failed")], [{"golden_answers": ["Paris"]}], [-1])
    assert math.isnan(scores.means(None, "eval")["eval_exact_match"])


def test_source_whose_searches_all_failed_keeps_its_names():
    """Without these metrics transformers raises a `KeyError` when it chooses the best checkpoint."""
    scores = EvaluationScores()
    rows = [{"golden_answers": ["Paris"], "data_source": source} for source in ("nq", "popqa")]
    scores.add([answered("Paris"), answered(None, end_reason="search_failed")], rows, [-1, -1])
    means = scores.means(None, "eval")
    assert (means["eval_exact_match"], means["eval_nq/exact_match"]) == (1.0, 1.0)
    assert math.isnan(means["eval_popqa/exact_match"])
    assert math.isnan(means["eval_macro/exact_match"])


def test_rollouts_that_fill_up_the_last_batch_do_not_count():
    scores = EvaluationScores()
    rows = [{"golden_answers": ["Paris"]}] * 4
    scores.add([answered("Paris"), answered("Rome"), answered("Paris"), answered("Paris")], rows, [-1] * 4)
    assert scores.means(2, "eval")["eval_exact_match"] == 1 / 2
    assert scores.means(None, "eval")["eval_exact_match"] == 3 / 4


@pytest.mark.parametrize("stops", [{}, {"stop": ["</search>"], "include_stop_str_in_output": True}])
@pytest.mark.parametrize(
    "penalties",
    [{}, {"temperature": 0.7, "seed": 1, "repetition_penalty": 2.0, "min_tokens": 9}, {"logit_bias": {7: 100.0}}],
)
def test_vllm_decodes_greedily_whatever_the_users_generation_kwargs(stops, penalties):
    own = {**stops, **penalties}
    vllm = SimpleNamespace(repetition_penalty=2.0, generation_kwargs=own, structured_outputs_regex="a+")
    trainer = SimpleNamespace(use_vllm=True, vllm_generation=vllm, num_generations_eval=4)
    with greedy_evaluation(trainer):
        assert vllm.generation_kwargs == {
            **stops, "temperature": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0
        }  # fmt: skip
        assert vllm.structured_outputs_regex is None
        assert trainer.num_generations_eval == 1
    assert (vllm.generation_kwargs, vllm.structured_outputs_regex) == (own, "a+")
    assert trainer.num_generations_eval == 4
