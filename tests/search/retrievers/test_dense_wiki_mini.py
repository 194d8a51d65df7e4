"""Dense retrieval ranks and scores 970 real questions as Pyserini's searcher does. Needs a data folder."""

import numpy as np
import pytest

from tspo_trl.search.indexing.dense import build_dense_index
from tspo_trl.search.indexing.encoder import Encoder
from tspo_trl.search.java import import_pyserini
from tspo_trl.search.retrievers.dense import DenseRetriever

from ..tiny_encoder import make_tiny_encoder
from ..wiki_mini import DATA, load_questions, needs_wiki_mini

# Both encode in float32, but with another order of sums and other padding.
NOISE = 5e-6

pytestmark = [pytest.mark.slow, needs_wiki_mini]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("wiki-mini")


@pytest.fixture(scope="module")
def encoder(folder):
    return Encoder(make_tiny_encoder(folder / "tiny"), device="cpu")


@pytest.fixture(scope="module")
def index(folder, encoder):
    assert build_dense_index(DATA / "corpus.jsonl", folder / "index", encoder, show_progress=False) == 23_370
    return folder / "index"


@pytest.fixture(scope="module")
def questions():
    return load_questions()


@pytest.fixture(scope="module")
def pyserini_hits(index, encoder, questions):
    query_encoder = import_pyserini("pyserini.encode").AutoQueryEncoder(
        encoder_dir=encoder.model, device="cpu", pooling="mean", l2_norm=True
    )
    searcher = import_pyserini("pyserini.search.faiss").FaissSearcher(str(index), query_encoder)
    return [searcher.search(question, k=11) for question in questions]


def test_every_question_ranks_as_in_pyserini(index, encoder, questions, pyserini_hits):
    results = DenseRetriever(index, encoder, DATA / "corpus.jsonl").search(questions, k=10)
    assert len(results) == 970
    for passages, hits in zip(results, pyserini_hits, strict=True):
        np.testing.assert_allclose([p.score for p in passages], [hit.score for hit in hits[:10]], atol=NOISE)
        scores = {hit.docid: hit.score for hit in hits}
        for passage, hit in zip(passages, hits, strict=False):
            # Ids may differ only between equal scores.
            assert passage.id == hit.docid or abs(scores[passage.id] - hit.score) <= NOISE


def test_rankings_that_differ_are_rare(index, encoder, questions, pyserini_hits):
    results = DenseRetriever(index, encoder, DATA / "corpus.jsonl").search(questions, k=10)
    ours = [[passage.id for passage in passages] for passages in results]
    theirs = [[hit.docid for hit in hits[:10]] for hits in pyserini_hits]
    assert sum(a == b for a, b in zip(ours, theirs, strict=True)) >= 965
