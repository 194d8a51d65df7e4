"""Rollouts as conversations with a chat endpoint."""

from dataclasses import replace

import pytest

from tspo_trl.evaluation.agent import SearchAgent
from tspo_trl.evaluation.openai_chat import ChatEndpointLoop, ChatTurns
from tspo_trl.evaluation.openai_client import Endpoint
from tspo_trl.protocols.tags import TagProtocol
from tspo_trl.rollout.feedback import encode
from tspo_trl.rollout.state import RolloutLimits

from .endpoint_server import Reply, in_turn
from .test_openai_turns import spaced_tokenizer

LIMITS = RolloutLimits(
    max_turns=2, max_turn_length=60, max_feedback_length=200, max_completion_length=600, top_k=1
)  # fmt: skip
QUESTION = "What is the capital of France?"


@pytest.fixture
def agent(server, tokenizer, retriever):
    return make_agent(server, tokenizer, retriever)


def make_agent(server, tokenizer, retriever):
    loop = ChatEndpointLoop(tokenizer, retriever, TagProtocol(), LIMITS)
    return SearchAgent(loop, ChatTurns(Endpoint(server.url, "policy"), tokenizer, TagProtocol()), loop.encode)


def test_turns_are_of_the_assistant_and_feedback_of_the_user(server, agent):
    server.answer = in_turn(
        Reply("<search> capital of France "),
        Reply("I am lost.", extra={"stop_reason": None}),
        Reply("<answer> Paris "),
    )
    [trajectory] = agent.answer([{"question": QUESTION}])
    assert trajectory.prediction == "Paris"
    assert [request["messages"] for request in server.requests][-1] == [
        {"role": "user", "content": TagProtocol().prompt(QUESTION)},
        {"role": "assistant", "content": "<search> capital of France </search>"},
        {"role": "user", "content": trajectory.turns[0].feedback},
        {"role": "assistant", "content": "I am lost."},
        {"role": "user", "content": TagProtocol().invalid_action().text},
    ]
    assert "Doc 1(Title: " in trajectory.turns[0].feedback
    assert set(server.paths) == {"/v1/chat/completions"}


def test_a_request_has_budget_and_stop_strings(server, agent):
    server.answer = lambda body: Reply("<answer> Paris ")
    agent.answer([{"question": QUESTION}])
    assert server.requests[0]["max_tokens"] == 60
    assert server.requests[0]["stop"] == ["</search>", "</answer>"]


def test_rollouts_keep_their_order(server, agent):
    server.answer = lambda body: Reply(f"<answer> {body['messages'][0]['content'][-3]} ")
    trajectories = agent.answer([{"question": f"Which letter is {letter}"} for letter in "abcdef"])
    assert "".join(trajectory.prediction for trajectory in trajectories) == "abcdef"


def test_a_message_without_content_is_an_empty_turn(server, agent):
    server.answer = in_turn(Reply(None), Reply("<answer> Paris "))
    [trajectory] = agent.answer([{"question": QUESTION}])
    assert [turn.text for turn in trajectory.turns] == ["", "<answer> Paris </answer>"]


def test_rows_may_bring_their_own_messages(server, agent):
    server.answer = lambda body: Reply("<answer> Paris ")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    agent.answer([{"question": "?", "prompt": messages}, {"question": "?", "prompt": "Just this."}])
    sent = [request["messages"] for request in server.requests]
    assert messages in sent
    assert [{"role": "user", "content": "Just this."}] in sent


def test_a_prompt_is_sent_as_it_was_where_the_tokenizer_changes_it(server, retriever):
    tokenizer = spaced_tokenizer()
    agent = make_agent(server, tokenizer, retriever)
    server.answer = lambda body: Reply("<answer> Paris ")
    prompt = "Où ▁?"
    agent.answer([{"question": "?", "prompt": prompt}])
    assert tokenizer.decode(encode(tokenizer, prompt)) != prompt
    assert server.requests[0]["messages"][0]["content"] == prompt


def test_tool_calls_are_refused(server, chat_tokenizer, chat_protocol):
    with pytest.raises(ValueError, match="Use the completions API"):
        ChatTurns(Endpoint(server.url, "policy"), chat_tokenizer, chat_protocol)


def test_the_loop_takes_no_other_generator(tokenizer, retriever):
    loop = ChatEndpointLoop(tokenizer, retriever, TagProtocol(), LIMITS)
    with pytest.raises(TypeError, match="generates with `ChatTurns`, got function"):
        loop.run([[5]], lambda ids, budgets: ([[5]], None))


@pytest.mark.parametrize(("context", "num_requests"), [(250, 0), (310, 1), (380, 3), (600, 3)])
def test_requests_stay_within_the_context_with_the_tokens_of_the_chat_template(
    server, chat_tokenizer, retriever, context, num_requests
):
    """The server counts the tokens around the messages, and the loop does not."""
    server.answer = in_turn(Reply("<search> Rome "), Reply("<search> Paris "), Reply("<answer> Paris "))
    limits = replace(LIMITS, max_context_length=context, max_completion_length=2000)
    loop = ChatEndpointLoop(chat_tokenizer, retriever, TagProtocol(), limits)
    turns = ChatTurns(Endpoint(server.url, "policy"), chat_tokenizer, TagProtocol())
    SearchAgent(loop, turns, loop.encode).answer([{"question": QUESTION}])
    assert len(server.requests) == num_requests
    for request in server.requests:
        ids = chat_tokenizer.apply_chat_template(request["messages"], add_generation_prompt=True)["input_ids"]
        assert len(ids) + request["max_tokens"] <= context
