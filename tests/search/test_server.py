"""The retrieval server over real HTTP: Search-R1's protocol, limits, merging, failures and a graceful stop."""

import asyncio
import contextlib
import json
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlparse

import aiohttp
import pytest
import requests

from tspo_trl import __version__
from tspo_trl.search import RetrieverIdentity
from tspo_trl.search.batching import BatchingSearcher
from tspo_trl.search.server import RequestLimits, create_app
from tspo_trl.search.server_statistics import ServerStatistics

ECHO_SERVER = Path(__file__).with_name("echo_server.py")
TOKEN = "s3cret"


class Server:
    """A server in a process of its own, and what a test asks of it."""

    def __init__(self, **settings):
        command = [sys.executable, str(ECHO_SERVER), json.dumps(settings)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, preexec_fn=lower_file_limit, **pipes)
        self.url = self.process.stdout.readline().split()[-1]
        self.address = (urlparse(self.url).hostname, urlparse(self.url).port)

    def post(self, body, **kwargs):
        return requests.post(f"{self.url}/retrieve", data=body, timeout=60, **kwargs)

    def retrieve(self, queries, **fields):
        return requests.post(f"{self.url}/retrieve", json={"queries": queries, **fields}, timeout=60)

    @contextlib.contextmanager
    def held_up(self):
        """Keep the retriever busy, so that queries have to wait; the future of the search that does it."""
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as client:
            gate, calls = Path(folder, "gate"), self.calls()
            response = client.submit(self.retrieve, [f"until {gate}"])
            wait_until(lambda: self.calls() > calls)
            try:
                yield response
            finally:
                gate.touch()

    def retrieve_at_once(self, *bodies):
        """Send all of these requests while the retriever is busy, so that they wait together."""
        with ThreadPoolExecutor(len(bodies)) as clients:
            with self.held_up():
                responses = [clients.submit(self.retrieve, **body) for body in bodies]
                wait_until(lambda: self.waiting() + count_refused(bodies, responses) == count_queries(bodies))
            return [response.result() for response in responses]

    def calls(self):
        return self.stats()["retriever"]["calls"]

    def waiting(self):
        return self.stats()["waiting_queries"]

    def stats(self):
        return requests.get(f"{self.url}/stats", timeout=60).json()

    def accepts_connections(self):
        with socket.socket() as connection:
            return connection.connect_ex(self.address) == 0

    def send_bytes(self, data):
        """Send bytes over a connection of their own and return what comes back until it ends or pauses."""
        with socket.create_connection(self.address, timeout=5) as connection:
            connection.sendall(data)
            return connection.recv(65536)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


def lower_file_limit():
    """To 256 open files, fewer than the connections that a server has to hold; it may raise it again."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def count_queries(bodies):
    return sum(len(body["queries"]) for body in bodies)


def count_refused(bodies, responses):
    return count_queries(body for body, response in zip(bodies, responses, strict=True) if response.done())


@contextlib.contextmanager
def running(**settings):
    server = Server(**settings)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


@pytest.fixture(scope="module")
def server():
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def strict_server():
    limits = {"max_queries": 3, "max_query_length": 20, "max_body_size": 300, "max_top_k": 5}
    with running(limits=limits) as server:
        yield server


@pytest.fixture(scope="module")
def closed_server():
    with running(token=TOKEN) as server:
        yield server


@pytest.fixture
def own_server():
    """For tests that count what it did, or stop it."""
    with running(stop_timeout=5) as server:
        yield server


def found(response):
    """The query that each list of documents belongs to."""
    assert response.status_code == 200, response.text
    return [documents[0]["title"].strip('"') for documents in response.json()["result"]]


def test_with_return_scores_each_item_is_a_document_and_its_score(server):
    response = server.retrieve(["river"], topk=2, return_scores=True)
    documents = [
        {"id": str(rank), "title": '"river"', "text": f"rank {rank}", "contents": f'"river"\nrank {rank}'}
        for rank in range(2)
    ]
    items = [{"document": documents[0], "score": 0.0}, {"document": documents[1], "score": -1.0}]
    assert response.json() == {"result": [items]}


@pytest.mark.parametrize("fields", [{"return_scores": False}, {}])
def test_without_return_scores_each_item_is_a_bare_document(server, fields):
    response = server.retrieve(["river"], topk=1, **fields)
    document = {"id": "0", "title": '"river"', "text": "rank 0", "contents": '"river"\nrank 0'}
    assert response.json() == {"result": [[document]]}


@pytest.mark.parametrize("fields", [{"topk": None}, {"topk": 0}, {}])
def test_without_topk_the_default_of_three_holds(server, fields):
    assert len(server.retrieve(["river"], **fields).json()["result"][0]) == 3


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


def test_the_content_type_does_not_matter(server):
    assert found(server.post(b'{"queries": ["river"]}', headers={"Content-Type": "text/plain"})) == ["river"]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"", 400, "not valid JSON"),
        (b'{"queries": ["a"', 400, "not valid JSON"),
        (b"\xff\x00\xfe junk", 400, "not valid JSON"),
        (b"[" * 100_000, 400, "not valid JSON"),
        (b'["a"]', 422, "the body is ['a']"),
        (b"{}", 422, "queries is missing"),
        (b'{"queries": "a"}', 422, "queries is 'a'"),
        (b'{"queries": ["a", 3]}', 422, "queries[1] is 3"),
        (b'{"queries": ["a", null]}', 422, "queries[1] is None"),
        (b'{"queries": [], "topk": "3"}', 422, "topk is '3'"),
        (b'{"queries": [], "topk": true}', 422, "topk is True"),
        (b'{"queries": [], "topk": NaN}', 422, "topk is nan"),
        (b'{"queries": [], "topk": -1}', 422, "topk is -1: it may be from 1 to 100"),
        (b'{"queries": [], "topk": 101}', 422, "topk is 101: it may be from 1 to 100"),
        (b'{"queries": [], "return_scores": "yes"}', 422, "return_scores is 'yes'"),
        (b'{"queries": "\\ud800"}', 422, "queries is '\\ud800'"),
    ],
)
def test_a_wrong_body_is_refused_with_the_reason(server, body, status, detail):
    response = server.post(body)
    assert response.status_code == status
    assert detail in response.json()["detail"]


@pytest.mark.parametrize(
    ("request_fields", "status", "detail"),
    [
        ({"queries": ["a"] * 4}, 413, "queries has 4 items and may have 3"),
        ({"queries": ["a", "x" * 21]}, 422, "queries[1] has 21 characters and may have 20"),
        ({"queries": ["a"], "topk": 6}, 422, "topk is 6: it may be from 1 to 5"),
        ({"queries": ["x" * 284]}, 413, "The body has 301 bytes and may have 300"),
    ],
)
def test_what_exceeds_a_limit_is_refused_with_its_size_and_the_limit(strict_server, request_fields, status, detail):
    response = strict_server.retrieve(**request_fields)
    assert response.status_code == status
    assert detail in response.json()["detail"]


def test_what_just_keeps_the_limits_is_served(strict_server):
    assert found(strict_server.retrieve(["x" * 20] * 3, topk=5)) == ["x" * 20] * 3


def test_a_body_of_unknown_length_is_limited_too(strict_server):
    response = strict_server.post(iter([b'{"queries": ["a"]}' + b" " * 100] * 3))
    assert response.status_code == 413
    assert "more than 300 bytes" in response.json()["detail"]


def test_a_huge_announced_length_is_refused_before_the_body_comes(strict_server):
    answer = strict_server.send_bytes(b"POST /retrieve HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_an_announced_length_that_is_too_short_gives_malformed_json(server):
    body = b'{"queries": ["river"]}'
    answer = server.send_bytes(b"POST /retrieve HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n" + body)
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_binary_junk_in_place_of_http_leaves_the_server_alive(server):
    for seed in range(20):
        answer = server.send_bytes(bytes((seed * 37 + position * 101) % 256 for position in range(500)) + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
    assert found(server.retrieve(["river"], topk=1)) == ["river"]


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /retr",
        b"POST /retrieve HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n{",
    ],
    ids=["in-the-head", "in-the-body"],
)
def test_a_client_that_goes_away_disturbs_nobody(server, sent):
    with socket.create_connection(server.address) as connection:
        connection.sendall(sent)
    assert found(server.retrieve(["river"], topk=1)) == ["river"]


def test_a_client_that_goes_away_while_it_waits_disturbs_nobody(server):
    with server.held_up(), socket.create_connection(server.address) as connection:
        connection.sendall(b'POST /retrieve HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n{"queries": ["sea"]}')
        wait_until(lambda: server.waiting() == 1)
    assert found(server.retrieve(["river"], topk=1)) == ["river"]


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
    assert server.calls() == calls + 2  # the one that kept the retriever busy, and the thirty


def test_each_request_keeps_its_own_topk_when_merged(server):
    calls = server.calls()
    responses = server.retrieve_at_once(*({"queries": ["river"], "topk": number % 3 + 1} for number in range(9)))
    assert [len(response.json()["result"][0]) for response in responses] == [1, 2, 3] * 3
    assert server.calls() == calls + 4


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

    with ThreadPoolExecutor(1) as client, server.held_up():  # so that all are connected before any is answered
        answers = client.submit(asyncio.run, ask_all())
        wait_until(lambda: server.waiting() == 2000)
    assert answers.result() == [[f'"q{number}"', f'"q{number} again"'] for number in range(1000)]


def test_a_failed_search_is_503_and_names_the_positions(server):
    response = server.retrieve(["river", "fail", "lake", "fail again"])
    assert response.status_code == 503
    assert response.json() == {"detail": "The search failed for 2 of 4 queries: queries[1], queries[3]."}


def test_when_every_search_fails_it_is_503_too(server):
    response = server.retrieve(["fail"])
    assert response.status_code == 503
    assert response.json() == {"detail": "The search failed for 1 of 1 queries: queries[0]."}


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


def test_an_exception_reaches_only_the_request_that_caused_it(server):
    responses = server.retrieve_at_once({"queries": ["a"]}, {"queries": ["bug"]}, {"queries": ["b"]})
    assert [response.status_code for response in responses] == [200, 500, 200]


def test_more_waiting_queries_than_allowed_are_503_with_a_time_to_retry():
    with running(max_waiting=2) as server:
        responses = server.retrieve_at_once(*({"queries": ["a", "b"]} for _ in range(3)))
    refused = [response for response in responses if response.status_code == 503]
    assert len(refused) == 2
    assert refused[0].headers["Retry-After"] == "1"
    assert "2 queries are waiting and 2 may" in refused[0].json()["detail"]


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer ", TOKEN, f"Basic {TOKEN}", "Bearer \xe9"])
@pytest.mark.parametrize("path", ["retrieve", "stats", "metrics"])
def test_without_the_token_nothing_is_told(closed_server, path, header):
    method = "POST" if path == "retrieve" else "GET"
    headers = {"Authorization": header} if header else {}
    response = requests.request(method, f"{closed_server.url}/{path}", headers=headers, data=b"{", timeout=60)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert "Authorization: Bearer" in response.json()["detail"]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_with_the_token_all_is_open(closed_server, scheme):
    headers = {"Authorization": f"{scheme} {TOKEN}"}
    assert found(closed_server.post(b'{"queries": ["river"]}', headers=headers)) == ["river"]
    for path in ("stats", "metrics"):
        assert requests.get(f"{closed_server.url}/{path}", headers=headers, timeout=60).status_code == 200


def test_health_needs_no_token_and_tells_what_is_searched(closed_server):
    response = requests.get(f"{closed_server.url}/healthz", timeout=60)
    identity = RetrieverIdentity("EchoRetriever").to_dict()
    assert response.json() == {"status": "ok", "retriever": identity, "version": __version__}


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
        assert time.monotonic() - start < 4  # and not the five seconds that requests are given


def test_ctrl_c_stops_the_server_as_well(own_server):
    own_server.process.send_signal(signal.SIGINT)
    assert own_server.process.wait(timeout=60) == 0


def test_a_search_that_hangs_is_abandoned_at_the_stop():
    with running(stop_timeout=1) as server, server.held_up():
        assert server.stop() == 1
        assert "abandoned" in server.process.stderr.read()


@pytest.mark.parametrize("limit", ["max_queries", "max_query_length", "max_body_size", "max_top_k"])
def test_a_limit_below_one_is_refused_by_name(limit):
    with pytest.raises(ValueError, match=f"^{limit} is 0"):
        RequestLimits(**{limit: 0})


@pytest.mark.parametrize("default_top_k", [0, 101])
def test_a_default_top_k_out_of_range_is_refused(default_top_k):
    with pytest.raises(ValueError, match=f"^default_top_k is {default_top_k}: .* 100"):
        create_app(None, default_top_k=default_top_k)


def test_an_empty_token_is_refused():
    with pytest.raises(ValueError, match=r"^token is empty"):
        create_app(None, token=" ")
