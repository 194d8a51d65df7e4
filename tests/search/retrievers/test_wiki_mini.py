"""BM25 ranks and scores 970 real questions as Pyserini's searcher does. Needs a data folder."""

import json

import pytest

from tspo_trl.search import BM25Retriever, build_index
from tspo_trl.search.java import import_pyserini

from ..wiki_mini import DATA, load_questions, needs_wiki_mini

pytestmark = [pytest.mark.slow, needs_wiki_mini]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wiki-mini") / "index"
    assert build_index(DATA / "corpus.jsonl", folder) == 23_370
    return folder


@pytest.fixture(scope="module")
def questions():
    return load_questions()


def test_every_question_ranks_as_in_pyserini(index, questions):
    searcher = import_pyserini("pyserini.search.lucene").LuceneSearcher(str(index))
    results = BM25Retriever(index).search(questions, k=10)
    assert len(results) == 970
    for question, passages in zip(questions, results, strict=True):
        expected = [(hit.docid, hit.score) for hit in searcher.search(question, k=10)]
        assert [(passage.id, passage.score) for passage in passages] == expected


def test_every_passage_reads_as_in_the_corpus(index):
    corpus = {}
    for line in (DATA / "corpus.jsonl").read_text(encoding="utf-8").splitlines():
        document = json.loads(line)
        corpus[document["id"]] = document["contents"]
    [passages] = BM25Retriever(index).search(["film war born city river king team song school company"], k=23_370)
    assert len(passages) > 1_000
    assert all(passage.contents == corpus[passage.id] for passage in passages)
