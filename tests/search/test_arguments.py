"""The retriever as command-line arguments: contradictions are found before anything is opened."""

import pytest

from tspo_trl.search import (
    BM25Retriever,
    CachedRetriever,
    DenseRetriever,
    HybridRetriever,
    RemoteRetriever,
    build_dense_index,
)
from tspo_trl.search.arguments import RetrieverArguments, open_retriever
from tspo_trl.search.indexing.encoder import Encoder

from .tiny_encoder import make_tiny_encoder

URL = ["http://127.0.0.1:8000"]
DENSE = {"index": "i", "dense": "d", "encoder": "e"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "There is nothing to search"),
        ({"retriever_url": URL, "index": "i"}, "`retriever_url` and `index` exclude each other"),
        ({"retriever_url": URL, "hybrid": True}, "`retriever_url` and `hybrid` exclude each other"),
        ({"index": "i", "hybrid": True}, "Pass both `index` and `dense`"),
        ({"index": "i", "reranker": "r"}, "Pass `hybrid` too"),
        ({"index": "i", "dense": "d"}, "`dense` needs the `encoder`"),
        ({"dense": "d", "encoder": "e"}, "`dense` contains no text"),
        ({"index": "i", "encoder": "e"}, "`encoder='e'` belongs to a dense index"),
        ({"index": "i", "passages": "p"}, "`passages='p'` belongs to a dense index"),
        ({"index": "i", "encoder_dtype": "float16"}, "`encoder_dtype='float16'` belongs to a dense index"),
        ({"retriever_url": URL, "encoder_preset": "e5"}, "`retriever_url` and `encoder_preset` exclude each other"),
        ({**DENSE, "encoder_dtype": "int8"}, "dtype is 'int8'"),
        ({**DENSE, "encoder_preset": "e6"}, "`encoder_preset` is 'e6'"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        open_retriever(RetrieverArguments(**arguments))


@pytest.mark.parametrize("missing", ["index", "dense", "passages", "retriever_cache"])
def test_paths_are_checked_before_anything_is_loaded(tmp_path, missing):
    paths = {"index": tmp_path, "dense": tmp_path, "passages": tmp_path, "retriever_cache": tmp_path / "cache"}
    arguments = RetrieverArguments(**{**paths, missing: tmp_path / "no" / "such"}, encoder="no-such-model")
    with pytest.raises(FileNotFoundError, match=f"`{missing}` .*no/such"):
        open_retriever(arguments)


def test_an_empty_token_in_the_environment_is_none(monkeypatch):
    monkeypatch.setenv("TSPO_TRL_TOKEN", " ")
    assert open_retriever(RetrieverArguments(retriever_url=URL))._token is None


def test_an_index_is_searched_with_bm25(index_path):
    retriever = open_retriever(RetrieverArguments(index=str(index_path)))
    assert isinstance(retriever, BM25Retriever)
    assert retriever.index == index_path


@pytest.fixture(scope="module")
def dense_options(index_path, tmp_path_factory):
    """Arguments of a dense index of the six passages."""
    folder = tmp_path_factory.mktemp("dense")
    encoder = make_tiny_encoder(folder / "encoder")
    build_dense_index(
        index_path.parent / "corpus.jsonl", folder / "index", Encoder(encoder, device="cpu"), show_progress=False
    )
    return {"index": str(index_path), "dense": str(folder / "index"), "encoder": encoder, "encoder_device": "cpu"}


def test_a_dense_index_takes_its_passages_from_the_lucene_index(dense_options, index_path):
    retriever = open_retriever(RetrieverArguments(**dense_options))
    assert isinstance(retriever, DenseRetriever)
    assert retriever.passages == index_path
    [passages] = retriever.search(["Seine"], k=6)
    assert {passage.title for passage in passages} == {
        '"Paris"', '"Berlin"', '"Madrid"', '"Rome"', '"Seine"', '"Tiber"'
    }  # fmt: skip


def test_hybrid_searches_both_indexes(dense_options):
    retriever = open_retriever(RetrieverArguments(**dense_options, hybrid=True))
    assert isinstance(retriever, HybridRetriever)
    assert [type(part) for part in retriever.retrievers] == [BM25Retriever, DenseRetriever]
    assert retriever.reranker is None


def test_servers_are_asked_with_the_token_of_the_environment(monkeypatch):
    monkeypatch.setenv("TSPO_TRL_TOKEN", "secret")
    retriever = open_retriever(RetrieverArguments(retriever_url=["http://one:8000", "http://two:8000"]))
    assert isinstance(retriever, RemoteRetriever)
    assert retriever.urls == ("http://one:8000", "http://two:8000")
    assert retriever._token == "secret"


def test_a_cache_file_keeps_results(index_path, tmp_path):
    arguments = RetrieverArguments(index=str(index_path), retriever_cache=str(tmp_path / "cache.sqlite"))
    first = open_retriever(arguments)
    assert isinstance(first, CachedRetriever)
    found = first.search(["Seine"], k=1)
    second = open_retriever(arguments)
    assert second.search(["Seine"], k=1) == found
    assert second.counters() == {"cache_hits": 1, "cache_misses": 0}
