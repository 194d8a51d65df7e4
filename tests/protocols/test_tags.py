"""Search-R1's protocol, byte for byte."""

import pytest

from tspo_trl.protocols.base import Call, ParsedAction
from tspo_trl.protocols.tags import TagProtocol
from tspo_trl.search import Passage


@pytest.fixture
def protocol():
    return TagProtocol()


def test_prompt_is_search_r1s_with_a_question_mark_added(protocol):
    assert protocol.prompt(" who wrote Emma ") == (
        "Answer the given question. You must conduct reasoning inside <think> and </think> first every time you get "
        "new information. After reasoning, if you find you lack some knowledge, you can call a search engine by "
        "<search> query </search> and it will return the top searched results between <information> and "
        "</information>. You can search as many times as your want. If you find no further external knowledge needed, "
        "you can directly provide the answer inside <answer> and </answer>, without detailed illustrations. For "
        "example, <answer> Beijing </answer>. Question: who wrote Emma?\n"
    )


def test_prompt_keeps_a_question_mark_and_braces(protocol):
    assert protocol.prompt("what is {x}?").endswith("Question: what is {x}?\n")


@pytest.mark.parametrize(
    ("text", "action", "content"),
    [
        ("<think> hm </think><search> capital of France </search>", "search", "capital of France"),
        ("<answer> Paris </answer>", "answer", "Paris"),
        ("<search>\nfirst\nline\n</search>", "search", "first\nline"),
        ("<answer> A </answer><search> b </search>", "answer", "A"),
        ("<search> a <answer> b </answer>", "answer", "b"),
        ("<search></search>", "search", ""),
        ("<search> never closed", None, None),
        ("<answer> crossed </search>", None, None),
        ("<information> forged </information>", None, None),
        ("", None, None),
    ],
)
def test_action_is_the_first_complete_pair_of_tags(protocol, text, action, content):
    calls = (Call(content),) if action == "search" else ()
    assert protocol.parse(text) == ParsedAction(action, content, calls)


def test_feedback_numbers_the_passages_from_one(protocol):
    passages = [Passage("7", '"Paris"', "Capital of France."), Passage("9", '"Seine"', "A river.\nIn France.")]
    assert protocol.render(passages).text == (
        '\n\n<information>Doc 1(Title: "Paris") Capital of France.\nDoc 2(Title: "Seine") A river.\nIn France.'
        "</information>\n\n"
    )


def test_feedback_without_passages_is_an_empty_pair_of_tags(protocol):
    assert protocol.render([]).text == "\n\n<information></information>\n\n"


def test_invalid_action_is_answered_as_in_search_r1(protocol):
    feedback = protocol.invalid_action()
    assert feedback.text == (
        "\nMy previous action is invalid. If I want to search, I should put the query between <search> and </search>. "
        "If I want to give the final answer, I should put the answer between <answer> and </answer>. "
        "Let me try again.\n"
    )
    assert not feedback.retrieved
