"""The retrieval server refuses malformed requests, requests beyond a limit, and clients without the token."""

import asyncio

import pytest
import requests
from fastapi import HTTPException, Request

from tspo_trl import __version__
from tspo_trl.search import RetrieverIdentity
from tspo_trl.search.serving.server import RequestLimits, _read_body, create_app

from .server_process import found, running

TOKEN = "s3cret"
HEAD = b"POST /retrieve HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


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
        (b'{"queries": [], "topk": "three"}', 422, "topk is 'three'"),
        (b'{"queries": [], "topk": 2.5}', 422, "topk is 2.5"),
        (b'{"queries": [], "topk": NaN}', 422, "topk is nan"),
        (b'{"queries": [], "topk": -1}', 422, "topk is -1. It may be from 1 to 100"),
        (b'{"queries": [], "topk": 101}', 422, "topk is 101. It may be from 1 to 100"),
        (b'{"queries": [], "return_scores": "maybe"}', 422, "return_scores is 'maybe'"),
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
        ({"queries": ["a"], "topk": 6}, 422, "topk is 6. It may be from 1 to 5"),
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
    answer = strict_server.send_bytes(HEAD + b"Content-Length: 99999999999\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_body_that_never_ends_is_given_up(monkeypatch):
    monkeypatch.setattr("tspo_trl.search.serving.server._BODY_TIMEOUT", 0.01)

    async def drip():
        await asyncio.sleep(0.002)
        return {"type": "http.request", "body": b" ", "more_body": True}

    with pytest.raises(HTTPException, match=r"408: The body did not come within 0\.01 s"):
        asyncio.run(_read_body(Request({"type": "http", "headers": []}, drip), 10**6))


def test_an_announced_length_that_is_too_short_gives_malformed_json(server):
    body = b'{"queries": ["river"]}'
    answer = server.send_bytes(HEAD + b"Content-Length: 9\r\n\r\n" + body)
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_binary_junk_in_place_of_http_leaves_the_server_alive(server):
    for seed in range(20):
        answer = server.send_bytes(bytes((seed * 37 + position * 101) % 256 for position in range(500)) + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
    assert found(server.retrieve(["river"], topk=1)) == ["river"]


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
    assert found(closed_server.post(b'{"queries": ["river"]}', **headers)) == ["river"]
    for path in ("stats", "metrics"):
        assert requests.get(f"{closed_server.url}/{path}", headers=headers, timeout=60).status_code == 200


def test_health_needs_no_token_and_tells_what_is_searched(closed_server):
    response = requests.get(f"{closed_server.url}/healthz", timeout=60)
    identity = RetrieverIdentity("EchoRetriever").to_dict()
    assert response.json() == {"status": "ok", "retriever": identity, "version": __version__}


@pytest.mark.parametrize("limit", ["max_queries", "max_query_length", "max_body_size", "max_top_k"])
def test_a_limit_below_one_is_refused_by_name(limit):
    with pytest.raises(ValueError, match=f"^{limit} is 0"):
        RequestLimits(**{limit: 0})


@pytest.mark.parametrize("default_top_k", [0, 101])
def test_a_default_top_k_out_of_range_is_refused(default_top_k):
    with pytest.raises(ValueError, match=f"^default_top_k is {default_top_k}. .* 100"):
        create_app(None, default_top_k=default_top_k)


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("", "empty"),
        (" ", "has characters"),
        ("s3 cret", "has characters"),
        ("s3cret\n", "has characters"),
        ("sécret", "has characters"),
    ],
)
def test_a_token_that_no_client_could_send_is_refused(token, message):
    with pytest.raises(ValueError, match=rf"^token (is )?{message}"):
        create_app(None, token=token)
