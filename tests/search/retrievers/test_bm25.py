"""BM25Retriever: Pyserini's ranking and scores, for any query a model may write."""

import copy
import math
import multiprocessing
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from tspo_trl.search import BM25Retriever, Passage, SearchError, build_index
from tspo_trl.search.java import import_pyserini, java_class

DOCUMENTS = [
    {"id": "seine", "contents": '"Seine"\nThe Seine is a river in France.'},
    {"id": "tiber", "contents": '"Tiber"\nThe Tiber is a river in Italy, and the longest river of Rome.'},
    {"id": "b", "contents": '"Twin"\nTwins have equal scores.'},
    {"id": "c", "contents": '"Twin"\nTwins have equal scores.'},
    {"id": "a", "contents": '"Twin"\nTwins have equal scores.'},
    {"id": "10", "contents": "Café\nNaïve résumé of 東京 and Zürich 😀."},
]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    from json import dumps

    folder = tmp_path_factory.mktemp("bm25")
    corpus = folder / "corpus.jsonl"
    corpus.write_text("".join(dumps(document) + "\n" for document in DOCUMENTS), encoding="utf-8")
    build_index(corpus, folder / "index")
    return folder / "index"


@pytest.fixture(scope="module")
def retriever(index):
    return BM25Retriever(index)


def ids(passages):
    return [passage.id for passage in passages]


def test_finds_the_passage_with_its_title_text_and_score(retriever):
    [[passage]] = retriever.search(["river in France"], k=1)
    assert (passage.id, passage.title, passage.text) == ("seine", '"Seine"', "The Seine is a river in France.")
    assert passage.score > 0


def test_results_come_in_the_order_of_the_queries(retriever):
    results = retriever.search(["Seine", "Tiber", "nothing of the kind", "Seine"] * 8, k=1)
    assert [ids(result) for result in results] == [["seine"], ["tiber"], [], ["seine"]] * 8


def test_at_most_k_passages_best_first(retriever):
    [passages] = retriever.search(["longest river"], k=2)
    assert ids(passages) == ["tiber", "seine"]
    assert passages[0].score > passages[1].score
    assert [ids(result) for result in retriever.search(["longest river"], k=1)] == [["tiber"]]


def test_ties_are_broken_by_id(retriever):
    [passages] = retriever.search(["equal scores"], k=3)
    assert ids(passages) == ["a", "b", "c"]


def test_k_may_exceed_the_index(retriever):
    [passages] = retriever.search(["twins"], k=10**12)
    assert len(passages) == 3


def test_text_beyond_ascii_is_searched_and_comes_back_whole(retriever):
    [passages] = retriever.search(["東京 Zürich 😀"], k=1)
    assert passages == [Passage("10", "Café", "Naïve résumé of 東京 and Zürich 😀.", passages[0].score)]


def test_no_queries_give_no_results(retriever):
    assert retriever.search([], k=3) == []


@pytest.mark.parametrize("query", ["", " \n\t", "the of and", "\0", "\ud800", "!?*:()[]{}"])
def test_a_query_without_an_indexed_word_finds_nothing(retriever, query):
    assert retriever.search([query], k=3) == [[]]


@pytest.mark.parametrize(
    "query",
    [
        'seine AND (NOT "',
        "seine^5~ +[a TO",
        "seine\0\x01\x02",
        "\udcff\ud800 seine \udfff",
        "seine " * 1700,
        "seine " + " ".join(f"w{number}" for number in range(1700)),
        "seine " + "x" * 10_000,
    ],
    ids=["boolean", "operators", "control", "surrogates", "long", "many-words", "long-word"],
)
def test_a_malformed_or_long_query_is_plain_words(retriever, query):
    [passages] = retriever.search([query], k=1)
    assert ids(passages) == ["seine"]


def test_length_is_the_number_of_passages(retriever):
    assert len(retriever) == len(DOCUMENTS)


def test_k1_and_b_change_the_scores(index, retriever):
    [[usual]] = retriever.search(["Seine"], k=1)
    [[other]] = BM25Retriever(index, k1=1.2, b=0.75).search(["Seine"], k=1)
    assert usual.id == other.id
    assert usual.score != other.score


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.2, 0.75), (0.0, 1.0)])
def test_ranking_and_scores_are_those_of_pyserini(index, k1, b):
    searcher = import_pyserini("pyserini.search.lucene").LuceneSearcher(str(index))
    searcher.set_bm25(k1, b)
    queries = ["river", "longest river in Rome", "equal scores", "twins river", "東京", "", "the"]
    results = BM25Retriever(index, k1=k1, b=b).search(queries, k=5)
    for query, passages in zip(queries, results, strict=True):
        assert [(p.id, p.score) for p in passages] == [(hit.docid, hit.score) for hit in searcher.search(query, k=5)]


def test_copies_search_alike(retriever):
    expected = retriever.search(["river"], k=2)
    assert pickle.loads(pickle.dumps(retriever)).search(["river"], k=2) == expected
    assert copy.deepcopy(retriever).search(["river"], k=2) == expected


def test_a_copy_keeps_k1_and_b(index):
    duplicate = pickle.loads(pickle.dumps(BM25Retriever(index, k1=1.5, b=0.5)))
    assert (duplicate.k1, duplicate.b) == (1.5, 0.5)


def search_elsewhere(retriever):
    return retriever.search(["river"], k=2)


def test_a_spawned_process_can_search(retriever):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(search_elsewhere, (retriever,)) == retriever.search(["river"], k=2)


def test_threads_can_share_a_retriever(retriever):
    expected = retriever.search(["river", "twins"], k=3)
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: retriever.search(["river", "twins"], k=3), range(40)))
    assert results == [expected] * 40


def test_a_relative_index_is_found_after_a_change_of_folder(index, monkeypatch, tmp_path):
    monkeypatch.chdir(index.parent)
    retriever = BM25Retriever("index")
    monkeypatch.chdir(tmp_path)
    assert len(pickle.loads(pickle.dumps(retriever))) == len(DOCUMENTS)


@pytest.fixture
def few_clauses(retriever):
    """Make Lucene refuse queries of more than ten words, so that single queries fail."""
    java_searcher = java_class("org.apache.lucene.search.IndexSearcher")
    usual = java_searcher.getMaxClauseCount()
    java_searcher.setMaxClauseCount(10)
    yield "seine " + " ".join(f"w{number}" for number in range(10))
    java_searcher.setMaxClauseCount(usual)


def test_a_query_that_fails_is_none_and_leaves_the_others(retriever, few_clauses, caplog):
    results = retriever.search(["seine", few_clauses, "tiber"], k=1)
    assert results[1] is None
    assert [ids(results[0]), ids(results[2])] == [["seine"], ["tiber"]]
    assert "TooManyClauses" in caplog.text


def test_an_error_is_raised_when_every_query_fails(retriever, few_clauses):
    with pytest.raises(SearchError, match="All 2 searches"):
        retriever.search([few_clauses, few_clauses], k=1)


def test_an_index_with_contents_but_no_raw_documents_is_read(anserini_index):
    folder = anserini_index([{"id": "seine", "contents": '"Seine"\nA river.'}], "-storeContents")
    [[passage]] = BM25Retriever(folder).search(["river"], k=1)
    assert (passage.id, passage.title, passage.text) == ("seine", '"Seine"', "A river.")


def test_an_index_without_text_is_refused(anserini_index):
    folder = anserini_index([{"id": "seine", "contents": '"Seine"\nA river.'}])
    with pytest.raises(ValueError, match=r"neither its raw JSON nor its contents stored.*tspo-trl index"):
        BM25Retriever(folder)


def test_an_index_without_passages_is_refused(anserini_index):
    with pytest.raises(ValueError, match=r"is empty.*tspo-trl index"):
        BM25Retriever(anserini_index([], "-storeRaw"))


def test_a_missing_index_is_refused_with_the_command_that_builds_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist.*tspo-trl index"):
        BM25Retriever(tmp_path / "nowhere")


def test_a_folder_without_an_index_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"not the folder of a Lucene index.*tspo-trl index"):
        BM25Retriever(tmp_path)


def test_a_damaged_index_is_refused(tmp_path):
    (tmp_path / "segments_1").write_bytes(b"not Lucene's")
    with pytest.raises(ValueError, match="cannot be opened as a Lucene index"):
        BM25Retriever(tmp_path)


@pytest.mark.parametrize("parameters", [{"k1": -0.1}, {"k1": math.nan}, {"k1": math.inf}, {"b": -0.1}, {"b": 1.1}])
def test_parameters_out_of_range_are_refused_by_name(index, parameters):
    [name] = parameters
    with pytest.raises(ValueError, match=rf"^{name} is "):
        BM25Retriever(index, **parameters)


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(retriever, k):
    with pytest.raises(ValueError, match=f"^k is {k}"):
        retriever.search(["river"], k=k)


@pytest.mark.parametrize("queries", ["river", ["river", None], [b"river"]])
def test_queries_that_are_not_strings_are_refused(retriever, queries):
    with pytest.raises(TypeError, match="queries"):
        retriever.search(queries, k=1)


def test_identity_is_that_of_the_index_that_was_opened(index, tmp_path, write_corpus):
    shutil.copytree(index, tmp_path / "index")
    retriever = BM25Retriever(tmp_path / "index")
    opened = retriever.identity
    build_index(write_corpus({"id": "1", "contents": "New\ntext"}), tmp_path / "index", overwrite=True)
    assert retriever.identity == opened
    shutil.rmtree(tmp_path / "index")
    assert retriever.identity == opened
