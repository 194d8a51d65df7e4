"""RemoteRetriever against real servers: batches, failures and retries, the token, and its arguments."""

import logging
import math
import time

import pytest

from tspo_trl.search import SearchError
from tspo_trl.search.retrievers.remote import RemoteRetriever

from ..fault_answers import QUERIES, expected, texts
from ..fault_server import SHAPES

BROKEN_ANSWERS = ["truncated_body", "truncated_json", "deep_json", "junk", "junk_as_gzip"]
BROKEN_ANSWERS += ["junk_in_place_of_http"]
BROKEN_ANSWERS += [f"shape_{shape}" for shape in SHAPES]


# Batches and connections.


def test_queries_are_split_to_the_batch_size_and_keep_their_order(server, connect):
    assert texts(connect(server.url, batch_size=3).search(QUERIES, k=1)) == expected(QUERIES)
    assert sorted(len(request["queries"]) for request in server.seen["requests"]) == [1, 3, 3, 3]


def test_requests_are_concurrent_up_to_the_limit(server, connect):
    server.control(mode="slow")
    assert texts(connect(server.url, batch_size=1, max_concurrency=3).search(QUERIES, k=1)) == expected(QUERIES)
    assert server.seen["together"] == 3


def test_connections_are_kept_alive(server, connect):
    retriever = connect(server.url)
    for _ in range(5):
        retriever.search(["Paris"], k=1)
    assert (len(server.seen["requests"]), server.seen["connections"]) == (5, 1)


def test_no_queries_need_no_server(dead_url, connect):
    assert connect(dead_url).search([], k=1) == []


# Failures and retries.


@pytest.mark.parametrize(
    "mode", ["truncated_body", "junk", "shape_no_result", "status_500", "status_503", "status_408", "status_429"]
)
def test_request_is_repeated_after_a_passing_failure(server, connect, mode):
    server.control(mode=mode, times=2)
    retriever = connect(server.url)
    assert texts(retriever.search(QUERIES, k=1)) == expected(QUERIES)
    assert retriever.counters() == {"requests": 3, "retries": 2, "failed_requests": 0, "replicas_set_aside": 0}


@pytest.mark.parametrize("mode", BROKEN_ANSWERS)
def test_lasting_broken_answers_are_an_error(server, connect, mode):
    server.control(mode=mode)
    retriever = connect(server.url)
    with pytest.raises(SearchError, match=rf"All 10 searches at {server.url} failed: (a document of )?the answer "):
        retriever.search(QUERIES, k=1)
    assert retriever.counters() == {"requests": 3, "retries": 2, "failed_requests": 1, "replicas_set_aside": 0}


@pytest.mark.parametrize("status", [400, 403, 404, 422])
def test_request_that_the_server_refuses_is_not_repeated(server, connect, status):
    server.control(mode=f"status_{status}")
    retriever = connect(server.url)
    with pytest.raises(SearchError, match=f"HTTP {status}"):
        retriever.search(["Paris"], k=1)
    assert retriever.counters() == {"requests": 1, "retries": 0, "failed_requests": 1, "replicas_set_aside": 0}


def test_redirect_is_not_followed_and_told_with_its_remedy(server, connect):
    server.control(mode="redirect")
    with pytest.raises(SearchError, match=r"HTTP 307 redirects to /elsewhere, .*\. Change the URL in `urls`"):
        connect(server.url).search(["Paris"], k=1)


@pytest.mark.parametrize("mode", ["redirect", "status_301", "status_302", "status_304", "status_308"])
def test_redirected_request_is_neither_repeated_nor_asked_one_by_one(server, connect, mode):
    server.control(mode=mode)
    retriever = connect(server.url)
    with pytest.raises(SearchError, match="redirects to"):
        retriever.search(QUERIES, k=1)
    assert retriever.counters() == {"requests": 1, "retries": 0, "failed_requests": 1, "replicas_set_aside": 0}


def test_query_that_makes_its_request_fail_fails_alone(server, connect, caplog):
    server.control(mode="search_r1")
    retriever = connect(server.url, batch_size=4)
    results = retriever.search(["a", "poison", "b", "c", "d"], k=1)
    assert texts(results) == [*expected(["a"]), None, *expected(["b", "c", "d"])]
    # The request of four three times, then its queries one by one; the request of one once.
    assert retriever.counters() == {"requests": 8, "retries": 2, "failed_requests": 2, "replicas_set_aside": 0}
    assert "The search for 'poison' failed: HTTP 500" in caplog.text


def test_request_is_not_repeated_when_the_server_says_which_of_its_queries_failed(server, connect):
    server.control(mode="name_failed")
    retriever = connect(server.url)
    results = retriever.search(["a", "poison", "b"], k=1)
    assert texts(results) == [*expected(["a"]), None, *expected(["b"])]
    # The request of three once, then its queries one by one.
    assert retriever.counters() == {"requests": 4, "retries": 0, "failed_requests": 2, "replicas_set_aside": 0}


def test_request_is_repeated_when_the_server_says_that_all_of_its_queries_failed(server, connect):
    server.control(mode="name_failed", times=2)
    retriever = connect(server.url)
    assert texts(retriever.search(["poison 1", "poison 2"], k=1)) == expected(["poison 1", "poison 2"])
    assert retriever.counters() == {"requests": 3, "retries": 2, "failed_requests": 0, "replicas_set_aside": 0}


def test_asking_one_by_one_takes_no_longer_than_the_retries(server, connect):
    server.control(mode="hang_alone")
    retriever = connect(server.url, timeout=0.3, max_retries=1)
    with pytest.raises(SearchError, match="no time was left to ask it alone"):
        retriever.search(QUERIES, k=1)
    # The request twice, then single queries until two timeouts are spent.
    assert 4 <= retriever.counters()["requests"] <= 5


def test_null_for_a_query_is_a_failure_and_no_empty_result(server, connect):
    server.control(mode="null_for_poison")
    assert texts(connect(server.url).search(["a", "poison"], k=1)) == [*expected(["a"]), None]


def test_nothing_found_is_no_failure(server, connect):
    server.control(mode="empty")
    assert connect(server.url).search(["a", "b"], k=1) == [[], []]


def test_timeout_bounds_an_answer_that_drips(server, connect):
    server.control(mode="drip")
    start = time.monotonic()
    with pytest.raises(SearchError, match=r"no complete answer within 0\.3 s"):
        connect(server.url, timeout=0.3).search(["a"], k=1)
    assert time.monotonic() - start < 8


def test_endless_answer_is_not_read_to_its_end(server, connect, monkeypatch):
    monkeypatch.setattr("tspo_trl.search.retrievers.http_client.LARGEST_BODY", 10**6)
    server.control(mode="endless")
    with pytest.raises(SearchError, match="larger than 1000000 bytes"):
        connect(server.url).search(["a"], k=1)


def test_error_is_raised_when_no_server_is_there(dead_url, connect):
    with pytest.raises(SearchError, match=f"All 2 searches at {dead_url} failed: .*onnect"):
        connect(dead_url).search(["a", "b"], k=1)


@pytest.mark.parametrize("mode", ["junk_in_place_of_http", "junk_as_error"])
def test_junk_does_not_fill_the_log(server, connect, caplog, mode):
    server.control(mode=mode)
    with pytest.raises(SearchError) as error:
        connect(server.url, max_retries=0).search(["a"], k=1)
    messages = [str(error.value), *caplog.messages]
    assert max(map(len, messages)) < 400
    assert all(message.isprintable() for message in messages)


def test_reason_that_the_server_gives_is_told(server, connect):
    server.control(mode="need_token")
    with pytest.raises(SearchError, match=r"HTTP 401 .*token needed"):
        connect(server.url).search(["a"], k=1)


def test_retries_leave_the_seeded_random_numbers_alone(server, connect):
    import random

    server.control(mode="status_500", times=2)
    random.seed(0)
    before = random.getstate()
    connect(server.url).search(["a"], k=1)
    assert random.getstate() == before


# Token and arguments.


def test_token_is_sent(server, connect):
    server.control(mode="need_token")
    assert texts(connect(server.url, token="secret-token").search(["a"], k=1)) == expected(["a"])


def test_token_is_not_shown(server, connect, caplog):
    caplog.set_level(logging.DEBUG)
    server.control(mode="tell_token")  # a server that repeats the header in its error
    retriever = connect(server.url, token="secret-token")
    with pytest.raises(SearchError, match=r"bad header Bearer \*\*\*"):
        retriever.search(["a", "b"], k=1)
    assert "secret" not in f"{caplog.text}{retriever!r}{retriever.identity}"


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://host", "http://", "http://a..b", "http://h:99999", "http://h/?a=b"]
)
def test_url_that_cannot_be_one_is_refused(url):
    with pytest.raises(ValueError, match=r"urls contains .* like 'http://localhost:8000'"):
        RemoteRetriever(url)


def test_password_in_a_url_is_refused_and_not_shown():
    with pytest.raises(ValueError, match="`token`") as error:
        RemoteRetriever("http://me:password@host:8000")
    assert "password" not in str(error.value)


def test_urls_of_another_type_are_refused():
    with pytest.raises(TypeError, match="urls contains 8000"):
        RemoteRetriever(["http://host", 8000])
    with pytest.raises(ValueError, match="urls is empty"):
        RemoteRetriever([])


@pytest.mark.parametrize(
    "option",
    [
        {"batch_size": 0},
        {"max_concurrency": 0},
        {"timeout": 0},
        {"timeout": math.inf},
        {"max_retries": -1},
        {"backoff": -1},
        {"set_aside": math.nan},
        {"token": ""},
        {"token": "two\nlines"},
    ],
)
def test_options_out_of_range_are_refused_by_name(option):
    [name] = option
    with pytest.raises(ValueError, match=rf"^{name} (is|has) "):
        RemoteRetriever("http://host", **option)


def test_arguments_of_a_search_are_checked(connect, dead_url):
    with pytest.raises(TypeError, match="queries"):
        connect(dead_url).search("Paris", k=1)
    with pytest.raises(ValueError, match=r"^k is 0"):
        connect(dead_url).search(["Paris"], k=0)
