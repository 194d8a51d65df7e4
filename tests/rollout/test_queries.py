"""No query of the policy makes its own search fail, or that of others, whichever retriever is used."""

import pytest

from tspo_trl.protocols.tags import TagProtocol
from tspo_trl.rollout.loop import RolloutLoop
from tspo_trl.rollout.queries import ask
from tspo_trl.rollout.state import RolloutLimits
from tspo_trl.search import CachedRetriever, Passage, RemoteRetriever, SearchError

from ..serving import serving

ODD = {
    "long": "capital of France " * 2000,
    "longer than a request": "capital " + "\U0001f600" * 200_000,
    "a long word": "x" * 40_000,
    "lone surrogates": "\ud800 capital \udfff\udc00",
    "NUL": "\0capital\0",
    "control characters": "".join(map(chr, range(32))) + "\x7f\x85\u2028\ufeff",
    "no characters": "\ufffe\uffff\U0010ffff",
    "blank": "   ",
    "empty": "",
    "syntax": '"a AND (b OR +c) -d title:* [x TO y]~2^9 \\',
    "many words": " ".join(map(str, range(4000))),
    "many characters": "".join(chr(0x4E00 + number) for number in range(16000)),
}
PASSAGE = Passage("0", "Paris", "Paris is the capital of France.")


class Picky:
    """Retriever of a user that raises for a query in the batch, or returns `None` for it."""

    def __init__(self, is_bad, raises=True):
        self.is_bad, self.raises, self.calls = is_bad, raises, []

    def search(self, queries, k):
        self.calls.append(list(queries))
        bad = [self.is_bad(query) for query in queries]
        if self.raises and any(bad):
            raise ValueError("bad query")
        return [None if is_bad else [PASSAGE] for is_bad in bad]


def end_reasons(retriever, tokenizer, queries):
    """Run a rollout for each query, which searches it and then answers."""
    loop = RolloutLoop(tokenizer, retriever, TagProtocol(), RolloutLimits(1, 10**6, 400, 10**7, 1))
    scripts = [[f"<search>{query}</search>", "<answer> Paris </answer>"] for query in queries]
    loop._decode_turn = lambda ids: scripts[ids[0]].pop(0)  # the tokenizer of the tests writes no surrogates
    rollouts, _ = loop.run([[number] for number in range(len(queries))], lambda ids, _: ([i[:1] for i in ids], None))
    return [rollout.end_reason for rollout in rollouts]


@pytest.mark.parametrize("cached", ["memory", "disk", None])
def test_local_searches_take_any_query(retriever, tokenizer, tmp_path, cached):
    if cached:
        retriever = CachedRetriever(retriever, path=tmp_path / "cache.sqlite" if cached == "disk" else None)
    assert end_reasons(retriever, tokenizer, ODD.values()) == ["answered"] * len(ODD)


@pytest.mark.parametrize("options", [[], ["--max-query-length", "50"], ["--max-body-size", "30000"]])
def test_servers_take_any_query(index_path, tokenizer, options):
    with serving("--index", index_path, *options) as (_, url), RemoteRetriever(url, timeout=60) as retriever:
        assert end_reasons(retriever, tokenizer, ODD.values()) == ["answered"] * len(ODD)
        long_queries = [f"{number} " + "\x01" * 16_382 for number in range(100)]
        assert end_reasons(retriever, tokenizer, long_queries) == ["answered"] * 100


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize(
    "is_bad",
    [
        lambda query: len(query) > 1000,
        lambda query: "\0" in query,
        lambda query: not query.isprintable(),
        lambda query: not query.strip(),
        lambda query: any("\ud800" <= character <= "\udfff" for character in query),
    ],
    ids=["long", "NUL", "control", "blank", "surrogates"],
)
def test_retrievers_of_users_that_fail_for_odd_queries_cost_no_rollout(tokenizer, is_bad, raises):
    queries = [*ODD.values(), "capital of France"]
    assert end_reasons(Picky(is_bad, raises), tokenizer, queries) == ["answered"] * len(queries)


def test_a_query_for_which_a_retriever_raises_does_not_take_the_others_down(tokenizer):
    queries = [f"query {number}" for number in range(50)]
    reasons = end_reasons(Picky(lambda query: query in ("query 7", "query 31")), tokenizer, queries)
    assert [number for number, reason in enumerate(reasons) if reason != "answered"] == [7, 31]


def test_a_retriever_that_is_down_is_given_up_after_few_calls(caplog):
    broken = Picky(lambda query: True)
    assert ask(broken, [f"query {number}" for number in range(500)], 1) == {}
    assert len(broken.calls) < 40
    assert "A search of 500 queries failed" in caplog.text


def test_a_search_error_says_that_all_failed_and_nothing_is_tried_again():
    class Down(Picky):
        def search(self, queries, k):
            self.calls.append(queries)
            raise SearchError("down")

    down = Down(None)
    assert ask(down, ["a", "b"], 1) == {}
    assert down.calls == [["a", "b"]]


def test_ordinary_queries_are_sent_as_they_are_in_one_call():
    picky = Picky(lambda query: False)
    queries = ["a", "b\nc", "\0", "x" * 16_384, "é\u0301"]
    assert list(ask(picky, queries, 1)) == queries
    assert picky.calls == [queries]


def test_queries_that_are_equal_once_cut_are_sent_once():
    picky = Picky(lambda query: False)
    assert list(ask(picky, ["x" * 20_000, "x" * 30_000], 1).values()) == [[PASSAGE]] * 2
    assert picky.calls == [["x" * 16_384]]
