"""A web page cannot search: its own name pointed at this machine is refused, and so are bodies without a preflight."""

import pytest
import requests

from tspo_trl.search import RemoteRetriever
from tspo_trl.search.serving.hosts import check_allowed_hosts, host_name, is_allowed
from tspo_trl.search.serving.server import create_app

from .server_process import found, running

BODY = b'{"queries": ["river"], "return_scores": true}'


@pytest.fixture(scope="module")
def server():
    with running() as server:
        yield server


@pytest.mark.parametrize("route", ["retrieve", "healthz", "stats", "metrics", "other"])
@pytest.mark.parametrize(
    "host", ["attacker.example", "attacker.example:8000", "127.0.0.1.attacker.example", "10.1.2.3"]
)
def test_an_unknown_host_is_refused_on_every_route(server, route, host):
    method = "POST" if route == "retrieve" else "GET"
    headers = {"Host": host, "Content-Type": "application/json"}
    response = requests.request(method, f"{server.url}/{route}", headers=headers, data=BODY, timeout=60)
    assert response.status_code == 403
    assert f"--allowed-host {host.partition(':')[0]}" in response.json()["detail"]


@pytest.mark.parametrize("host", ["localhost", "LocalHost.:1", "127.0.0.1", "127.0.0.2:80", "[::1]:8000", "[::1]"])
def test_names_of_this_machine_are_known(server, host):
    assert found(server.post(BODY.replace(b"true", b"false"), Host=host)) == ["river"]


@pytest.mark.parametrize("host", [b"", b"[", b"[::1", b"a b", b"a:b", b"user@127.0.0.1", b"127.0.0.1/x", b"\xe9"])
def test_a_malformed_host_is_a_bad_request(server, host):
    answer = server.send_bytes(b"GET /healthz HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("head", [b"", b"Host: 127.0.0.1\r\nHost: attacker.example\r\n"])
def test_a_host_that_is_missing_or_double_is_a_bad_request(server, head):
    for version in (b"1.0", b"1.1"):
        answer = server.send_bytes(b"GET /healthz HTTP/" + version + b"\r\n" + head + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")


def test_allowed_hosts_are_served_and_no_others():
    with running(allowed_hosts=["node-1", "*.cluster.local"]) as server:
        statuses = [
            server.post(BODY, Host=host).status_code
            for host in (
                "node-1:8000",
                "NODE-1",
                "a.b.cluster.local",
                "127.0.0.1",
                "cluster.local",
                "node-10",
                "x.node-1",
            )
        ]
    assert statuses == [200, 200, 200, 200, 403, 403, 403]


def test_a_star_allows_every_name():
    with running(allowed_hosts=["*"]) as server:
        assert server.post(BODY, Host="attacker.example").status_code == 200
        assert server.post(BODY, Host="[").status_code == 400


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/plain;application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "",
        None,
    ],
)
def test_a_body_that_a_page_may_send_without_asking_is_refused(server, content_type):
    response = requests.post(f"{server.url}/retrieve", data=BODY, headers={"Content-Type": content_type}, timeout=60)
    assert response.status_code == 415
    assert "application/json" in response.json()["detail"]


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_is_served(server, content_type):
    assert server.post(BODY, **{"Content-Type": content_type}).status_code == 200


def test_a_preflight_is_not_answered(server):
    headers = {"Origin": "http://attacker.example", "Access-Control-Request-Method": "POST"}
    response = requests.options(f"{server.url}/retrieve", headers=headers, timeout=60)
    assert response.status_code == 405
    assert not [name for name in response.headers if name.lower().startswith("access-control")]


def test_our_client_searches_as_before(server):
    with RemoteRetriever(server.url) as retriever:
        [[passage]] = retriever.search(["river"], 1)
    assert passage.title == '"river"'


@pytest.mark.parametrize(
    "host", ["http://node-1", "node-1:8000", "[::1]:8000", "", "*.", "a*", "*.*", "node 1", "node-1/", "nöde"]
)
def test_a_name_that_no_client_could_send_is_refused(host):
    with pytest.raises(ValueError, match=r"^allowed_hosts has "):
        create_app(None, allowed_hosts=["node-1", host])


def test_names_are_compared_as_urls_write_them():
    allowed = check_allowed_hosts(["Node-1.", "2001:DB8::1", "[2001:db8::2]"])
    hosts = ["node-1:80", "[2001:db8::1]", "[2001:db8::2]:80", "[2001:db8::3]"]
    assert [is_allowed(host_name(host), allowed) for host in hosts] == [True, True, True, False]
