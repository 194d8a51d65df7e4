"""CrossEncoderReranker: the scores of sentence-transformers' CrossEncoder, with a tiny random model."""

import multiprocessing
import pickle
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tspo_trl.search import Passage, SearchError
from tspo_trl.search.retrievers.hybrid import HybridRetriever
from tspo_trl.search.retrievers.rerank import CrossEncoderReranker

from ..tiny_encoder import make_tokenizer

PASSAGES = [
    Passage("paris", '"Paris"', "Paris is the capital of France.", 3.0),
    Passage("rome", '"Rome"', "Rome is the capital of Italy. It lies on the Tiber.", 2.0),
    Passage("seine", '"Seine"', "The Seine is a river in France.", 1.0),
    Passage("title", '"Only a title"', ""),
]
QUERIES = ["capital of France", "a river in Italy"]


def save_classifier(folder, labels=1):
    """A BERT with random weights that reads a pair of texts, and its tokenizer."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = make_tokenizer(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        initializer_range=0.5,  # large enough that the scores differ clearly
        num_labels=labels,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return save_classifier(tmp_path_factory.mktemp("rerank") / "tiny-cross-encoder")


@pytest.fixture(scope="module")
def reranker(model_path):
    return CrossEncoderReranker(model_path, device="cpu")


@pytest.fixture(scope="module")
def predicted(model_path):
    """Scores of the cross-encoder itself for each query with each passage."""
    from sentence_transformers import CrossEncoder

    encoder = CrossEncoder(str(model_path), device="cpu")
    return {
        (query, passage.id): encoder.predict([(query, passage.contents)], show_progress_bar=False)[0]
        for query in QUERIES
        for passage in PASSAGES
    }


def ids(passages):
    return [passage.id for passage in passages]


def scored(results):
    """Ids and approximate scores, because the last bits of a score depend on the memory address of its batch."""
    return [[(passage.id, pytest.approx(passage.score, abs=1e-5)) for passage in passages] for passages in results]


def pairs(results):
    return [[(passage.id, passage.score) for passage in passages] for passages in results]


def test_scores_are_those_of_the_cross_encoder_on_query_and_contents(reranker, predicted):
    results = reranker.rerank(QUERIES, [PASSAGES, PASSAGES[1:]], 4)
    for query, passages, count in zip(QUERIES, results, (4, 3), strict=True):
        assert len(passages) == count
        for passage in passages:
            assert passage.score == pytest.approx(predicted[query, passage.id], abs=1e-5)


def test_passages_come_best_first_and_whole(reranker, predicted):
    best_first = sorted(PASSAGES, key=lambda passage: -predicted[QUERIES[0], passage.id])
    [passages] = reranker.rerank(QUERIES[:1], [best_first[::-1]], 4)
    assert ids(passages) == ids(best_first)
    assert [passage.contents for passage in passages] == [passage.contents for passage in best_first]


def test_at_most_k_passages_come_back(reranker):
    results = reranker.rerank(QUERIES, [PASSAGES, PASSAGES[:1]], 2)
    assert [len(passages) for passages in results] == [2, 1]


def test_failed_searches_stay_failed_and_empty_ones_empty(reranker):
    results = reranker.rerank(["x", QUERIES[0], "y"], [None, PASSAGES[:1], []], 2)
    assert results[0] is None
    assert ids(results[1]) == ["paris"]
    assert results[2] == []


def test_nothing_to_score_is_not_an_error(reranker):
    assert reranker.rerank(["x", "y"], [None, []], 2) == [None, []]


def set_all_parameters(reranker, value):
    import torch

    for parameter in reranker._encoder.parameters():
        torch.nn.init.constant_(parameter, value)


def test_equal_scores_keep_the_order_of_the_search(model_path):
    reranker = CrossEncoderReranker(model_path, device="cpu")
    set_all_parameters(reranker, 0.0)
    [passages] = reranker.rerank(["query"], [PASSAGES], 4)
    assert ids(passages) == ids(PASSAGES)
    assert {passage.score for passage in passages} == {0.5}  # the sigmoid of 0


def test_only_the_first_candidates_are_scored(model_path):
    reranker = CrossEncoderReranker(model_path, device="cpu", num_candidates=2)
    assert set(ids(reranker.rerank(QUERIES[:1], [PASSAGES], 1)[0])) <= {"paris", "rome"}
    assert set(ids(reranker.rerank(QUERIES[:1], [PASSAGES], 3)[0])) == {"paris", "rome", "seine"}


def test_all_pairs_of_a_batch_are_scored_in_one_call(reranker, monkeypatch):
    calls = []
    predict = reranker._encoder.predict

    def counting(pairs, **options):
        calls.append(len(pairs))
        return predict(pairs, **options)

    monkeypatch.setattr(reranker._encoder, "predict", counting)
    reranker.rerank(QUERIES, [PASSAGES, PASSAGES], 4)
    assert calls == [8]


def test_max_length_cuts_the_pair(model_path, reranker):
    short = CrossEncoderReranker(model_path, device="cpu", max_length=12)
    [[passage]] = short.rerank(QUERIES[:1], [PASSAGES[:1]], 1)
    [[whole]] = reranker.rerank(QUERIES[:1], [PASSAGES[:1]], 1)
    assert passage.score != pytest.approx(whole.score, abs=1e-4)


def test_dtype_is_that_of_the_weights(model_path):
    import torch

    reranker = CrossEncoderReranker(model_path, device="cpu", dtype="bfloat16")
    assert {parameter.dtype for parameter in reranker._encoder.parameters()} == {torch.bfloat16}
    assert len(reranker.rerank(QUERIES[:1], [PASSAGES], 4)[0]) == 4


@pytest.mark.parametrize("query", ["", "\0", "\udcff\ud800 seine", "word " * 3000])
def test_any_query_can_be_scored(reranker, query):
    [passages] = reranker.rerank([query], [PASSAGES], 4)
    assert len(passages) == 4


def test_a_score_that_is_no_number_is_an_error_with_a_remedy(model_path):
    reranker = CrossEncoderReranker(model_path, device="cpu")
    set_all_parameters(reranker, float("nan"))
    with pytest.raises(SearchError, match=r"no finite score for 4 of 4 pairs.*float32"):
        reranker.rerank(QUERIES[:1], [PASSAGES], 4)


def test_a_query_whose_scores_are_no_numbers_fails_alone(model_path, monkeypatch, caplog):
    reranker = CrossEncoderReranker(model_path, device="cpu")
    expected = reranker.rerank(QUERIES[:1], [PASSAGES], 4)
    predict = reranker._encoder.predict

    def overflow(pairs, **options):
        scores = predict(pairs, **options)
        scores[[query == "poison" for query, _ in pairs]] = float("nan")
        return scores

    monkeypatch.setattr(reranker._encoder, "predict", overflow)
    results = reranker.rerank(["poison", QUERIES[0]], [PASSAGES[:1], PASSAGES], 4)
    assert results[0] is None
    assert [passage.id for passage in results[1]] == [passage.id for passage in expected[0]]
    assert "no finite score for 1 of 5 pairs" in caplog.text


def test_threads_can_share_a_reranker(reranker):
    expected = reranker.rerank(QUERIES, [PASSAGES, PASSAGES], 4)
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: reranker.rerank(QUERIES, [PASSAGES, PASSAGES], 4), range(20)))
    assert [pairs(result) for result in results] == [scored(expected)] * 20


def test_a_copy_keeps_its_settings_and_scores_alike(model_path, tmp_path, monkeypatch):
    monkeypatch.chdir(model_path.parent)
    reranker = CrossEncoderReranker(
        model_path.name, device="cpu", dtype="float32", batch_size=3, max_length=20, num_candidates=4
    )
    monkeypatch.chdir(tmp_path)
    duplicate = pickle.loads(pickle.dumps(reranker))
    names = ("device", "dtype", "batch_size", "max_length", "num_candidates", "identity")
    assert [getattr(duplicate, name) for name in names] == [getattr(reranker, name) for name in names]
    expected = reranker.rerank(QUERIES, [PASSAGES] * 2, 4)
    assert pairs(duplicate.rerank(QUERIES, [PASSAGES] * 2, 4)) == scored(expected)


def rerank_elsewhere(reranker, answers):
    try:
        answers.put(reranker.rerank(QUERIES, [PASSAGES] * 2, 4))
    except RuntimeError as error:
        answers.put(str(error))


def test_a_forked_process_is_told_instead_of_hanging(reranker):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=rerank_elsewhere, args=(reranker, answers))
    process.start()
    assert "forked after the reranker was created" in answers.get(timeout=60)
    process.join(60)


def test_identity_names_the_model_by_its_folder_and_its_files(model_path, reranker, tmp_path):
    identity = reranker.identity
    assert identity.parameters == {
        "model": "tiny-cross-encoder",
        "dtype": "float32",
        "max_length": None,
        "num_candidates": 50,
    }
    shutil.copytree(model_path, tmp_path / "tiny-cross-encoder")
    assert CrossEncoderReranker(tmp_path / "tiny-cross-encoder").identity == identity
    config = tmp_path / "tiny-cross-encoder" / "config.json"
    config.write_text(config.read_text().replace('"hidden_act": "gelu"', '"hidden_act": "relu"'))
    assert CrossEncoderReranker(tmp_path / "tiny-cross-encoder").identity != identity


@pytest.mark.parametrize("change", [{"dtype": "bfloat16"}, {"max_length": 20}, {"num_candidates": 3}])
def test_identity_sees_every_setting_that_changes_results(model_path, reranker, change):
    assert CrossEncoderReranker(model_path, device="cpu", **change).identity != reranker.identity


def test_identity_leaves_out_what_changes_no_result(model_path, reranker):
    assert CrossEncoderReranker(model_path, batch_size=1).identity == reranker.identity


def test_reranker_orders_what_a_hybrid_of_bm25_found(retriever, reranker):
    hybrid = HybridRetriever([retriever, retriever], reranker=reranker)
    fused = HybridRetriever([retriever, retriever]).search(QUERIES, 100)
    assert pairs(hybrid.search(QUERIES, 2)) == scored(reranker.rerank(QUERIES, fused, 2))
    assert hybrid.identity.parameters["reranker"] == reranker.identity.to_dict()


def test_a_model_with_several_scores_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"gives 3 scores for a pair"):
        CrossEncoderReranker(save_classifier(tmp_path / "three", labels=3))


def test_a_missing_model_is_refused(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        CrossEncoderReranker(tmp_path / "nowhere")


def test_missing_sentence_transformers_is_named_with_the_remedy(model_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ImportError, match=r"pip install tspo-trl\[dense\]"):
        CrossEncoderReranker(model_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("dtype", "int8"), ("batch_size", 0), ("max_length", 0), ("num_candidates", 0)],
)
def test_arguments_out_of_range_are_refused_by_name(model_path, name, value):
    with pytest.raises(ValueError, match=f"^{name} is "):
        CrossEncoderReranker(model_path, **{name: value})
