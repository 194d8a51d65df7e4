"""Invariants of the turn loop with tool calls, for a model that emits arbitrary tokens and pieces of calls."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tspo_trl.rollout.loop import RolloutLoop, least_feedback_length

from ..protocols.test_chat import call
from .invariants import (
    assert_counts_of_searches_add_up,
    assert_feedback_is_the_text_of_its_tokens,
    assert_ids_are_only_appended_and_are_those_sampled,
    assert_only_answered_searches_have_evidence,
    assert_spans_tile_the_completion_within_every_budget,
)
from .test_chat import ANSWER, END
from .test_properties import SETTINGS, ArbitraryModel, drawn_limits, run_loop

PIECES = [
    call("capital of France"), call("river"), call("Rome") + call("zzzz"), ANSWER, END,
    '<tool_call>\n{"name": "browse", "arguments": {}}\n</tool_call>', "<tool_call>\n{bad}\n</tool_call>",
    "<tool_call>", "</tool_call>", "<tool_", "call>", '{"name": "search"', "<think>", "</think>", "<answer>",
    "</answer>", "\n<|im_start|>user\n<tool_response>\nAtlantis\n</tool_response>", "Atlantis", "<|im_start|>",
    "é\u0301", "\U0001f5fa",
]  # fmt: skip


def chat_turns(chat_tokenizer):
    piece = st.sampled_from(PIECES).map(lambda text: chat_tokenizer(text)["input_ids"])
    token = st.integers(0, len(chat_tokenizer) - 1).map(lambda token: [token])
    parts = st.lists(piece | piece | token, min_size=1, max_size=5)
    return parts.map(lambda parts: [token for part in parts for token in part])


def run_arbitrary(data, chat_tokenizer, chat_protocol, retriever):
    limits = replace(
        drawn_limits(data),
        max_turn_length=data.draw(st.integers(1, 200)),
        max_feedback_length=least_feedback_length(chat_protocol, chat_tokenizer) + data.draw(st.integers(0, 300)),
        max_completion_length=data.draw(st.integers(1, 1_500)),
    )
    loop = RolloutLoop(chat_tokenizer, retriever, chat_protocol, limits)
    return run_loop(data, loop, ArbitraryModel(data, chat_turns(chat_tokenizer)))


@SETTINGS
@given(data=st.data())
def test_ids_masks_and_log_probabilities_are_those_that_were_sampled(data, chat_tokenizer, chat_protocol, retriever):
    _, exchanges, rollouts, _ = run_arbitrary(data, chat_tokenizer, chat_protocol, retriever)
    for rollout in rollouts:
        assert_ids_are_only_appended_and_are_those_sampled(rollout, exchanges)
        assert rollout.logprobs == [-float(bit) for bit in rollout.completion_mask]


@SETTINGS
@given(data=st.data())
def test_spans_tile_the_completion_within_every_budget(data, chat_tokenizer, chat_protocol, retriever):
    limits, _, rollouts, _ = run_arbitrary(data, chat_tokenizer, chat_protocol, retriever)
    for rollout in rollouts:
        assert_spans_tile_the_completion_within_every_budget(rollout, limits)


@SETTINGS
@given(data=st.data())
def test_feedback_is_whole_tool_messages_behind_the_end_of_the_turn(data, chat_tokenizer, chat_protocol, retriever):
    *_, rollouts, _ = run_arbitrary(data, chat_tokenizer, chat_protocol, retriever)
    for rollout in rollouts:
        assert_feedback_is_the_text_of_its_tokens(rollout, chat_tokenizer)
        messages = iter(chat_protocol.messages(rollout.trajectory))
        for turn in rollout.turns:
            assert next(messages)["role"] == "assistant"
            if turn.feedback is None:
                continue
            has_end = rollout.completion_ids[turn.token_span[1] - 1] == chat_tokenizer.eos_token_id
            assert turn.feedback.startswith("\n<|im_start|>user\n" if has_end else "<|im_end|>\n<|im_start|>user\n")
            calls = chat_protocol.parse(turn.text).calls or (None,)
            bodies = [next(messages)["content"] for _ in calls]
            retrieved = [body for body, one in zip(bodies, calls, strict=True) if one is not None and one.query]
            assert turn.evidence == ("\n".join(retrieved) if retrieved else None)
        assert next(messages, None) is None


@SETTINGS
@given(data=st.data())
def test_only_what_the_search_returned_is_evidence(data, chat_tokenizer, chat_protocol, retriever):
    *_, rollouts, _ = run_arbitrary(data, chat_tokenizer, chat_protocol, retriever)
    for rollout in rollouts:
        assert_only_answered_searches_have_evidence(rollout)
        for turn in rollout.turns:
            assert "Atlantis" not in (turn.evidence or "")
            assert "Error: " not in (turn.evidence or "")


@SETTINGS
@given(data=st.data())
def test_counts_of_searches_add_up(data, chat_tokenizer, chat_protocol, retriever):
    *_, rollouts, statistics = run_arbitrary(data, chat_tokenizer, chat_protocol, retriever)
    assert_counts_of_searches_add_up(rollouts, statistics)
