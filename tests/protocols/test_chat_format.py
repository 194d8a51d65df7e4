"""Tokenizers and chat templates that can search with tool calls, and those that are refused."""

import pytest
from trl.chat_template_utils import llama3_template, qwen3_template, qwen3_training_chat_template

from tspo_trl.protocols.chat import ChatToolProtocol

from ..chat_tokenizer import make_chat_tokenizer
from .test_chat import call, search


@pytest.fixture(scope="module")
def tokenizer():
    return make_chat_tokenizer()


def test_template_that_rewrites_earlier_turns_is_replaced_by_trls_training_template():
    assert ChatToolProtocol(make_chat_tokenizer("qwen3")).chat_template == qwen3_training_chat_template
    assert ChatToolProtocol(make_chat_tokenizer("qwen2_5")).chat_template is None


def test_variables_of_the_template_reach_the_feedback():
    protocol = ChatToolProtocol(make_chat_tokenizer("qwen3"), chat_template_kwargs={"enable_thinking": False})
    (feedback,) = protocol.feedback(search("a"), {"a": []})
    assert feedback.closing.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_tokenizer_is_not_changed(tokenizer):
    ChatToolProtocol(tokenizer)
    assert getattr(tokenizer, "response_template", None) is None


def test_response_template_of_the_tokenizer_is_used():
    tokenizer = make_chat_tokenizer()
    tokenizer.chat_template += "{# unknown to TRL #}"
    with pytest.raises(ValueError, match=r"TRL has none for its chat template.*Set `tokenizer.response_template`"):
        ChatToolProtocol(tokenizer)
    tokenizer.response_template = qwen3_template
    assert ChatToolProtocol(tokenizer).parse(call("x")) == search("x")


def test_response_template_that_does_not_fit_the_chat_template_is_refused():
    tokenizer = make_chat_tokenizer()
    tokenizer.response_template = llama3_template
    with pytest.raises(ValueError, match="does not read a tool call as its chat template writes it"):
        ChatToolProtocol(tokenizer)


@pytest.mark.parametrize(
    ("template", "eos_token", "message"),
    [
        (None, "<|im_end|>", "has no chat template"),
        ("qwen2_5", None, "has no end-of-sequence token"),
        ("llama3", "<|eot_id|>", "shows no tool calls"),
        ("deepseekv3", "<|im_end|>", "TRL has none for its chat template"),
        (
            "qwen2_5",
            "<|endoftext|>",
            "does not end a turn with it. Set `tokenizer.eos_token`",
        ),  # Qwen2.5, not instruct
        ("glm4moe", "<|user|>", "use `TagProtocol`"),
        ("gptoss", "<|return|>", "use `TagProtocol`"),
        ("gemma4", "<turn|>", "use `TagProtocol`"),
    ],
)
def test_tokenizer_that_cannot_call_tools_is_refused(template, eos_token, message):
    with pytest.raises(ValueError, match=message):
        ChatToolProtocol(make_chat_tokenizer(template, eos_token))


def test_template_that_rewrites_turns_and_has_no_training_variant_is_refused():
    tokenizer = make_chat_tokenizer("qwen3")
    tokenizer.response_template = qwen3_template
    tokenizer.chat_template += "{# unknown to TRL #}"
    with pytest.raises(ValueError, match="TRL has no training variant of it"):
        ChatToolProtocol(tokenizer)


def test_template_that_shows_only_the_first_tool_message_is_refused():
    tokenizer = make_chat_tokenizer()
    tool_message = 'elif message.role == "tool"'
    assert tool_message in tokenizer.chat_template
    first_only = tool_message + ' and messages[loop.index0 - 1].role != "tool"'
    tokenizer.chat_template = tokenizer.chat_template.replace(tool_message, first_only)
    tokenizer.response_template = qwen3_template
    with pytest.raises(ValueError, match="does not show each of 2 messages after a turn exactly once"):
        ChatToolProtocol(tokenizer)


@pytest.mark.parametrize("tool_name", ["", "two words", "wiki-search", "é"])
def test_tool_name_is_a_word(tokenizer, tool_name):
    with pytest.raises(ValueError, match=r"`tool_name` is .*letters, digits and underscores"):
        ChatToolProtocol(tokenizer, tool_name=tool_name)
