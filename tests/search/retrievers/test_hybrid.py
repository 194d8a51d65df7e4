"""HybridRetriever: reciprocal rank fusion, with numbers worked out by hand."""

import math
import multiprocessing
import pickle
import threading
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tspo_trl.search import Passage, RetrieverIdentity, SearchError
from tspo_trl.search.retrievers.hybrid import HybridRetriever


@dataclass
class Scripted:
    """Finds for each query the passages with these names. A query with `None` fails."""

    rankings: dict[str, str | None]
    fingerprint: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    prefix: str = ""
    asked: list[tuple[list[str], int]] = field(default_factory=list)

    def search(self, queries, k):
        self.asked.append((queries, k))
        rankings = [self.rankings[query] for query in queries]
        if all(ranking is None for ranking in rankings):
            raise SearchError("All searches failed.")
        return [None if names is None else [self.passage(name) for name in names[:k]] for names in rankings]

    def passage(self, name):
        return Passage(f"{self.prefix}{name}", f'"{name}"', f"About {name}.", 1.0)

    @property
    def identity(self):
        return RetrieverIdentity("Scripted", self.fingerprint, {"prefix": self.prefix})

    def counters(self):
        return self.counts


def scripted(names, **options):
    return Scripted({"query": names}, **options)


def fused(*rankings, k=10, **options):
    """Return the names and scores of the fusion of these rankings."""
    [passages] = HybridRetriever([scripted(names) for names in rankings], **options).search(["query"], k)
    return [(passage.id, passage.score) for passage in passages]


def test_score_is_the_sum_of_reciprocal_ranks():
    assert fused("ab", "bc") == [
        ("b", pytest.approx(1 / 62 + 1 / 61, rel=1e-15)),
        ("a", pytest.approx(1 / 61, rel=1e-15)),
        ("c", pytest.approx(1 / 62, rel=1e-15)),
    ]


def test_weights_count_each_retriever_more_or_less():
    # With rrf_k=1: a has 3/2, b has 3/3 + 1/2, c has 1/3.
    assert fused("ab", "bc", weights=[3, 1], rrf_k=1) == [("a", 1.5), ("b", 1.5), ("c", pytest.approx(1 / 3))]


def test_small_rrf_k_lets_the_first_rank_stand_out():
    # a is first once, c second and third: 1/61 < 1/62 + 1/63, but 1/1.1 > 1/2.1 + 1/3.1.
    assert fused("ac", "bdc")[0][0] == "c"
    assert fused("ac", "bdc", rrf_k=0.1)[0][0] == "a"


def test_ties_keep_the_order_of_the_first_retriever_that_found_the_passage():
    assert [name for name, _ in fused("ab", "ba")] == ["a", "b"]
    assert [name for name, _ in fused("ba", "ab")] == ["b", "a"]
    assert [name for name, _ in fused("x", "y", "z")] == ["x", "y", "z"]


def test_equal_shares_tie_whichever_retrievers_they_come_from():
    # Added one by one, 1/3 + 1/4 + 1/5 in another order differs in the last bit.
    scores = dict(fused("abc", "bca", "cab", rrf_k=2))
    assert scores["a"] == scores["b"] == scores["c"]


def test_passages_are_the_same_where_their_contents_are():
    parts = [scripted("ab", prefix="first-"), scripted("ba", prefix="second-")]
    [passages] = HybridRetriever(parts).search(["query"], 10)
    assert [passage.id for passage in passages] == ["first-a", "first-b"]


def test_passage_listed_twice_counts_with_its_better_rank():
    assert fused("aab", "c", rrf_k=1) == [("a", 0.5), ("c", 0.5), ("b", 0.25)]


def test_passage_that_one_retriever_does_not_find_still_counts():
    assert [name for name, _ in fused("", "ab")] == ["a", "b"]


def test_at_most_k_passages_of_num_candidates_from_each_retriever():
    parts = [scripted("abcdef"), scripted("fedcba")]
    hybrid = HybridRetriever(parts, num_candidates=4)
    [passages] = hybrid.search(["query"], 2)
    assert [passage.id for passage in passages] == ["c", "d"]  # only they are among the first four of both
    assert [part.asked for part in parts] == [[(["query"], 4)]] * 2


def test_retrievers_are_asked_for_k_where_that_is_more_than_num_candidates():
    part = scripted("abc")
    HybridRetriever([part, scripted("a")], num_candidates=1).search(["query"], 3)
    assert part.asked == [(["query"], 3)]


def test_a_query_that_one_retriever_failed_has_failed_and_the_others_have_not():
    parts = [Scripted({"x": "a", "y": "a", "z": "a"}), Scripted({"x": "b", "y": None, "z": ""})]
    results = HybridRetriever(parts).search(["x", "y", "z"], 3)
    assert results[1] is None
    assert [[passage.id for passage in result] for result in (results[0], results[2])] == [["a", "b"], ["a"]]


def test_a_retriever_that_can_search_nothing_fails_the_batch():
    with pytest.raises(SearchError, match="All searches failed"):
        HybridRetriever([scripted("a"), scripted(None)]).search(["query"], 3)


def test_an_error_is_raised_when_every_query_failed_somewhere():
    parts = [Scripted({"x": "a", "y": None}), Scripted({"x": None, "y": "a"})]
    with pytest.raises(SearchError, match="Each of the 2 queries failed"):
        HybridRetriever(parts).search(["x", "y"], 3)


def test_no_queries_ask_nobody():
    part = scripted("a")
    assert HybridRetriever([part, part]).search([], 3) == []
    assert part.asked == []


class Meeting:
    """Answers only while another one searches too."""

    def __init__(self, barrier):
        self.barrier = barrier

    def search(self, queries, k):
        self.barrier.wait(timeout=30)
        return [[] for _ in queries]


def test_retrievers_are_searched_at_the_same_time():
    barrier = threading.Barrier(3)
    assert HybridRetriever([Meeting(barrier) for _ in range(3)]).search(["query"], 1) == [[]]


names = st.lists(st.sampled_from("abcdefgh"), max_size=12)


@given(
    rankings=st.lists(names, min_size=2, max_size=4),
    weights=st.lists(st.integers(1, 5), min_size=4, max_size=4),
    rrf_k=st.integers(1, 100),
    k=st.integers(1, 10),
)
@settings(deadline=None, max_examples=150)
def test_fusion_equals_a_naive_one_in_exact_fractions(rankings, weights, rrf_k, k):
    weights = weights[: len(rankings)]
    scores = {}
    for name in dict.fromkeys(name for ranking in rankings for name in ranking):
        pairs = zip(weights, rankings, strict=True)
        places = [(weight, ranking.index(name)) for weight, ranking in pairs if name in ranking]
        scores[name] = sum(Fraction(weight, rrf_k + place + 1) for weight, place in places)
    found = fused(*rankings, k=k, weights=weights, rrf_k=rrf_k)
    assert [score for _, score in found] == [
        pytest.approx(float(score), rel=1e-12) for score in sorted(scores.values(), reverse=True)[:k]
    ]
    assert [float(scores[name]) for name, _ in found] == [pytest.approx(score, rel=1e-12) for _, score in found]


@dataclass
class Backwards:
    """A reranker that reverses every list."""

    asked: list = field(default_factory=list)

    def rerank(self, queries, passages, k):
        self.asked.append((queries, k))
        return [None if found is None else found[::-1][:k] for found in passages]


def test_reranker_has_the_last_word_on_all_that_was_fused():
    parts = [Scripted({"x": "abc", "y": "a"}), Scripted({"x": "abd", "y": None})]
    reranker = Backwards()
    results = HybridRetriever(parts, reranker=reranker).search(["x", "y"], 2)
    assert [passage.id for passage in results[0]] == ["d", "c"]
    assert results[1] is None
    assert reranker.asked == [(["x", "y"], 2)]


def test_identity_holds_the_parts_and_every_setting():
    parts = [scripted("a", fingerprint="ab"), scripted("b", fingerprint="cd")]
    usual = HybridRetriever(parts).identity
    assert usual.name == "HybridRetriever"
    assert usual.parameters == {
        "retrievers": [part.identity.to_dict() for part in parts],
        "weights": [1.0, 1.0],
        "rrf_k": 60.0,
        "num_candidates": 20,
        "reranker": None,
    }
    changes = [{"weights": [1, 2]}, {"rrf_k": 10}, {"num_candidates": 50}, {"reranker": Backwards()}]
    others = [HybridRetriever(parts, **change).identity for change in changes]
    others.append(HybridRetriever(parts[::-1]).identity)
    assert len({identity.digest for identity in (usual, *others)}) == 6
    assert others[3].parameters["reranker"] == RetrieverIdentity("Backwards").to_dict()


def test_identity_is_the_same_for_whole_numbers_and_floats():
    parts = [scripted("a"), scripted("b")]
    whole = HybridRetriever(parts, weights=[1, 2], rrf_k=60)
    floats = HybridRetriever(parts, weights=[1.0, 2.0], rrf_k=60.0)
    assert whole.identity.digest == floats.identity.digest


def test_fingerprint_is_known_where_those_of_all_parts_are():
    first, second, unknown = (scripted("a", fingerprint=value) for value in ("ab", "cd", None))
    assert HybridRetriever([first, unknown]).identity.fingerprint is None
    both = HybridRetriever([first, second]).identity.fingerprint
    assert both is not None
    assert both != HybridRetriever([first, first]).identity.fingerprint


def test_counters_are_the_sums_of_those_of_the_parts():
    parts = [scripted("a", counts={"requests": 2, "hits": 1}), scripted("a", counts={"requests": 3}), Meeting(None)]
    assert HybridRetriever(parts).counters() == {"requests": 5, "hits": 1}


def test_copies_search_alike(retriever):
    hybrid = HybridRetriever([retriever, scripted("ab")], weights=[2, 1], rrf_k=10, num_candidates=7)
    duplicate = pickle.loads(pickle.dumps(hybrid))
    assert duplicate.search(["query"], 3) == hybrid.search(["query"], 3)
    assert duplicate.identity == hybrid.identity


def test_bm25_fused_with_itself_keeps_its_ranking(retriever):
    queries = ["capital of France", "river in Italy", "nothing of the kind"]
    results = HybridRetriever([retriever, retriever]).search(queries, 3)
    expected = retriever.search(queries, 3)
    assert [[p.contents for p in found] for found in results] == [[p.contents for p in found] for found in expected]
    assert results[0][0].score == 2 / 61


def test_java_forgets_the_threads_that_searched(retriever):
    from tspo_trl.search.java import java_class

    threads = java_class("java.lang.management.ManagementFactory").getThreadMXBean()
    hybrid = HybridRetriever([retriever, retriever])
    hybrid.search(["river"], 1)
    before = threads.getThreadCount()
    for _ in range(20):
        hybrid.search(["river"], 1)
    assert threads.getThreadCount() < before + 20  # 40 if each stayed


def search_elsewhere(hybrid, answers):
    answers.put(hybrid.search(["query"], 3))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_can_search(retriever, method):
    """`retriever` has started Java in this process, and a forked process must not touch it."""
    hybrid = HybridRetriever([scripted("ab"), scripted("bc")])
    expected = hybrid.search(["query"], 3)
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    process = context.Process(target=search_elsewhere, args=(hybrid, answers))
    process.start()
    assert answers.get(timeout=60) == expected
    process.join(60)
    assert process.exitcode == 0


def test_fewer_than_two_retrievers_are_refused():
    with pytest.raises(ValueError, match="retrievers has 1 entries"):
        HybridRetriever([scripted("a")])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights", [1.0]),
        ("weights", [1.0, 0.0]),
        ("weights", [1.0, -1.0]),
        ("weights", [1.0, math.nan]),
        ("weights", [math.inf, 1.0]),
        ("rrf_k", 0),
        ("rrf_k", math.nan),
        ("rrf_k", math.inf),
        ("num_candidates", 0),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"^{name} (is|has) "):
        HybridRetriever([scripted("a"), scripted("b")], **{name: value})


@pytest.mark.parametrize(("queries", "k", "error"), [("query", 1, TypeError), (["query"], 0, ValueError)])
def test_bad_searches_are_refused(queries, k, error):
    with pytest.raises(error):
        HybridRetriever([scripted("a"), scripted("b")]).search(queries, k)
