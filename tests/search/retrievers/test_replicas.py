"""Replicas: which server is asked, which is set aside, and for how long."""

import time

import pytest

from tspo_trl.search import SearchError
from tspo_trl.search.retrievers.replicas import Replicas

from ..fault_answers import QUERIES, expected, texts
from ..fault_server import FaultServer


def test_replicas_are_asked_in_turn(servers, connect):
    retriever = connect(*(server.url for server in servers))
    for _ in range(6):
        retriever.search(["a"], k=1)
    assert [len(server.seen["requests"]) for server in servers] == [3, 3]


def test_failing_replica_is_made_up_for_by_another_at_once(servers, connect):
    servers[0].control(mode="status_500")
    retriever = connect(*(server.url for server in servers), backoff=100)
    start = time.monotonic()
    assert texts(retriever.search(QUERIES, k=1)) == expected(QUERIES)
    assert retriever.counters()["retries"] == 1
    assert time.monotonic() - start < 10  # a wait would take at least 15 s


def test_replicas_that_were_not_tried_do_not_count_as_retries(server, connect):
    dead = [FaultServer() for _ in range(3)]
    for replica in dead:
        replica.kill()
    retriever = connect(*(replica.url for replica in dead), server.url, max_retries=0)
    assert texts(retriever.search(QUERIES, k=1)) == expected(QUERIES)
    assert retriever.counters() == {"requests": 4, "retries": 3, "failed_requests": 0, "replicas_set_aside": 3}


def test_each_replica_is_tried_once_and_then_the_retries_begin(servers, connect):
    for server in servers:
        server.control(mode="status_500")
    retriever = connect(*(server.url for server in servers), max_retries=3)
    with pytest.raises(SearchError, match="HTTP 500"):
        retriever.search(["a"], k=1)
    assert retriever.counters() == {"requests": 5, "retries": 4, "failed_requests": 1, "replicas_set_aside": 0}


def test_query_that_is_asked_alone_is_not_lost_to_a_dead_replica(server, dead_url, connect):
    server.control(mode="name_failed")
    retriever = connect(server.url, dead_url)
    results = retriever.search(["a", "poison", "b"], k=1)
    assert texts(results) == [*expected(["a"]), None, *expected(["b"])]


def test_replica_that_answers_with_an_error_is_not_set_aside(servers, connect):
    servers[0].control(mode="status_500")
    retriever = connect(*(server.url for server in servers))
    for _ in range(4):
        retriever.search(["a"], k=1)
    assert len(servers[0].seen["requests"]) > 1
    assert retriever.counters()["replicas_set_aside"] == 0


def test_replica_that_hangs_is_set_aside(servers, connect):
    servers[0].control(mode="hang")
    retriever = connect(*(server.url for server in servers), timeout=1.0)
    for _ in range(5):
        assert texts(retriever.search(["a"], k=1)) == expected(["a"])
    assert [len(server.seen["requests"]) for server in servers] == [1, 5]
    assert retriever.counters() == {"requests": 6, "retries": 1, "failed_requests": 0, "replicas_set_aside": 1}


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr("tspo_trl.search.retrievers.replicas.time", clock)
    return clock


def test_replica_is_tried_again_by_one_request_when_its_time_is_up(clock):
    replicas = Replicas(["a", "b"], set_aside=30)
    replicas.set_aside("a")
    assert [replicas.next() for _ in range(3)] == ["b", "b", "b"]
    clock.now += 30
    assert sorted(replicas.next() for _ in range(4)) == ["a", "b", "b", "b"]


def test_replica_that_answered_its_trial_is_back_in_the_round(clock):
    replicas = Replicas(["a", "b"], set_aside=30)
    replicas.set_aside("a")
    clock.now += 30
    replicas.restore("a")
    assert sorted(replicas.next() for _ in range(4)) == ["a", "a", "b", "b"]


def test_replica_that_is_due_first_is_asked_when_all_are_set_aside(clock):
    replicas = Replicas(["a", "b"], set_aside=30)
    replicas.set_aside("b")
    clock.now += 1
    replicas.set_aside("a")
    assert [replicas.next(), replicas.next()] == ["b", "a"]
    assert not replicas.has_another({"b"})


def test_replica_that_was_not_tried_is_preferred():
    replicas = Replicas(["a", "b", "c"], set_aside=30)
    assert replicas.next({"a", "b"}) == "c"
    assert replicas.has_another({"a", "b"})
    assert not replicas.has_another({"a", "b", "c"})
