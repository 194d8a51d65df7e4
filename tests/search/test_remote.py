"""RemoteRetriever: Search-R1's protocol, from several threads and processes, against real servers."""

import asyncio
import contextlib
import copy
import gc
import json
import logging
import math
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tspo_trl.search import Passage, RetrieverIdentity, SearchError
from tspo_trl.search.identity import identity_of
from tspo_trl.search.remote import RemoteRetriever
from tspo_trl.search.replicas import Replicas
from tspo_trl.search.wire import encode_request, parse_answer

from .fault_server import SHAPES, FaultServer

BROKEN_ANSWERS = ["truncated_body", "truncated_json", "deep_json", "junk", "junk_as_gzip"]
BROKEN_ANSWERS += ["junk_in_place_of_http"]
BROKEN_ANSWERS += [f"shape_{shape}" for shape in SHAPES]


@pytest.fixture(scope="module")
def processes():
    servers = [FaultServer(), FaultServer()]
    yield servers
    for server in servers:
        server.kill()


@pytest.fixture
def servers(processes):
    """Two servers that answer normally until told otherwise."""
    for server in processes:
        server.control()
    return processes


@pytest.fixture
def server(servers):
    return servers[0]


@pytest.fixture
def connect():
    """Makes retrievers that lose no time, and closes them."""
    with contextlib.ExitStack() as stack:
        options = {"timeout": 10.0, "max_retries": 2, "backoff": 0.01}
        yield lambda *urls, **changes: stack.enter_context(RemoteRetriever(urls, **{**options, **changes}))


@pytest.fixture
def dead_url():
    """A server that is not there."""
    server = FaultServer()
    server.kill()
    return server.url


def texts(results):
    return [None if passages is None else [passage.text for passage in passages] for passages in results]


def expected(queries, k=1):
    return [[f"Passage for {query}."] * k for query in queries]


QUERIES = [f"query {i}" for i in range(10)]


# What goes over the wire.


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


def test_odd_queries_are_sent_like_others(server, connect):
    queries = ["", "  ", "東京 😀", "a\0b", '"quoted"\n']
    assert texts(connect(server.url).search(queries, k=1)) == expected(queries)


def test_lone_surrogate_is_replaced(server, connect):
    assert texts(connect(server.url).search(["a\ud800b", "\ud83d\ude00"], k=1)) == expected(["a\ufffdb", "😀"])


def test_no_queries_need_no_server(dead_url, connect):
    assert connect(dead_url).search([], k=1) == []


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


def test_redirects_are_not_followed(server, connect):
    server.control(mode="redirect")
    with pytest.raises(SearchError, match="HTTP 307"):
        connect(server.url).search(["Paris"], k=1)


def test_query_that_makes_its_request_fail_fails_alone(server, connect, caplog):
    server.control(mode="search_r1")
    retriever = connect(server.url, batch_size=4)
    results = retriever.search(["a", "poison", "b", "c", "d"], k=1)
    assert texts(results) == [*expected(["a"]), None, *expected(["b", "c", "d"])]
    # The request of four three times, then its queries one by one; the request of one once.
    assert retriever.counters() == {"requests": 8, "retries": 2, "failed_requests": 2, "replicas_set_aside": 0}
    assert "The search for 'poison' failed: HTTP 500" in caplog.text


def test_asking_one_by_one_takes_no_longer_than_the_retries(server, connect):
    server.control(mode="hang_alone")
    with pytest.raises(SearchError, match="no time was left to ask it alone"):
        connect(server.url, timeout=0.3, max_retries=1).search(QUERIES, k=1)
    # The request twice, then single queries until two timeouts are spent.
    assert 4 <= len(server.seen["requests"]) <= 5


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
    monkeypatch.setattr("tspo_trl.search.http_client.LARGEST_BODY", 10**6)
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


# Replicas.


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
    assert time.monotonic() - start < 10  # the wait would have been 15 s at least


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
    monkeypatch.setattr("tspo_trl.search.replicas.time", clock)
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


# Threads, processes, and the end.


def test_servers_may_start_later(connect):
    server = FaultServer()
    server.kill()
    retriever = connect(server.url)
    server.start()
    assert texts(retriever.search(["a"], k=1)) == expected(["a"])
    server.kill()


def test_threads_can_share_a_retriever(server, connect):
    retriever = connect(server.url, batch_size=2)
    batches = [[f"query {i} of thread {thread}" for i in range(5)] for thread in range(40)]
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda queries: texts(retriever.search(queries, k=1)), batches))
    assert results == [expected(queries) for queries in batches]
    assert retriever.counters()["requests"] == 120


def test_works_where_an_event_loop_runs(server, connect):
    async def cell_of_a_notebook():
        return connect(server.url).search(["a"], k=1)

    assert texts(asyncio.run(cell_of_a_notebook())) == expected(["a"])


def test_closed_retriever_opens_again(server, connect):
    retriever = connect(server.url)
    retriever.search(["a"], k=1)
    retriever.close()
    retriever.close()
    assert texts(retriever.search(["a"], k=1)) == expected(["a"])
    assert server.seen["connections"] == 2


def test_closing_ends_a_search_of_another_thread(server, connect):
    server.control(mode="hang")
    retriever = connect(server.url, timeout=60)
    with ThreadPoolExecutor(1) as threads:
        search = threads.submit(retriever.search, ["a"], 1)
        while not server.seen["requests"]:
            time.sleep(0.01)
        retriever.close()
        with pytest.raises(SearchError, match="given up: the client was closed"):
            search.result(timeout=10)


def test_copies_search_alike_and_keep_all_options(server):
    options = {"batch_size": 2, "max_concurrency": 3, "timeout": 4.0, "max_retries": 5, "backoff": 6, "set_aside": 7}
    with RemoteRetriever(server.url, **options, token="secret-token") as retriever:
        server.control(mode="need_token")
        retriever.search(["a"], k=1)
        for duplicate in (pickle.loads(pickle.dumps(retriever)), copy.deepcopy(retriever)):
            with duplicate:
                assert texts(duplicate.search(["a"], k=1)) == expected(["a"])
                assert {name: getattr(duplicate, name) for name in options} == options


FORK = """
import gc, os, sys
from tspo_trl.search.remote import RemoteRetriever
retriever = RemoteRetriever({url!r}, timeout=5, max_retries=0)
retriever.search(["parent"], 1)
for use in (True, False):
    child = os.fork()
    if not child:
        if use:
            print(retriever.search(["child"], 1)[0][0].text, flush=True)
        del retriever
        gc.collect()
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
    print(retriever.search(["parent"], 1)[0][0].text, flush=True)
print(retriever.counters()["requests"])
"""


def run_program(program, url, *options):
    command = [sys.executable, *options, "-c", program.format(url=url)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_forked_process_can_search_and_leaves_the_parents_connection_alone(server):
    output, errors = run_program(FORK, server.url, "-X", "dev").communicate(timeout=60)
    lines = ["Passage for child.", "Passage for parent.", "Passage for parent.", "3"]
    assert (output.splitlines(), "nclosed" in errors, "Traceback" in errors) == (lines, False, False)
    assert server.seen["connections"] == 2  # the parent's, all the time, and the child's


def test_retriever_that_nobody_uses_any_more_leaves_no_thread(server):
    retriever = RemoteRetriever(server.url)
    retriever.search(["a"], k=1)
    before = threading.active_count()
    del retriever
    gc.collect()
    assert threading.active_count() == before - 1


UNCLOSED = """
from tspo_trl.search.remote import RemoteRetriever
kept, dropped = RemoteRetriever({url!r}), RemoteRetriever({url!r})
print(kept.search(["a"], 1) == dropped.search(["a"], 1))
del dropped
"""


def test_interpreter_ends_without_warnings_when_nothing_was_closed(server):
    output, errors = run_program(UNCLOSED, server.url, "-X", "dev").communicate(timeout=60)
    assert output == "True\n"
    assert "nclosed" not in errors
    assert "Traceback" not in errors


INTERRUPTED = """
from tspo_trl.search.remote import RemoteRetriever
retriever = RemoteRetriever({url!r}, timeout=600)
try:
    retriever.search(["a"], 1)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_search_can_be_interrupted(server):
    server.control(mode="hang")
    process = run_program(INTERRUPTED, server.url)
    while not server.seen["requests"]:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert (output, errors, process.returncode) == ("interrupted\n", "", 0)


def test_importing_the_module_loads_no_http_library(run_python):
    program = "import sys, tspo_trl.search.remote; print('aiohttp' in sys.modules)"
    assert run_python(program) == "False"


def test_retries_leave_the_seeded_random_numbers_alone(server, connect):
    import random

    server.control(mode="status_500", times=2)
    random.seed(0)
    before = random.getstate()
    connect(server.url).search(["a"], k=1)
    assert random.getstate() == before


# Token, identity, arguments.


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


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://host", "http://", "http://a..b", "http://h:99999", "http://h/?a=b"]
)
def test_url_that_cannot_be_one_is_refused(url):
    with pytest.raises(ValueError, match=r"urls holds .* like 'http://localhost:8000'"):
        RemoteRetriever(url)


def test_password_in_a_url_is_refused_and_not_shown():
    with pytest.raises(ValueError, match="`token`") as error:
        RemoteRetriever("http://me:password@host:8000")
    assert "password" not in str(error.value)


def test_urls_of_another_type_are_refused():
    with pytest.raises(TypeError, match="urls holds 8000"):
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
    with pytest.raises(ValueError, match=rf"^{name} is "):
        RemoteRetriever("http://host", **option)


def test_arguments_of_a_search_are_checked(connect, dead_url):
    with pytest.raises(TypeError, match="queries"):
        connect(dead_url).search("Paris", k=1)
    with pytest.raises(ValueError, match=r"^k is 0"):
        connect(dead_url).search(["Paris"], k=0)
