"""The retrieval server over real HTTP: Search-R1's protocol, merging, failures, statistics and a graceful stop."""

import asyncio
import resource
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import pytest
import requests

from tspo_trl.search.serving.batching import BatchingSearcher
from tspo_trl.search.serving.statistics import ServerStatistics

from .server_process import found, running, wait_until


@pytest.fixture(scope="module")
def server():
    with running() as server:
        yield server


@pytest.fixture
def own_server():
    """A new server for tests that count its calls or stop it."""
    with running(stop_timeout=5) as server:
        yield server


def test_with_return_scores_each_item_is_a_document_and_its_score(server):
    response = server.retrieve(["river"], topk=2, return_scores=True)
    documents = [
        {"id": str(rank), "title": '"river"', "text": f"rank {rank}", "contents": f'"river"\nrank {rank}'}
        for rank in range(2)
    ]
    items = [{"document": documents[0], "score": 0.0}, {"document": documents[1], "score": -1.0}]
    assert response.json() == {"result": [items]}


def test_a_score_that_is_no_number_is_left_out(server):
    [items] = server.retrieve(["unranked"], topk=4, return_scores=True).json()["result"]
    assert [list(item) for item in items] == [["document"]] * 4


@pytest.mark.parametrize("fields", [{"return_scores": False}, {"return_scores": None}, {}])
def test_without_return_scores_each_item_is_a_bare_document(server, fields):
    response = server.retrieve(["river"], topk=1, **fields)
    document = {"id": "0", "title": '"river"', "text": "rank 0", "contents": '"river"\nrank 0'}
    assert response.json() == {"result": [[document]]}


@pytest.mark.parametrize("fields", [{"topk": None}, {"topk": 0}, {}])
def test_without_topk_the_default_of_three_holds(server, fields):
    assert len(server.retrieve(["river"], **fields).json()["result"][0]) == 3


@pytest.mark.parametrize(
    "fields",
    [{"topk": "2", "return_scores": 1}, {"topk": 2.0, "return_scores": "true"}, {"topk": 2, "return_scores": "yes"}],
)
def test_numbers_and_truth_values_may_be_written_as_search_r1_accepts_them(server, fields):
    [items] = server.retrieve(["river"], **fields).json()["result"]
    assert [item["score"] for item in items] == [0.0, -1.0]


def test_results_come_in_the_order_of_the_queries(server):
    assert found(server.retrieve(["b", "a", "c", "a"], topk=1)) == ["b", "a", "c", "a"]


def test_no_queries_give_no_results(server):
    assert server.retrieve([]).json() == {"result": []}


def test_a_query_of_ten_thousand_characters_is_served(server):
    query = "x" * 10_000
    assert found(server.retrieve([query], topk=1)) == [query]


def test_text_beyond_ascii_and_lone_surrogates_come_back_whole(server):
    queries = ["東京 Zürich 😀", "\ud800 half a character", "\0", ""]
    assert found(server.retrieve(queries, topk=1)) == queries


def test_unknown_fields_are_passed_over(server):
    assert found(server.retrieve(["river"], topk=1, model="other")) == ["river"]


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /retr",
        b"POST /retrieve HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 30\r\n\r\n{",
    ],
    ids=["in-the-head", "in-the-body"],
)
def test_a_client_that_goes_away_disturbs_nobody(server, sent):
    with socket.create_connection(server.address) as connection:
        connection.sendall(sent)
    assert found(server.retrieve(["river"], topk=1)) == ["river"]


def test_what_a_client_asked_that_went_away_is_not_searched(own_server):
    with own_server.held_up():
        with own_server.asking("sea"):
            wait_until(lambda: own_server.waiting() == 1)
        wait_until(lambda: own_server.waiting() == 0)
    assert found(own_server.retrieve(["river"], topk=1)) == ["river"]
    assert own_server.calls() == 2  # the one that kept the retriever busy, and the river
    metrics = requests.get(f"{own_server.url}/metrics", timeout=60).text
    assert 'tspo_trl_requests_total{status="499"} 1.0' in metrics


def test_a_connection_serves_many_requests(server):
    with requests.Session() as session:
        for number in range(20):
            response = session.post(f"{server.url}/retrieve", json={"queries": [str(number)]}, timeout=60)
            assert found(response) == [str(number)]
            assert "close" not in response.headers.get("connection", "")


def test_requests_that_come_together_are_searched_in_one_call(server):
    calls = server.calls()
    responses = server.retrieve_at_once(*({"queries": [str(number)]} for number in range(30)))
    assert [found(response) for response in responses] == [[str(number)] for number in range(30)]
    assert server.calls() == calls + 2  # one that kept the retriever busy, and one for the thirty requests


def test_a_thousand_connections_are_answered_each_with_its_own(server):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def ask(session, query):
        body = {"queries": [query, f"{query} again"], "topk": 1}
        async with session.post(f"{server.url}/retrieve", json=body) as response:
            return [documents[0]["title"] for documents in (await response.json())["result"]]

    async def ask_all():
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60)) as session:
            return await asyncio.gather(*(ask(session, f"q{number}") for number in range(1000)))

    with ThreadPoolExecutor(1) as client, server.held_up():  # connect all before any is answered
        answers = client.submit(asyncio.run, ask_all())
        wait_until(lambda: server.waiting() == 2000)
    assert answers.result() == [[f'"q{number}"', f'"q{number} again"'] for number in range(1000)]


def test_a_failed_search_is_503_and_names_the_positions(server):
    response = server.retrieve(["river", "fail", "lake", "fail again"])
    assert response.status_code == 503
    detail = "The search failed for 2 of 4 queries: queries[1], queries[3]."
    assert response.json() == {"detail": detail, "failed": [1, 3]}


def test_all_failed_positions_are_listed_and_the_first_ten_are_named(server):
    answer = server.retrieve(["river", *(f"fail {number}" for number in range(12))]).json()
    assert answer["failed"] == list(range(1, 13))
    assert answer["detail"].endswith("queries[9], queries[10] and 2 more.")


def test_when_every_search_fails_it_is_503_too(server):
    response = server.retrieve(["fail"])
    assert response.status_code == 503
    assert response.json() == {"detail": "The search failed for 1 of 1 queries: queries[0].", "failed": [0]}


def test_only_the_requests_whose_own_query_failed_are_refused(server):
    responses = server.retrieve_at_once({"queries": ["a"]}, {"queries": ["fail"]}, {"queries": ["b", "fail"]})
    assert [response.status_code for response in responses] == [200, 503, 503]


def test_an_exception_of_the_retriever_is_500_and_the_server_lives_on(own_server):
    response = own_server.retrieve(["bug"])
    assert response.status_code == 500
    assert "AttributeError" in response.json()["detail"]
    assert found(own_server.retrieve(["river"], topk=1)) == ["river"]
    own_server.stop()
    assert "AttributeError: a defect" in own_server.process.stderr.read()


def test_stats_and_metrics_count_exactly(own_server):
    for body in ({"queries": ["a", "b"]}, {"queries": ["c"]}, {"queries": ["fail", "d"]}, {"queries": []}, {}):
        own_server.retrieve(**{"queries": None, **body})
    stats = own_server.stats()
    counts = {name: stats[name] for name in ("requests", "queries", "batches", "failed_queries", "waiting_queries")}
    assert counts == {"requests": 5, "queries": 5, "batches": 3, "failed_queries": 1, "waiting_queries": 0}
    assert stats["mean_batch_size"] == pytest.approx(5 / 3)
    assert stats["retriever"] == {"calls": 3}
    assert 0 < stats["latency_p50_seconds"] <= stats["latency_p99_seconds"] < stats["uptime_seconds"]
    assert stats["resident_memory_bytes"] > 2**20
    lines = requests.get(f"{own_server.url}/metrics", timeout=60).text.splitlines()
    assert {
        'tspo_trl_requests_total{status="200"} 3.0',
        'tspo_trl_requests_total{status="503"} 1.0',
        'tspo_trl_requests_total{status="422"} 1.0',
        "tspo_trl_queries_total 5.0",
        "tspo_trl_failed_queries_total 1.0",
        "tspo_trl_batch_size_count 3.0",
        'tspo_trl_batch_size_bucket{le="1.0"} 1.0',
        "tspo_trl_request_seconds_count 5.0",
        "tspo_trl_retriever_calls_total 3.0",
    } <= set(lines)


def test_a_server_that_has_done_nothing_has_stats():
    stats = ServerStatistics(BatchingSearcher(None)).summary()
    assert (stats["requests"], stats["mean_batch_size"], stats["latency_p50_seconds"]) == (0, None, None)


def test_on_sigterm_everything_accepted_is_answered(own_server):
    queries = [[str(number)] for number in range(49)]
    with ThreadPoolExecutor(49) as clients:
        with own_server.held_up() as running_search:
            responses = clients.map(own_server.retrieve, queries)
            wait_until(lambda: own_server.waiting() == 49)
            own_server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: not own_server.accepts_connections())
        assert running_search.result().status_code == 200
        assert [found(response) for response in responses] == queries
    assert own_server.process.wait(timeout=60) == 0


def test_an_idle_connection_does_not_delay_the_stop(own_server):
    with requests.Session() as session:
        session.get(f"{own_server.url}/healthz", timeout=60)
        start = time.monotonic()
        assert own_server.stop() == 0
        assert time.monotonic() - start < 4  # less than the five seconds of `stop_timeout`


def test_a_search_that_nobody_waits_for_is_awaited_at_the_stop(own_server, tmp_path):
    with own_server.asking(f"until {tmp_path / 'gate'}"):
        wait_until(lambda: own_server.calls() == 1)
    wait_until(lambda: own_server.stats()["requests"] == 1)
    own_server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not own_server.accepts_connections())
    time.sleep(0.5)  # now only the search keeps the server alive
    (tmp_path / "gate").touch()
    assert own_server.process.wait(timeout=60) == 0


def test_a_search_that_hangs_is_abandoned_at_the_stop():
    with running(stop_timeout=1) as server, server.held_up():
        assert server.stop() == 1
        assert "abandoned" in server.process.stderr.read()


def test_a_search_that_hangs_and_nobody_waits_for_is_abandoned_at_the_stop(tmp_path):
    with running(stop_timeout=1) as server:
        with server.asking(f"until {tmp_path / 'gate'}"):
            wait_until(lambda: server.calls() == 1)
        wait_until(lambda: server.stats()["requests"] == 1)
        assert server.stop() == 1
        assert "abandoned" in server.process.stderr.read()
