"""Bad input is refused before a model loads, with the argument, its value and the remedy in the message."""

import pytest
from datasets import Dataset, IterableDataset
from trl import GRPOConfig

from tspo_trl import TagProtocol, TSPOConfig, TSPOTrainer

GOOD_ROW = {"question": "What is the capital of France?", "golden_answers": ["Paris"]}


class NoRetriever:
    """Retriever that is never called, because every case fails earlier."""

    def search(self, queries, k):
        raise AssertionError


def config(tmp_path, **changes):
    return TSPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", **changes)


def build(tmp_path, rows=(GOOD_ROW,), retriever=NoRetriever(), args=None, dataset=None, **kwargs):  # noqa: B008
    """Build a trainer for a model that does not exist. If no check fails, loading the model does."""
    return TSPOTrainer(
        model=str(tmp_path / "no-such-model"),
        args=args or config(tmp_path),
        train_dataset=dataset if dataset is not None else Dataset.from_list(list(rows)),
        retriever=retriever,
        **kwargs,
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("credit", "last"),
        ("turn_level_groups", "some"),
        ("turn_baseline", "none"),
        ("absent_turns", "mean"),
        ("match", "regex"),
        ("alpha", -0.1),
        ("alpha", float("nan")),
        ("success_threshold", float("inf")),
        ("max_turns", 0),
        ("max_turn_length", 0),
        ("max_feedback_length", -5),
        ("search_top_k", 0),
        ("search_top_k", 2.5),
        ("num_generations", 1),
    ],
)
def test_unknown_or_impossible_option_is_refused_by_the_configuration(tmp_path, option, value):
    with pytest.raises(ValueError, match=rf"`{option}` must .*{value}"):
        config(tmp_path, **{option: value})


@pytest.mark.parametrize("retriever", ["indexes/mine", NoRetriever, object()])
def test_what_cannot_search_is_refused(tmp_path, retriever):
    with pytest.raises(TypeError, match=r"`retriever` is .* has no `search\(queries, k\)`. Pass a retriever such as"):
        build(tmp_path, retriever=retriever)


@pytest.mark.parametrize("columns", [{"query": "q", "golden_answers": ["a"]}])
def test_missing_question_is_refused(tmp_path, columns):
    with pytest.raises(ValueError, match=r"`train_dataset` has neither a `question` nor a `prompt` .*'query'.*Rename"):
        build(tmp_path, rows=[columns])


def test_missing_golden_answers_are_refused_where_the_reward_needs_them(tmp_path):
    with pytest.raises(
        ValueError, match=r"`train_dataset` has no `golden_answers` column. Its columns are \['question'\]"
    ):
        build(tmp_path, rows=[{"question": "q"}])


@pytest.mark.parametrize("golden_answers", [[], [""], ["Paris", "  "], None])
def test_empty_golden_answers_are_refused_with_their_row(tmp_path, golden_answers):
    rows = [GOOD_ROW, {"question": "q", "golden_answers": golden_answers}]
    with pytest.raises(ValueError, match=r"`golden_answers` in row 1 .*Fix or drop that row"):
        build(tmp_path, rows=rows)


def test_golden_answers_that_are_one_string_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has 'Paris' as `golden_answers` in row 0"):
        build(tmp_path, rows=[{"question": "q", "golden_answers": "Paris"}])


def test_evaluation_data_are_checked_too(tmp_path):
    eval_dataset = {"nq": Dataset.from_list([{"question": "q", "golden_answers": []}])}
    with pytest.raises(ValueError, match=r"`eval_dataset\['nq'\]` has \[\] as `golden_answers` in row 0"):
        build(tmp_path, eval_dataset=eval_dataset)


def test_stream_is_checked_by_its_columns(tmp_path):
    stream = IterableDataset.from_generator(lambda: iter([{"query": "q"}]))
    with pytest.raises(ValueError, match="neither a `question` nor a `prompt`"):
        build(tmp_path, dataset=stream)


def test_budgets_that_cannot_hold_one_turn_and_one_feedback_are_refused(tmp_path):
    args = config(tmp_path, max_completion_length=900)
    with pytest.raises(ValueError, match=r"`max_completion_length` is 900, too short .*at least 1000"):
        build(tmp_path, args=args)


def test_golden_answers_without_anything_to_search_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"neither `retriever` nor `tools` is set.*Pass `retriever="):
        build(tmp_path, retriever=None)


@pytest.mark.parametrize("other", [{"tools": [print]}, {"rollout_func": print}, {"environment_factory": print}])
def test_retriever_excludes_other_ways_to_generate(tmp_path, other):
    (name,) = other
    with pytest.raises(ValueError, match=f"`retriever` and `{name}` exclude each other"):
        build(tmp_path, **other)


def test_plain_grpo_config_is_refused_with_a_retriever(tmp_path):
    args = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    with pytest.raises(TypeError, match=r"`args` is a GRPOConfig, .*Make it a `TSPOConfig`"):
        build(tmp_path, args=args)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("use_transformers_continuous_batching", True),
        ("remove_unused_columns", True),
        ("multi_objective_aggregation", "normalize_then_sum"),
        ("importance_sampling_level", "sequence"),
    ],
)
def test_option_of_trl_that_contradicts_search_rollouts_is_refused(tmp_path, option, value):
    with pytest.raises(ValueError, match=f"`{option}="):
        build(tmp_path, args=config(tmp_path, **{option: value}))


def test_question_without_golden_answers_trains_as_grpo_and_warns_once(make_trainer, caplog):
    rows = Dataset.from_list([{"question": "What is the capital of France?"}] * 4)
    kwargs = {"train_dataset": rows, "reward_funcs": lambda completions, **_: [float(len(c)) for c in completions]}
    trainer = make_trainer(max_steps=1, trainer_kwargs=kwargs)
    assert caplog.text.count("has no `golden_answers`") == 1
    trainer.train()
    assert caplog.text.count("has no `golden_answers`") == 1
    assert "tspo/near_miss" not in trainer.state.log_history[0]
    assert "rollout/turns" in trainer.state.log_history[0]


@pytest.mark.parametrize(
    ("protocol", "what"),
    [(TagProtocol, "which is a class"), ("tags", "which has no prompt, parse, feedback, messages")],
)
def test_what_is_no_protocol_is_refused(tmp_path, protocol, what):
    with pytest.raises(TypeError, match=rf"`protocol` is .*{what}.* Pass an object such as `TagProtocol\(\)`"):
        build(tmp_path, protocol=protocol)


def test_protocol_without_retriever_is_refused(tmp_path):
    dataset = Dataset.from_list([{"prompt": "a"}])
    with pytest.raises(ValueError, match=r"`protocol` is .* but there is no `retriever`"):
        build(tmp_path, retriever=None, dataset=dataset, reward_funcs=len, protocol=TagProtocol())
