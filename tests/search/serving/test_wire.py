"""The wire format: Search-R1's requests and answers, and the identity that a server reports."""

import json
import math

import pytest

from tspo_trl.search import Passage, RetrieverIdentity
from tspo_trl.search.identity import identity_of
from tspo_trl.search.serving.wire import encode_request, parse_answer, parse_failed

from ..fault_answers import expected, texts
from ..fault_server import FaultServer

# Requests and answers.


def test_finds_the_passages_with_identifier_title_text_and_score(server, connect):
    [passages] = connect(server.url).search(["Paris"], k=2)
    assert passages == [
        Passage("id of Paris", '"Title"', "Passage for Paris.", 1.0),
        Passage("id of Paris", '"Title"', "Passage for Paris.", 0.5),
    ]


def test_request_is_that_of_search_r1_and_always_asks_for_scores(server, connect):
    connect(server.url).search(["Paris", "Rome"], k=3)
    assert server.seen["requests"] == [{"queries": ["Paris", "Rome"], "topk": 3, "return_scores": True}]


@pytest.mark.parametrize("ending", ["", "/", "/retrieve", "/retrieve/"])
def test_url_may_have_the_route_or_not(server, connect, ending):
    assert texts(connect(server.url + ending).search(["Paris"], k=1)) == expected(["Paris"])


def test_odd_queries_are_sent_like_others(server, connect):
    queries = ["", "  ", "東京 😀", "a\0b", '"quoted"\n']
    assert texts(connect(server.url).search(queries, k=1)) == expected(queries)


def test_lone_surrogate_is_replaced(server, connect):
    assert texts(connect(server.url).search(["a\ud800b", "\ud83d\ude00"], k=1)) == expected(["a\ufffdb", "😀"])


def test_server_without_identifiers_scores_and_error_bodies_is_understood(server, connect):
    server.control(mode="search_r1")
    results = connect(server.url).search(["Paris", "poison", "Rome"], k=2)
    assert results[1] is None
    assert results[0] == [Passage("", '"Title"', "Passage for Paris.", None)] * 2
    assert texts(results[2:]) == expected(["Rome"], k=2)


def parse_items(*items, k=9):
    [passages] = parse_answer(json.dumps({"result": [items]}).encode(), 1, k)
    return passages


def test_all_forms_of_documents_are_read():
    assert parse_items(
        {"document": {"id": 7, "contents": '"T"\nbody'}, "score": 2},
        {"id": "x", "contents": '"T"\nbody'},
        {"document": {"title": "T", "text": "body", "id": None}, "score": None},
        {"document": {"contents": "one line"}},
        {"document": {"text": "body"}},
        {"document": {"contents": None, "title": None, "text": "body"}},
    ) == [
        Passage("7", '"T"', "body", 2.0),
        Passage("x", '"T"', "body", None),
        Passage("", '"T"', "body", None),
        Passage("", "one line", "", None),
        Passage("", "", "body", None),
        Passage("", "", "body", None),
    ]


def test_more_passages_than_asked_for_are_cut_and_fewer_are_kept():
    items = [{"document": {"contents": str(i)}} for i in range(5)]
    assert [passage.title for passage in parse_items(*items, k=2)] == ["0", "1"]
    assert len(parse_items(*items)) == 5


@pytest.mark.parametrize("score", ["1.5", True, [1], math.nan, math.inf, 10**400])
def test_score_that_is_no_finite_number_is_none(score):
    assert parse_items({"document": {"contents": "a"}, "score": score})[0].score is None


def test_passages_never_hold_lone_surrogates():
    [passage] = parse_items({"document": {"id": "\ud800", "contents": "a\udfff\nb\ud800"}})
    assert passage == Passage("\ufffd", "a\ufffd", "b\ufffd")


def test_request_is_utf8():
    assert json.loads(encode_request(["Zürich"], 3).decode("utf-8"))["queries"] == ["Zürich"]


def test_positions_of_failed_queries_are_read():
    assert parse_failed(b'{"detail": "a", "failed": [2, 0]}', 3) == [0, 2]


@pytest.mark.parametrize("failed", ["null", "1", '"0"', "[0, 3]", "[-1]", '["0"]', "[[]]", "[0, "])
def test_failed_that_holds_something_else_than_positions_is_passed_over(failed):
    assert parse_failed(f'{{"failed": {failed}}}'.encode(), 3) == []


@pytest.mark.parametrize("body", [b"", b"no", b"[]", b"{}"])
def test_no_positions_are_read_where_the_answer_does_not_tell(body):
    assert parse_failed(body, 3) == []


# Identity.


SERVED = {"name": "BM25Retriever", "fingerprint": "ab12", "parameters": {"k1": 0.9}}


def test_identity_is_what_the_server_says_it_serves(server, connect):
    server.control(healthz={"status": "ok", "retriever": SERVED})
    identity = RetrieverIdentity("RemoteRetriever", "ab12", {"served": SERVED})
    assert identity_of(connect(server.url)) == identity


def test_identity_is_kept_once_the_server_has_answered(server, connect):
    server.control(healthz={"retriever": SERVED})
    retriever = connect(server.url)
    identity = retriever.identity
    server.control()
    assert retriever.identity == identity


@pytest.mark.parametrize("healthz", [None, {"status": "ok"}, [], "ok", {"retriever": {"name": 3}}])
def test_identity_is_just_the_name_where_the_server_does_not_tell(server, connect, healthz):
    server.control(healthz=healthz)
    assert connect(server.url).identity == RetrieverIdentity("RemoteRetriever")


def test_identity_is_asked_for_again_while_no_server_answers(connect):
    server = FaultServer()
    server.kill()
    retriever = connect(server.url)
    assert retriever.identity == RetrieverIdentity("RemoteRetriever")
    server.start(healthz={"retriever": SERVED})
    assert retriever.identity.fingerprint == "ab12"
    server.kill()
