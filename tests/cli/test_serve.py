"""`tspo-trl serve` as a user runs it: a Search-R1 client, the options, and the end of the server."""

import re
import resource
import signal
import socket
import sys
from types import SimpleNamespace

import pytest
import requests

from tspo_trl.cli import serve
from tspo_trl.cli.main import main

from ..serving import serving


def session_with(token):
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {token}"
    return session


@pytest.fixture(scope="module")
def server(index_path):
    """URL of a server for the six passages with all defaults."""
    with serving("--index", index_path) as (_, url):
        yield url


def search_r1_request(url, queries, **fields):
    """Send the request of Search-R1's rollout."""
    response = requests.post(f"{url}/retrieve", json={"queries": queries, **fields}, timeout=60)
    response.raise_for_status()
    return response.json()["result"]


def search_r1_passages(results):
    """Return the text that Search-R1's rollout makes of the results of a query: `Doc i(Title: ...) ...`."""
    text = ""
    for number, item in enumerate(results, start=1):
        title, *lines = item["document"]["contents"].split("\n")
        text += f"Doc {number}(Title: {title}) " + "\n".join(lines) + "\n"
    return text


def test_a_search_r1_rollout_gets_its_passages(server):
    queries = ["capital of France", "longest river of Mount Fumaiolo"]
    results = search_r1_request(server, queries, topk=1, return_scores=True)
    assert [search_r1_passages(result) for result in results] == [
        'Doc 1(Title: "Paris") Paris is the capital of France. It lies on the Seine.\n',
        'Doc 1(Title: "Tiber") The Tiber is a river in Italy. It rises at Mount Fumaiolo.\n',
    ]


def test_scores_are_numbers_best_first(server):
    [results] = search_r1_request(server, ["river in France"], topk=3, return_scores=True)
    scores = [item["score"] for item in results]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] > 0


def test_without_scores_documents_are_bare(server):
    [[document]] = search_r1_request(server, ["capital of Spain"], topk=1, return_scores=False)
    assert document == {
        "id": "2",
        "title": '"Madrid"',
        "text": "Madrid is the capital of Spain. It lies on the Manzanares.",
        "contents": '"Madrid"\nMadrid is the capital of Spain. It lies on the Manzanares.',
    }


def test_without_topk_three_passages_come(server):
    [results] = search_r1_request(server, ["capital"], return_scores=True)
    assert len(results) == 3


@pytest.mark.parametrize("query", ["", "zzzz", "\ud800", "!?*:()[]{}"])
def test_a_query_without_a_hit_finds_nothing(server, query):
    assert search_r1_request(server, [query], topk=3, return_scores=True) == [[]]


def test_health_tells_the_index(server):
    health = requests.get(f"{server}/healthz", timeout=60).json()
    assert health["status"] == "ok"
    assert health["retriever"]["name"] == "BM25Retriever"
    assert len(health["retriever"]["fingerprint"]) == 64


def test_it_listens_on_loopback_only(server):
    assert server.startswith("http://127.0.0.1:")


def test_ctrl_c_ends_it_with_status_0_and_no_complaint(index_path):
    with serving("--index", index_path) as (process, _):
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "", "")


def test_options_set_the_default_top_k_the_limits_and_the_token(index_path, tmp_path):
    (tmp_path / "token").write_text("s3cret\n")
    options = ["--top-k", 2, "--max-queries", 2, "--max-query-length", 20, "--max-body-size", 200, "--max-top-k", 4]
    bodies = [["capital"], ["a"] * 3, ["x" * 21], ["x" * 200]]
    with (
        serving("--index", index_path, "--token-file", tmp_path / "token", *options) as (_, url),
        session_with("s3cret") as session,
    ):
        responses = [session.post(f"{url}/retrieve", json={"queries": queries}) for queries in bodies]
        assert [response.status_code for response in responses] == [200, 413, 422, 413]
        assert len(responses[0].json()["result"][0]) == 2
        assert session.post(f"{url}/retrieve", json={"queries": ["a"], "topk": 5}).status_code == 422
        assert requests.get(f"{url}/stats", timeout=60).status_code == 401


def test_beyond_loopback_a_token_from_the_environment_satisfies_and_sigterm_ends_it(index_path):
    with serving("--index", index_path, "--host", "0.0.0.0", TSPO_TRL_TOKEN=" s3cret\n") as (process, url):
        url = url.replace("0.0.0.0", "127.0.0.1")
        statuses = [session_with(token).get(f"{url}/stats", timeout=60).status_code for token in ("s3cret", "wrong")]
        process.terminate()
        errors = process.communicate(timeout=60)[1]
    assert statuses == [200, 401]
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ([], [False, True, True]),
        (["--allowed-host", "node-1"], [False, False, True]),
        (["--host", "0.0.0.0"], [False, False, False]),
        (["--host", "0.0.0.0", "--allowed-host", "node-1", "--allowed-host", "other"], [False, False, True]),
        (["--allowed-host", "*"], [False, False, False]),
    ],
)
def test_on_loopback_and_with_allowed_hosts_other_names_are_refused(index_path, options, refused):
    with (
        serving("--index", index_path, *options, TSPO_TRL_TOKEN="s3cret") as (_, url),
        session_with("s3cret") as client,
    ):
        url = url.replace("0.0.0.0", "127.0.0.1")
        answers = [
            client.post(f"{url}/retrieve", json={"queries": ["capital"]}, headers={"Host": host} if host else {})
            for host in ("", "node-1:8000", "attacker.example")
        ]
    assert [answer.status_code == 403 for answer in answers] == refused


def test_a_connection_without_a_request_is_closed_in_time():
    class Connection:
        def __init__(self, cycle=None):
            self.cycle, self.closed = cycle, False
            self.transport = SimpleNamespace(abort=lambda: setattr(self, "closed", True))

    done, running = SimpleNamespace(response_complete=True), SimpleNamespace(response_complete=False)
    silent, paused, busy, active = (Connection(cycle) for cycle in (None, done, running, done))
    idle = {}
    for now in range(0, 100, 10):
        active.cycle = SimpleNamespace(response_complete=True)  # another request was answered
        idle = serve._close_idle({silent, paused, busy, active}, idle, float(now))
        assert not silent.closed
    serve._close_idle({silent, paused, busy, active}, idle, 91.0)
    assert [connection.closed for connection in (silent, paused, busy, active)] == [True, True, False, False]


@pytest.mark.parametrize("environment", [{}, {"TSPO_TRL_TOKEN": ""}])
def test_beyond_loopback_without_a_token_there_is_a_warning(index_path, environment):
    with serving("--index", index_path, "--host", "0.0.0.0", **environment) as (process, _):
        process.terminate()
        errors = process.communicate(timeout=60)[1]
    assert errors.startswith("warning: everyone who can reach http://0.0.0.0:")
    assert "TSPO_TRL_TOKEN" in errors


def test_a_port_in_use_is_told_in_one_line(index_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", "--index", str(index_path), "--port", str(port)]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert re.fullmatch(rf"error: cannot listen on 127\.0\.0\.1, port {port}: .*in use.*--port\.\n", errors)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "There is nothing to search"),
        (["--index", "/nowhere"], "/nowhere does not exist"),
        (["--index", "/nowhere", "--port", "65536"], "--port is 65536"),
        (["--index", "/nowhere", "--top-k", "0"], "--top-k is 0"),
        (
            ["--index", "/nowhere", "--top-k", "9", "--max-top-k", "8"],
            "--top-k is 9. It must be at most --max-top-k, 8",
        ),
        (["--index", "/nowhere", "--max-queries", "0"], "--max-queries is 0"),
        (["--index", "/nowhere", "--max-query-length", "0"], "--max-query-length is 0"),
        (["--index", "/nowhere", "--max-body-size", "0"], "--max-body-size is 0"),
        (["--index", "/nowhere", "--max-top-k", "0"], "--max-top-k is 0"),
        (["--index", "/nowhere", "--allowed-host", "node-1:80"], "--allowed-host has 'node-1:80'"),
        (["--index", "/nowhere", "--token-file", "/dev/null"], "--token-file /dev/null is empty"),
        (["--index", "/nowhere", "--token-file", "/nowhere"], "No such file"),
        (["--index", "/nowhere", "--host", "no such host"], "cannot listen on no such host"),
    ],
)
def test_a_mistake_ends_in_one_line_and_status_2(options, message, capsys):
    assert main(["serve", "--port", "0", *options]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("error: ")
    assert message in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("token", [" \n", "s3 cret", "sécret"])
def test_a_token_that_no_client_could_send_is_refused_with_where_it_came_from(token, tmp_path, monkeypatch, capsys):
    (tmp_path / "token").write_text(token, encoding="utf-8")
    assert main(["serve", "--index", "/nowhere", "--port", "0", "--token-file", str(tmp_path / "token")]) == 2
    assert capsys.readouterr().err.startswith(f"error: --token-file {tmp_path / 'token'} ")
    monkeypatch.setenv("TSPO_TRL_TOKEN", token)
    assert main(["serve", "--index", "/nowhere", "--port", "0"]) == 2
    assert capsys.readouterr().err.startswith("error: the environment variable TSPO_TRL_TOKEN ")


UNLIMITED = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [
        (1024, 4096, [(4096, 4096)]),
        (1024, 1_000_000, [(65536, 1_000_000)]),
        (256, UNLIMITED, [(65536, UNLIMITED)]),
        (100_000, 1_000_000, []),
        (UNLIMITED, UNLIMITED, []),
    ],
)
def test_the_limit_of_open_files_is_raised_to_65536_and_never_lowered(soft, hard, raised, monkeypatch):
    calls = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: calls.append(limits))
    serve._raise_file_limit()
    assert calls == raised


@pytest.mark.parametrize("error", [ValueError, OSError])
def test_a_limit_of_open_files_that_cannot_be_raised_is_logged(error, monkeypatch, caplog):
    def refuse(*_):
        raise error("the system refuses")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    serve._raise_file_limit()
    assert "stays at 256" in caplog.text
    assert "the system refuses" in caplog.text


def test_a_system_without_limits_of_open_files_will_do(monkeypatch, caplog):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setitem(sys.modules, "resource", None)
    serve._raise_file_limit()
    assert caplog.text == ""
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
