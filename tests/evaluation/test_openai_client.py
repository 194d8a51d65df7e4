"""Requests to a real endpoint: order, retries, and the right error for each failure."""

import asyncio
import logging
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from tspo_trl.evaluation.openai_client import Endpoint, EndpointError, RefusedRequestError

from .endpoint_server import Reply, Status, free_url, in_turn

KEY = "sk-test-0123456789"


def ask(server, prompts=("a",), **options):
    endpoint = Endpoint(server.url, "policy", **options)
    return endpoint.ask("completions", [{"prompt": prompt, "max_tokens": 5} for prompt in prompts])


def texts(answers):
    return [answer.text for answer in answers]


def error_of(server, **options):
    with pytest.raises(EndpointError) as caught:
        ask(server, **options)
    assert not isinstance(caught.value, RefusedRequestError)
    return str(caught.value)


def test_a_request_is_greedy_and_has_model_and_seed(server):
    ask(server, seed=7, extra_body={"top_k": 1})
    [request] = server.requests
    assert request == {
        "model": "policy", "prompt": "a", "max_tokens": 5, "temperature": 0, "seed": 7, "top_k": 1
    }  # fmt: skip


def test_no_seed_is_sent_where_none_is_given(server):
    ask(server)
    assert "seed" not in server.requests[0]


@pytest.mark.parametrize("owner", ["vllm", "sglang"])
def test_servers_that_take_a_penalty_from_the_models_own_configuration_are_told_not_to(server, owner):
    server.models = {"data": [{"id": "other", "owned_by": "?"}, {"id": "policy", "owned_by": owner}]}
    ask(server)
    ask(server, extra_body={"repetition_penalty": 1.2})
    assert [request["repetition_penalty"] for request in server.requests] == [1.0, 1.2]


def test_penalty_is_switched_off_for_a_name_that_the_server_does_not_list(server):
    """SGLang answers to any name."""
    server.models = {"data": [{"id": "/models/policy", "owned_by": "sglang"}, 3]}
    ask(server)
    assert server.requests[0]["repetition_penalty"] == 1.0


@pytest.mark.parametrize("models", [None, [], {"data": None}, {"data": [{"id": "policy", "owned_by": "openai"}, 3]}])
def test_others_are_sent_no_field_that_they_may_not_know(server, models):
    server.models = models
    ask(server)
    assert "repetition_penalty" not in server.requests[0]


@pytest.mark.parametrize(
    ("cards", "length"),
    [
        ([{"id": "policy", "max_model_len": 512}, {"id": "other", "max_model_len": 64}], 512),
        ([{"id": "policy", "max_model_len": None, "parent": "base"}, {"id": "base", "max_model_len": 64}], 64),  # LoRA
        ([{"id": "policy"}], None),
        ([{"id": "other", "max_model_len": 64}], None),
    ],
)
def test_the_context_length_is_what_the_endpoint_says_of_the_model(server, cards, length):
    server.models = {"data": cards}
    assert Endpoint(server.url, "policy").context_length("completions") == length


def test_the_context_length_of_an_unreachable_endpoint_is_an_error():
    with pytest.raises(EndpointError, match="Start the server"):
        Endpoint(free_url(), "policy", max_retries=0).context_length("completions")


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/", "/v1/completions", "/v1/chat/completions"])
def test_the_url_may_be_written_in_several_ways(server, suffix):
    server.url += suffix
    assert texts(ask(server)) == ["Paris"]
    assert server.paths == ["/v1/completions"]


def test_answers_keep_the_order_of_requests_although_the_first_take_longest(server):
    server.answer = lambda body: Reply(body["prompt"].upper(), seconds=0.4 - 0.02 * int(body["prompt"][1:]))
    prompts = [f"p{i}" for i in range(20)]
    assert texts(ask(server, prompts)) == [prompt.upper() for prompt in prompts]
    assert server.most_together == 20


def test_no_more_requests_are_under_way_than_allowed(server):
    server.answer = lambda body: Reply("x", seconds=0.02)
    ask(server, [str(i) for i in range(12)], max_concurrency=3)
    assert server.most_together == 3


def test_connections_are_closed(server):
    ask(server, [str(i) for i in range(8)])
    deadline = time.monotonic() + 5
    while server.num_connections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.num_connections == 0


def test_it_works_where_an_event_loop_runs(server):
    async def notebook_cell():
        return ask(server)

    assert texts(asyncio.run(notebook_cell())) == ["Paris"]


def test_it_works_from_several_threads(server):
    endpoint = Endpoint(server.url, "policy")
    server.answer = lambda body: Reply(body["prompt"], seconds=0.01)

    def ask_some(name):
        return texts(endpoint.ask("completions", [{"prompt": f"{name}{i}"} for i in range(5)]))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(ask_some, "abcd")) == [[f"{name}{i}" for i in range(5)] for name in "abcd"]


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_request_that_failed_for_now_is_tried_again(server, code):
    server.answer = in_turn(Status(code), Status(code), Reply("Paris"))
    assert texts(ask(server)) == ["Paris"]
    assert len(server.requests) == 3


@pytest.mark.parametrize("code", [400, 413, 422])
def test_a_refused_request_is_told_from_the_others_which_are_all_answered(server, code):
    server.answer = lambda body: Status(code, "too long") if body["prompt"] == "b" else Reply("x")
    with pytest.raises(RefusedRequestError, match=f"HTTP {code}: too long"):
        ask(server, "abcde", max_concurrency=2)
    assert sorted(request["prompt"] for request in server.requests) == list("abcde")


def test_what_a_content_filter_holds_back_is_refused(server):
    server.answer = lambda body: Reply("", finish_reason="content_filter" if body["prompt"] == "b" else "stop")
    with pytest.raises(RefusedRequestError, match="content filter"):
        ask(server, "ab")


def test_a_batch_asked_again_without_the_refused_request_costs_nothing(server):
    server.answer = lambda body: Status(400) if body["prompt"] == "b" else Reply(body["prompt"].upper())
    endpoint = Endpoint(server.url, "policy")
    for prompts in ("abc", "b"):
        with pytest.raises(RefusedRequestError):
            endpoint.ask("completions", [{"prompt": prompt} for prompt in prompts])
    assert texts(endpoint.ask("completions", [{"prompt": prompt} for prompt in "ac"])) == ["A", "C"]
    assert len(server.requests) == 3


def test_an_endpoint_that_refuses_even_a_short_request_stops_the_run(server):
    server.answer = lambda body: Status(400, "unknown field: seed")
    message = error_of(server, prompts=("a", "b"))
    assert "Every request is refused" in message
    assert "unknown field: seed" in message
    assert "Check the model's name" in message


def test_one_that_refuses_only_long_requests_is_not_taken_for_useless(server):
    server.answer = lambda body: Status(400, "too long") if len(body["prompt"]) > 10 else Reply("x")
    with pytest.raises(RefusedRequestError, match="too long"):
        ask(server, ["a" * 20, "b" * 20])


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (401, "Set OPENAI_API_KEY"),
        (403, "Set OPENAI_API_KEY"),
        (404, "/v1/models lists"),
        (429, "Lower `max_concurrency`"),
        (500, "See the log of the server"),
    ],
)
def test_an_error_names_url_status_reason_and_remedy(server, code, remedy):
    server.answer = lambda body: Status(code, "the reason")
    message = error_of(server, max_retries=1)
    for part in (f"{server.url}/v1/completions", "'policy'", f"HTTP {code}", "the reason", remedy):
        assert part in message
    assert len(server.requests) == (2 if code in (429, 500) else 1)


def test_an_unreachable_endpoint_is_named_with_its_remedy():
    url = free_url()
    with pytest.raises(EndpointError, match=r"cannot be reached: .*Start the server") as caught:
        Endpoint(url, "policy", max_retries=0).ask("completions", [{"prompt": "a"}])
    assert url in str(caught.value)


def test_an_answer_that_does_not_come_ends_at_the_timeout(server):
    server.answer = lambda body: Reply("x", seconds=20)
    started = time.monotonic()
    assert "no answer within 0.2 s. Raise `timeout`" in error_of(server, timeout=0.2, max_retries=0)
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    "body",
    [b"<html>hello</html>", b"[]", b"3", b"{}", b'{"choices": []}', b'{"choices": null}', b'{"choices": [{}]}', b'"x"',
     b'{"choices": [{"text": 3, "finish_reason": "stop"}]}', b'{"choices": [3]}', b""],
)  # fmt: skip
def test_an_answer_that_cannot_be_read_stops_the_run(server, body):
    server.answer = lambda _: body
    assert "cannot be read" in error_of(server)


@pytest.mark.parametrize("reason", [None, "abort"])
def test_an_answer_that_was_given_up_is_no_answer(server, reason):
    server.answer = lambda body: Reply("half", finish_reason=reason)
    assert f"`finish_reason` is {reason!r}" in error_of(server)


def test_a_failure_does_not_wait_for_the_other_requests(server):
    server.answer = lambda body: Status(404) if body["prompt"] == "a" else Reply("x", seconds=20)
    started = time.monotonic()
    error_of(server, prompts="ab")
    assert time.monotonic() - started < 15


def test_the_key_is_the_argument_else_that_of_the_environment_else_a_placeholder(server, monkeypatch):
    ask(server)
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    ask(server)
    ask(server, api_key="sk-argument")
    monkeypatch.setenv("OPENAI_API_KEY", "")
    ask(server)
    keys = [headers["authorization"].removeprefix("Bearer ") for headers in server.headers]
    assert keys == ["EMPTY", KEY, "sk-argument", "EMPTY"]


@pytest.mark.slow  # because of the import
def test_what_pyserini_is_shown_as_key_is_not_sent(server):
    from tspo_trl.search.java import import_pyserini

    import_pyserini("pyserini.search.lucene")
    ask(server)
    assert server.headers[0]["authorization"] == "Bearer EMPTY"


@pytest.mark.parametrize("code", [400, 401, 404, 500])
def test_the_key_is_in_no_message_and_no_log(server, code, caplog):
    caplog.set_level(logging.DEBUG)
    server.answer = lambda body: Status(code, f"Incorrect API key provided: {KEY}")
    with pytest.raises(EndpointError) as caught:
        ask(server, api_key=KEY, max_retries=1)
    shown = "".join(traceback.format_exception(caught.value)) + repr(Endpoint(server.url, "policy", api_key=KEY))
    assert "Incorrect API key provided: ***" in shown
    assert KEY not in shown
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("tspo_trl")]
    assert KEY not in "".join(ours)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "localhost:8000"}, "must be like 'http://localhost:8000/v1'"),
        ({"url": "http://user:secret@host"}, "'host'"),
        ({"url": "http://host/v1?key=secret"}, "must be like"),
        ({"api_key": "schlüssel"}, r"The API key \(OPENAI_API_KEY\)"),
        ({"max_concurrency": 0}, "`max_concurrency` is 0"),
        ({"max_retries": -1}, "`max_retries` is -1"),
        ({"timeout": 0.0}, "`timeout` is 0.0"),
        ({"timeout": float("inf")}, "`timeout` is inf"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        Endpoint(**{"url": "http://host", "model": "policy", **arguments})
    assert "secret" not in str(caught.value)
    assert "schlüssel" not in str(caught.value)
