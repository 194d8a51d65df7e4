"""Only what a tool returned is evidence."""

import json

import pytest

from tspo_trl.credit import first_occurrence
from tspo_trl.rollout.generation import trajectory_of_generation
from tspo_trl.rollout.tool_results import evidence_in_feedback, results_of_tools, returned_text

PASSAGE = {"id": "7", "title": "France", "text": "Its capital is Paris.", "score": 0.5}


@pytest.mark.parametrize(
    "content",
    [
        "{'error': 'Tool Paris not found.'}",
        str({"error": 'it\'s "Paris"'}),
        "{'error': \"search() got an unexpected keyword argument 'Paris'\"}",
        "{'error': 'Unsupported tool call type: Paris'}",
        '{"error": "Paris"}',
        json.dumps("{'error': 'Paris'}"),  # a template that writes JSON
        "Tool Paris not found.",
        "Unsupported tool call type: Paris",
        "None",
        "",
        "[]",
        "{}",
        [],
        None,
        [{"type": "image", "image": "Paris"}],
        "Error: unknown tool 'Paris'. The only tool is `search`.",
        "\nMy previous action is invalid. If I want to search, Paris. Let me try again.\n",
    ],
)
def test_an_error_or_nothing_is_no_evidence(content):
    assert returned_text(content) is None


@pytest.mark.parametrize(
    "content",
    [
        "Paris is the capital.",
        str(PASSAGE),
        json.dumps(PASSAGE),
        json.dumps([PASSAGE]),
        str([PASSAGE, PASSAGE]),
        json.dumps({"result": [[{"document": PASSAGE, "score": 1}]]}),
        json.dumps({"error": None, "results": [{"contents": '"France"\nParis'}]}),
        "<results><title>Paris</title></results>",
        [{"type": "text", "text": "Paris"}],
        ["Paris"],
        "{not JSON, but Paris",
        "Error: Paris is a film of 2008.",
        "a < b, and c > d in Paris",
    ],
)
def test_what_a_tool_returned_is_evidence_without_keys_and_tags(content):
    evidence = [returned_text(content)]
    assert first_occurrence(evidence, ["Paris"]) == 0
    for frame in ("title", "text", "contents", "id", "score", "0.5", "document", "results", "type"):
        assert first_occurrence(evidence, [frame]) is None


def test_deeply_nested_results_do_no_harm():
    assert returned_text("[" * 100_000) == "[" * 100_000
    for depth in (500, 900, 5_000):
        assert returned_text("[" * depth + "]" * depth) in (None, "[" * depth + "]" * depth)


def test_each_run_of_tool_messages_has_its_evidence():
    def tool(content):
        return {"role": "tool", "name": "search", "content": content}

    said = {"role": "assistant", "content": "Paris", "tool_calls": []}
    error = tool("{'error': 'Paris'}")
    assert results_of_tools([said, error, tool("Rome"), tool("Bonn"), said, error, said]) == ["Rome\nBonn", None]
    assert results_of_tools([said]) == results_of_tools("Paris") == results_of_tools(None) == []


@pytest.mark.parametrize(
    ("feedback", "evidence"),
    [
        ("user\n<tool_response>\n{'error': 'Tool Paris not found.'}\n</tool_response>\nassistant\n", None),
        ("user\n<tool_response>\nParis\n</tool_response>\n<tool_response>\nNone\n</tool_response>\n", "Paris"),
        ('ipython\n\n"Paris"assistant\n\n', "Paris"),
        ("\n\n<information>Paris</information>\n\n", "Paris"),
        ("\n\n<information></information>\n\n", None),
        ("tool\nParis\nassistant\n", "Paris"),
    ],
)
def test_frame_of_a_decoded_feedback_is_no_evidence(feedback, evidence):
    assert evidence_in_feedback(feedback) == evidence


def test_tool_messages_say_what_the_tools_of_a_generation_returned(tokenizer):
    texts, generated = ["call", "tool Paris {'error'}", "call", "tool Rome", "done"], [1, 0, 1, 0, 1]
    ids = [tokenizer(text)["input_ids"] for text in texts]
    mask = [bit for part, bit in zip(ids, generated, strict=True) for _ in part]
    messages = [{"role": "assistant", "content": "call"}, {"role": "tool", "content": "{'error': 'Paris'}"}]
    messages += [{"role": "assistant", "content": "call"}, {"role": "tool", "content": "Rome"}]
    trajectory = trajectory_of_generation([token for part in ids for token in part], mask, tokenizer, messages)
    assert trajectory.evidence == [None, "Rome", None]
    assert [turn.feedback for turn in trajectory.turns] == [texts[1], texts[3], None]
