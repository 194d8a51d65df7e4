"""Real passages and real questions: the same ranking and scores as Pyserini's own dense searcher.

Needs the data folder that lies beside the repository; see the reason of the skip.
"""

import numpy as np
import pytest

from tspo_trl.search.indexing.dense import build_dense_index
from tspo_trl.search.indexing.encoder import Encoder
from tspo_trl.search.java import import_pyserini
from tspo_trl.search.retrievers.dense import DenseRetriever

from ..tiny_encoder import make_tiny_encoder
from ..wiki_mini import DATA, load_questions, needs_wiki_mini

# Both encode in float32 but sum in another order and with other padding; larger differences are none of noise.
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
            # Another id may stand at a place only where its score is the same but for the noise.
            assert passage.id == hit.docid or abs(scores[passage.id] - hit.score) <= NOISE


def test_ties_but_for_noise_are_rare(index, encoder, questions, pyserini_hits):
    results = DenseRetriever(index, encoder, DATA / "corpus.jsonl").search(questions, k=10)
    ours = [[passage.id for passage in passages] for passages in results]
    theirs = [[hit.docid for hit in hits[:10]] for hits in pyserini_hits]
    assert sum(a == b for a, b in zip(ours, theirs, strict=True)) >= 965
