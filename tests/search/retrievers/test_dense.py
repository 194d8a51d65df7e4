"""DenseRetriever: Pyserini's ranking and scores, and only with an encoder that fits the index."""

import json
import logging
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pytest

from tspo_trl.search import Passage, SearchError, build_index
from tspo_trl.search.indexing.dense import build_dense_index
from tspo_trl.search.indexing.encoder import Encoder
from tspo_trl.search.java import import_pyserini
from tspo_trl.search.retrievers.dense import DenseRetriever

from ..tiny_encoder import WORDS, make_tiny_bert, make_tiny_encoder

DOCUMENTS = [
    {
        "id": f"p{n}",
        "contents": f'"{WORDS[n % 17].title()} {n}"\n'
        + " ".join(WORDS[(n * m + m * m) % len(WORDS)] for m in range(12)),
    }
    for n in range(40)
]
QUERIES = ["what is the capital of france", "rome", "who is the director", "", "seine river 7"]
TOLERANCE = 1e-5  # padding changes float32 sums slightly


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("dense")


@pytest.fixture(scope="module")
def corpus(folder):
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps(document) + "\n" for document in DOCUMENTS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(folder):
    return make_tiny_encoder(folder / "mean")


@pytest.fixture(scope="module")
def encoder(model):
    return Encoder(model, device="cpu")


@pytest.fixture(scope="module")
def index(folder, corpus, encoder):
    build_dense_index(corpus, folder / "index", encoder, show_progress=False)
    return folder / "index"


@pytest.fixture(scope="module")
def retriever(index, encoder, corpus):
    return DenseRetriever(index, encoder, corpus)


@pytest.fixture
def without_metadata(index, tmp_path):
    """The index as Pyserini makes it, without the settings of the encoder."""
    shutil.copytree(index, tmp_path / "bare")
    (tmp_path / "bare" / "encoder.json").unlink()
    return tmp_path / "bare"


def assert_searches_as_pyserini(folder, model, encoder, corpus):
    """Same ids in the same order, and scores equal up to float32 noise."""
    query_encoder = import_pyserini("pyserini.encode").AutoQueryEncoder(
        encoder_dir=model, device="cpu", pooling="mean", l2_norm=True
    )
    searcher = import_pyserini("pyserini.search.faiss").FaissSearcher(str(folder), query_encoder)
    results = DenseRetriever(folder, encoder, corpus).search(QUERIES, k=8)
    for query, passages in zip(QUERIES, results, strict=True):
        hits = searcher.search(query, k=8)
        assert [passage.id for passage in passages] == [hit.docid for hit in hits]
        np.testing.assert_allclose([p.score for p in passages], [hit.score for hit in hits], atol=TOLERANCE)


def test_best_passages_first_with_their_inner_products(retriever, encoder):
    vectors = encoder.encode_passages([document["contents"] for document in DOCUMENTS])
    products = encoder.encode_queries(QUERIES) @ vectors.T
    for passages, row in zip(retriever.search(QUERIES, k=5), products, strict=True):
        best = np.argsort(-row)[:5]
        assert [passage.id for passage in passages] == [f"p{n}" for n in best]
        np.testing.assert_allclose([passage.score for passage in passages], row[best], atol=TOLERANCE)


def test_a_passage_comes_with_its_title_and_text(retriever):
    title, text = DOCUMENTS[3]["contents"].split("\n")
    [[passage]] = retriever.search([DOCUMENTS[3]["contents"]], k=1)
    assert passage == Passage("p3", title, text, passage.score)
    assert passage.score == pytest.approx(1, abs=TOLERANCE)


def test_k_may_exceed_the_index(retriever):
    [passages] = retriever.search(["rome"], k=10**12)
    assert len(passages) == len(retriever) == 40


def test_no_queries_give_no_results(retriever):
    assert retriever.search([], k=3) == []


@pytest.mark.parametrize("query", ["", "\ud800", "rome\0\udfff", "rome " * 5000])
def test_any_query_is_searched(retriever, query):
    [passages] = retriever.search([query], k=2)
    assert len(passages) == 2


@pytest.mark.parametrize(
    ("queries", "k", "error"), [("rome", 1, TypeError), ([None], 1, TypeError), (["x"], 0, ValueError)]
)
def test_wrong_searches_are_refused(retriever, queries, k, error):
    with pytest.raises(error):
        retriever.search(queries, k)


def test_an_index_of_pyserini_is_read(tmp_path, model, encoder, corpus):
    encode = import_pyserini("pyserini.encode")
    documents = encode.AutoDocumentEncoder(model, device="cpu", pooling="mean", l2_norm=True)
    writer = import_pyserini("pyserini.encode.optional").FaissRepresentationWriter(
        str(tmp_path / "theirs"), dimension=32
    )
    with writer:
        for batch in encode.JsonlCollectionIterator(str(corpus), fields=["title", "text"])(8):
            batch["vector"] = documents.encode(batch["text"], titles=batch["title"])
            writer.write(batch, ["title", "text"])
    assert_searches_as_pyserini(tmp_path / "theirs", model, encoder, corpus)


@pytest.mark.parametrize("factory", ["flat", "hnsw", "IVF4,Flat", "SQfp16"])
def test_pyserini_reads_ours_and_ranks_alike(tmp_path, model, encoder, corpus, factory):
    build_dense_index(corpus, tmp_path / "ours", encoder, factory=factory, show_progress=False)
    assert_searches_as_pyserini(tmp_path / "ours", model, encoder, corpus)


def test_a_faiss_file_alone_takes_its_ids_from_the_corpus(index, encoder, corpus, retriever, tmp_path):
    shutil.copy(index / "index", tmp_path / "e5_Flat.index")
    alone = DenseRetriever(tmp_path / "e5_Flat.index", encoder, corpus)
    assert alone.search(QUERIES, k=5) == retriever.search(QUERIES, k=5)


def test_texts_can_come_from_a_lucene_index(index, encoder, corpus, retriever, tmp_path):
    build_index(corpus, tmp_path / "lucene")
    assert DenseRetriever(index, encoder, tmp_path / "lucene").search(QUERIES, k=5) == retriever.search(QUERIES, k=5)


def test_another_pooling_is_found_out_by_the_vectors(without_metadata, corpus, tmp_path):
    encoder = Encoder(make_tiny_bert(tmp_path / "mean"), device="cpu", preset="bge")  # same weights: same seed
    with pytest.raises(ValueError, match=r"does not fit .*median cosine .* is 0\.\d+, but at least 0\.98 is needed"):
        DenseRetriever(without_metadata, encoder, corpus)


@pytest.mark.parametrize(("cosine", "is_told"), [(0.9999, False), (0.99, True)])
def test_vectors_that_are_a_little_different_are_told(without_metadata, corpus, encoder, caplog, cosine, is_told):
    flat = faiss.read_index(str(without_metadata / "index"))
    vectors = flat.reconstruct_n(0, flat.ntotal)
    # Swapping the halves of a vector, one negated, gives one of equal length at a right angle to it.
    across = np.concatenate([-vectors[:, 16:], vectors[:, :16]], axis=1)
    turned = faiss.IndexFlatIP(32)
    turned.add(cosine * vectors + np.sqrt(1 - cosine**2) * across)
    faiss.write_index(turned, str(without_metadata / "index"))
    with caplog.at_level(logging.WARNING):
        DenseRetriever(without_metadata, encoder, corpus)
    assert (f"the median cosine is {cosine:.4f}" in caplog.text) is is_told


@pytest.mark.slow
def test_a_forked_process_searches_through_one_of_its_own(index, corpus, retriever, model, run_python):
    program = f"""
import os
from tspo_trl.search import DenseRetriever, Encoder
retriever = DenseRetriever({str(index)!r}, Encoder({model!r}, device="cpu"), {str(corpus)!r})
retriever.search(["rivers"] * 8, k=3)
child = os.fork()
if child == 0:
    print([passage.id for passage in retriever.search(["rivers"], k=3)[0]], flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    [expected] = retriever.search(["rivers"], k=3)
    assert run_python(program) == str([passage.id for passage in expected])


def test_another_encoder_is_found_out_in_a_compressed_index_too(corpus, encoder, tmp_path):
    build_dense_index(corpus, tmp_path / "index", encoder, factory="IVF2,PQ8x4", show_progress=False)
    (tmp_path / "index" / "encoder.json").unlink()
    assert len(DenseRetriever(tmp_path / "index", encoder, corpus)) == 40
    with pytest.raises(ValueError, match=r"at least 0\.7 is needed"):
        DenseRetriever(tmp_path / "index", Encoder(make_tiny_encoder(tmp_path / "mean", seed=1), device="cpu"), corpus)


def test_the_precision_may_differ(index, model, corpus):
    coarse = DenseRetriever(index, Encoder(model, device="cpu", dtype="bfloat16"), corpus)
    [passages] = coarse.search(["rome"], k=5)
    assert len(passages) == 5


def test_the_folder_of_the_model_may_be_a_copy_of_another_name(index, model, corpus, retriever, tmp_path):
    shutil.copytree(model, tmp_path / "copy")
    copied = DenseRetriever(index, Encoder(tmp_path / "copy", device="cpu"), corpus)
    assert copied.search(QUERIES, k=5) == retriever.search(QUERIES, k=5)


def test_a_setting_that_differs_from_the_index_is_named(index, model, corpus):
    with pytest.raises(ValueError, match="built with an encoder of max_length 128, but this one has 16"):
        DenseRetriever(index, Encoder(model, device="cpu", max_length=16), corpus)


def test_another_dimension_is_told(tmp_path, encoder, corpus):
    other = faiss.IndexFlatIP(16)
    other.add(np.ones((40, 16), dtype=np.float32))
    faiss.write_index(other, str(tmp_path / "index"))
    with pytest.raises(ValueError, match=r"dimension 16, but .* makes 32"):
        DenseRetriever(tmp_path / "index", encoder, corpus)


def test_another_corpus_or_other_ids_are_told(index, without_metadata, encoder, corpus, write_corpus):
    with pytest.raises(ValueError, match="40 vectors and passages 39 lines"):
        DenseRetriever(index, encoder, write_corpus(*DOCUMENTS[1:]))
    with pytest.raises(ValueError, match="passage 1 has id 'p39', but the index has 'p0'"):
        DenseRetriever(index, encoder, write_corpus(*reversed(DOCUMENTS)))
    (without_metadata / "docid").write_text("p0\n")
    with pytest.raises(ValueError, match="40 vectors and 1 ids"):
        DenseRetriever(without_metadata, encoder, corpus)


def test_what_is_no_dense_index_is_refused(tmp_path, encoder, corpus):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        DenseRetriever(tmp_path / "no", encoder, corpus)
    with pytest.raises(ValueError, match="has no file 'index'"):
        DenseRetriever(tmp_path, encoder, corpus)
    with pytest.raises(ValueError, match="cannot be opened as a FAISS index"):
        DenseRetriever(corpus, encoder, corpus)
    faiss.write_index(faiss.IndexFlatL2(32), str(tmp_path / "l2"))
    with pytest.raises(ValueError, match="measures distances"):
        DenseRetriever(tmp_path / "l2", encoder, corpus)


def test_search_parameters_reach_faiss(tmp_path, encoder, corpus):
    for factory, parameters in (("hnsw", {"ef_search": 77}), ("IVF4,Flat", {"nprobe": 3})):
        build_dense_index(corpus, tmp_path / factory, encoder, factory=factory, show_progress=False)
        opened = DenseRetriever(tmp_path / factory, encoder, corpus, **parameters)._searcher.index
        assert opened.hnsw.efSearch == 77 if factory == "hnsw" else opened.nprobe == 3


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"ef_search": 10}, "^ef_search is 10, but the index is not an HNSW"),
        ({"nprobe": 4}, "^nprobe is 4, but the index is not an IVF"),
        ({"threads": 0}, "^threads is 0"),
        ({"ef_search": 0}, "^ef_search is 0"),
        ({"nprobe": 0}, "^nprobe is 0"),
    ],
)
def test_wrong_parameters_are_refused_by_name(index, encoder, corpus, parameters, message):
    with pytest.raises(ValueError, match=message):
        DenseRetriever(index, encoder, corpus, **parameters)


def test_a_passage_that_cannot_be_read_fails_its_query_alone(index, encoder, tmp_path, caplog, retriever):
    [[worst]] = retriever.search([DOCUMENTS[7]["contents"]], k=1)
    corpus = tmp_path / "corpus.jsonl"
    lines = [json.dumps(document) for document in DOCUMENTS]
    corpus.write_text("\n".join([*lines[:7], "{" + " " * (len(lines[7]) - 1), *lines[8:]]))
    damaged = DenseRetriever(index, encoder, corpus)
    with caplog.at_level(logging.WARNING):
        bad, good = damaged.search([DOCUMENTS[7]["contents"], DOCUMENTS[8]["contents"]], k=1)
    assert (worst.id, bad, good[0].id) == ("p7", None, "p8")
    assert "passage 8: not valid JSON" in caplog.text
    with pytest.raises(SearchError, match="All 1 searches"):
        damaged.search([DOCUMENTS[7]["contents"]], k=1)


def test_a_query_for_which_the_encoder_fails_fails_alone(index, model, corpus):
    retriever = DenseRetriever(index, encoder := Encoder(model, device="cpu"), corpus)

    def encode_or_fail(texts):
        if "poison" not in texts:
            return encode(texts)
        raise RuntimeError("out of memory")

    encode, encoder.encode_queries = encoder.encode_queries, encode_or_fail
    assert retriever.search(["poison", "rome"], k=1) == [None, *retriever.search(["rome"], k=1)]
    with pytest.raises(SearchError, match="out of memory"):
        retriever.search(["poison"], k=1)


@pytest.fixture
def overflowing(index, model, corpus):
    """A retriever whose encoder returns no finite vector for texts with the word Seine."""
    encoder = Encoder(model, device="cpu")
    retriever = DenseRetriever(index, encoder, corpus)
    [token] = encoder._network.tokenizer.convert_tokens_to_ids(["seine"])
    encoder._network[0].model.embeddings.word_embeddings.weight.data[token] = float("nan")
    return retriever


def test_a_query_whose_vector_is_not_finite_fails_alone(overflowing, retriever, caplog):
    with caplog.at_level(logging.WARNING):
        rome, seine, director = overflowing.search(["rome", "seine", "director"], k=3)
    assert seine is None
    assert "The search for 'seine' failed: its vector from Encoder" in caplog.text
    expected = retriever.search(["rome", "director"], k=3)
    assert [[p.id for p in found] for found in (rome, director)] == [[p.id for p in found] for found in expected]
    with pytest.raises(SearchError, match="All 2 searches"):
        overflowing.search(["seine", "seine river"], k=3)


def test_copies_search_alike(retriever, index, encoder, corpus):
    duplicate = pickle.loads(pickle.dumps(DenseRetriever(index, encoder, corpus, threads=2)))
    assert duplicate.threads == 2
    assert duplicate.search(QUERIES, k=5) == retriever.search(QUERIES, k=5)


def test_threads_can_share_a_retriever(retriever):
    expected = retriever.search(QUERIES, k=3)
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: retriever.search(QUERIES, k=3), range(40)))
    assert results == [expected] * 40


def test_identity_is_of_index_encoder_and_search_parameters(retriever, index, encoder, corpus, tmp_path):
    shutil.copytree(index, tmp_path / "copy")
    assert DenseRetriever(tmp_path / "copy", encoder, corpus, threads=2).identity == retriever.identity
    assert retriever.identity.parameters["encoder"] == encoder.settings
    build_dense_index(corpus, tmp_path / "hnsw", encoder, factory="hnsw", show_progress=False)
    narrow, wide = (DenseRetriever(tmp_path / "hnsw", encoder, corpus, ef_search=ef).identity for ef in (8, 80))
    assert len({retriever.identity.digest, narrow.digest, wide.digest}) == 3


def test_identity_is_that_of_the_files_that_were_opened(index, encoder, corpus, tmp_path):
    shutil.copytree(index, tmp_path / "index")
    shutil.copy(corpus, tmp_path / "corpus.jsonl")
    retriever = DenseRetriever(tmp_path / "index", encoder, tmp_path / "corpus.jsonl")
    opened = retriever.identity
    build_dense_index(corpus, tmp_path / "index", encoder, factory="hnsw", overwrite=True, show_progress=False)
    assert retriever.identity == opened
    shutil.rmtree(tmp_path / "index")
    (tmp_path / "corpus.jsonl").unlink()
    assert retriever.identity == opened
