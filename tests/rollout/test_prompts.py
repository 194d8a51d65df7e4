"""From a row of a dataset to the token ids of its prompt."""

import copy

import pytest

from tspo_trl.protocols.chat import ChatToolProtocol
from tspo_trl.protocols.tags import TagProtocol
from tspo_trl.rollout.prompts import encode_prompts, row_prompt

QUESTION = {"question": "Who wrote Emma?"}


@pytest.fixture
def with_template(tokenizer):
    copied = copy.deepcopy(tokenizer)
    copied.chat_template = "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}{% endfor %}!"
    return copied


def test_question_is_put_into_the_protocols_prompt(tokenizer):
    assert row_prompt(QUESTION, tokenizer, TagProtocol()) == TagProtocol().prompt("Who wrote Emma?")


def test_question_is_a_user_message_where_there_is_a_chat_template(with_template):
    content = TagProtocol().prompt("Who wrote Emma?")
    assert row_prompt(QUESTION, with_template, TagProtocol()) == [{"role": "user", "content": content}]


@pytest.mark.parametrize("own", ["Emma?", [{"role": "user", "content": "Emma?"}]])
def test_row_may_bring_its_own_prompt(with_template, own):
    assert row_prompt({**QUESTION, "prompt": own}, with_template, TagProtocol()) == own


def test_text_is_encoded_as_it_is(with_template):
    (ids,) = encode_prompts(["Emma?"], with_template, TagProtocol())
    assert with_template.decode(ids) == "Emma?"


def test_messages_are_rendered_with_the_chat_template(with_template):
    ids = encode_prompts([[{"role": "user", "content": "Emma?"}]] * 2, with_template, TagProtocol())
    assert [with_template.decode(one) for one in ids] == ["<user>Emma?!"] * 2


def test_tools_of_the_protocol_stand_in_the_prompt(chat_tokenizer):
    protocol = ChatToolProtocol(chat_tokenizer, tool_name="find")
    (ids,) = encode_prompts([row_prompt(QUESTION, chat_tokenizer, protocol)], chat_tokenizer, protocol)
    assert '"name": "find"' in chat_tokenizer.decode(ids)


def test_variables_of_the_chat_template_are_handed_on(with_template):
    with_template.chat_template = "{{ greeting }}"
    messages = [{"role": "user", "content": "Emma?"}]
    (ids,) = encode_prompts([messages], with_template, TagProtocol(), {"greeting": "hello"})
    assert with_template.decode(ids) == "hello"
