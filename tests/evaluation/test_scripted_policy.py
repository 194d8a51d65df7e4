"""The scripted policy of the benchmarks: its rules, and the same rollouts through both APIs."""

import socket
import threading

import pytest
import uvicorn

from benchmarks.scripted_policy import MODEL, answer, app, next_turn
from tspo_trl.evaluation.agent import SearchAgent
from tspo_trl.evaluation.openai_chat import ChatEndpointLoop, ChatTurns
from tspo_trl.evaluation.openai_client import Endpoint
from tspo_trl.evaluation.openai_turns import CompletionsTurns
from tspo_trl.protocols.tags import TagProtocol
from tspo_trl.rollout.loop import RolloutLoop
from tspo_trl.rollout.state import RolloutLimits

PASSAGES = (
    'Doc 1(Title: "Emma") Emma is a novel by Jane Austen, published in 1815 and 1833.\n'
    'Doc 2(Title: "Ulysses") By James Joyce.'
)
LIMITS = RolloutLimits(
    max_turns=2, max_turn_length=200, max_feedback_length=400, max_completion_length=2000, top_k=2
)  # fmt: skip


@pytest.fixture(scope="module")
def url():
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listening.close()


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Who wrote Emma?", "Jane Austen"),
        ("When was Emma published?", "1815"),
        ("In what year after 1815 did it appear again?", "1833"),
        ("Is Emma a novel?", "yes"),
        ("Which novel is by Jane Austen?", "Emma"),
        ("Where do Emma and Jane Austen live?", "Emma"),
    ],
)
def test_the_first_word_decides_what_is_taken_from_the_first_passage(question, expected):
    assert answer(question, PASSAGES) == expected


def test_nothing_found_is_unknown():
    assert answer("Who wrote Emma?", "") == "unknown"


def test_it_searches_for_the_question_then_answers():
    prompt = TagProtocol().prompt("Who wrote Emma")
    search = next_turn(prompt)
    assert search == "<search> Who wrote Emma? </search>"
    feedback = f"\n\n<information>{PASSAGES}</information>\n\n"
    assert next_turn(prompt + search + feedback) == "<answer> Jane Austen </answer>"


def test_both_apis_give_the_same_rollouts(url, tokenizer, retriever):
    endpoint, protocol = Endpoint(url, MODEL), TagProtocol()
    loop = RolloutLoop(tokenizer, retriever, protocol, LIMITS)
    chat_loop = ChatEndpointLoop(tokenizer, retriever, protocol, LIMITS)
    agents = [
        SearchAgent(loop, CompletionsTurns(endpoint, tokenizer, protocol)),
        SearchAgent(chat_loop, ChatTurns(endpoint, tokenizer, protocol), chat_loop.encode),
    ]
    rows = [{"question": "What is the capital of France?"}, {"question": "Which river is in Italy?"}]
    completed, chatted = (agent.answer(rows) for agent in agents)
    assert completed == chatted
    assert [trajectory.prediction for trajectory in completed] == ["Paris", "Tiber"]
