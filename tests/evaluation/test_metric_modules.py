"""Values and inputs of the metrics."""

import doctest
from functools import partial

import evaluate
import pytest

from tspo_trl.evaluation.metrics import METRICS, load_metric

ANSWER_METRICS = ("exact_match", "f1", "cover_exact_match")


@pytest.fixture
def load(tmp_path):
    """Function that loads a metric with a separate cache for each test."""
    return partial(load_metric, cache_dir=str(tmp_path))


@pytest.mark.parametrize("name", METRICS)
def test_metric_describes_itself_and_its_example_runs(load, name):
    metric = load(name)
    assert isinstance(metric, evaluate.Metric)
    assert metric.name == name
    assert metric.description
    assert metric.citation.startswith("@")
    assert all(url.startswith("https://") for url in metric.reference_urls)
    example = doctest.DocTestParser().get_doctest(metric.inputs_description, {}, name, None, None)
    results = doctest.DocTestRunner().run(example)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize(
    ("name", "score"),
    [
        ("exact_match", 1 / 4),  # only the first
        ("f1", (1 + 0.8 + 0 + 0) / 4),  # "Barack Obama": precision 2/2, recall 2/3
        ("cover_exact_match", 2 / 4),  # "Obama" is an alias of the second
    ],
)
def test_answer_metrics_are_means_over_questions_with_any_number_of_aliases(load, name, score):
    result = load(name).compute(
        predictions=["the Beatles", "Barack Obama", None, ""],
        references=[["Beatles"], ["Obama", "Barack Hussein Obama"], ["Paris"], ["London", "Rome", "Berlin"]],
    )
    assert result == {name: pytest.approx(score)}


@pytest.mark.parametrize("name", ANSWER_METRICS)
@pytest.mark.parametrize("predictions", [[None, "x"], ["x", None], [None, None]])
def test_a_missing_prediction_scores_nothing_wherever_it_stands(load, name, predictions):
    result = load(name).compute(predictions=predictions, references=[["x"], ["x"]])
    assert result == {name: predictions.count("x") / 2}


def test_substrings_are_an_option_of_cover_exact_match(load):
    metric = load("cover_exact_match")
    inputs = {"predictions": ["North Dakota", "no"], "references": [["no"], ["no"]]}
    assert metric.compute(**inputs) == {"cover_exact_match": 0.5}
    assert metric.compute(**inputs, match="substring") == {"cover_exact_match": 1.0}
    with pytest.raises(ValueError, match="match must be one of 'token', 'substring', got 'fuzzy'"):
        metric.compute(**inputs, match="fuzzy")


def test_retrieval_recall_counts_questions_whose_answer_stands_in_some_turn(load):
    result = load("retrieval_recall").compute(
        predictions=[
            ["Berlin is in Germany.", None, "Paris is in France."],
            ["Paris is in France.", "The capital of France is Paris."],
            ["Madrid"],
            [],
            None,
        ],
        references=[["Rome", "Paris"], ["Paris"], ["Paris"], ["Paris"], ["Paris"]],
    )
    assert result == {"retrieval_recall": 2 / 5}


def test_matching_is_an_option_of_retrieval_recall(load):
    metric = load("retrieval_recall")
    inputs = {"predictions": [["Parisians said no"], ["Parisians said no"]], "references": [["Paris"], ["no"]]}
    assert metric.compute(**inputs) == {"retrieval_recall": 0.0}
    assert metric.compute(**inputs, match="substring") == {"retrieval_recall": 0.5}
    assert metric.compute(**inputs, match="substring", match_boolean_answers=True) == {"retrieval_recall": 1.0}


def test_searches_need_no_references_and_may_be_means_themselves(load):
    metric = load("searches")
    assert metric.compute(predictions=[2, 0, 1]) == {"searches": 1.0}
    assert metric.compute(predictions=[1.5, 2]) == {"searches": 1.75}


@pytest.mark.parametrize("count", [-1, None, float("nan")])
def test_a_number_of_searches_that_is_none_is_named(load, count):
    with pytest.raises(ValueError, match=r"predictions must be numbers of searches, got .* at position 1"):
        load("searches").compute(predictions=[2, count])


def test_questions_can_be_added_one_by_one_and_in_batches(load):
    metric = load("exact_match")
    metric.add(prediction=None, reference=["Paris"])
    metric.add_batch(predictions=["Rome", "Berlin"], references=[["Rome"], ["Berlin", "Bonn"]])
    metric.add(prediction="Madrid", reference=["Madrid"])
    assert metric.compute() == {"exact_match": 0.75}
    assert metric.compute(predictions=["Rome"], references=[["Rome"]]) == {"exact_match": 1.0}  # no earlier inputs


def test_answer_metrics_can_be_combined(load):
    combined = evaluate.combine([load(name) for name in ANSWER_METRICS])
    result = combined.compute(predictions=[None, "x y"], references=[["a"], ["x"]])
    assert result == {"exact_match": 0.0, "f1": pytest.approx(1 / 3), "cover_exact_match": 0.5}


def test_metrics_keep_their_inputs_in_memory_where_asked(load):
    metric = load("exact_match", keep_in_memory=True)
    metric.add_batch(predictions=["x", None], references=[["x"], ["x"]])
    assert metric.cache_file_name is None
    assert metric.compute() == {"exact_match": 0.5}


@pytest.mark.parametrize("name", METRICS)
def test_no_questions_are_an_error(load, name):
    references = {} if name == "searches" else {"references": []}
    with pytest.raises(ValueError, match="predictions is empty"):
        load(name).compute(predictions=[], **references)


@pytest.mark.parametrize("name", ANSWER_METRICS)
@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        (["x"], ["x"], "expected a list instead: 'x'"),
        (["x"], [["x"], ["y"]], r"number of predictions \(1\) and references \(2\)"),
        ([["x"]], [["x"]], "don't match the expected format"),
        ([3], [["3"]], "don't match the expected format"),
    ],
)
def test_inputs_of_another_form_are_an_error(load, name, predictions, references, message):
    with pytest.raises(ValueError, match=message):
        load(name).compute(predictions=predictions, references=references)


def test_unknown_metric_is_an_error_that_names_the_known_ones(load):
    with pytest.raises(ValueError, match=r"name must be one of 'exact_match', 'f1', .*'searches', got 'accuracy'"):
        load("accuracy")
