"""Search through tool calls, with TRL's chat templates and a small tokenizer."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trl import GRPOTrainer

from tspo_trl.protocols.base import Call, ParsedAction
from tspo_trl.protocols.chat import ChatToolProtocol
from tspo_trl.protocols.passages import passages_text
from tspo_trl.search import Passage
from tspo_trl.trajectory import Trajectory, Turn

from ..chat_tokenizer import make_chat_tokenizer

SUPPORTED = [
    "qwen2_5", "qwen3", "qwen3_instruct_2507", "qwen3_vl", "qwen3_5_nothink", "qwen3_5_think", "qwen3_6", "qwen3_8",
    "llama3_1", "llama3_2", "lfm2_v2", "lfm2_2_5", "lfm2_2_5_v2", "lfm2_2_5_vl",
    "nemotron_3_nano", "nemotron_3_super", "nemotron_3_ultra", "nemotron_3_5_lightning",
]  # fmt: skip
PARIS, SEINE = Passage("1", '"Paris"', "Capital of France."), Passage("2", "Seine", "A river.\nIn France.")
UNREADABLE = Call(
    None, "Error: this tool call could not be read. It must be complete, and its arguments well-formed JSON."
)
WRONG_ARGUMENTS = Call(None, "Error: `search` takes exactly one argument, `query`, a string that is not empty.")


def tokenizer_of(template):
    return make_chat_tokenizer(template, "<|eot_id|>" if template.startswith("llama") else "<|im_end|>")


def call(query):
    return f'<tool_call>\n{{"name": "search", "arguments": {{"query": "{query}"}}}}\n</tool_call>'


def search(*queries):
    return ParsedAction("search", "\n".join(queries), tuple(Call(query) for query in queries))


@pytest.fixture(scope="module")
def tokenizer():
    return make_chat_tokenizer()


@pytest.fixture(scope="module")
def protocol(tokenizer):
    return ChatToolProtocol(tokenizer)


def test_prompt_is_one_user_message_with_a_question_mark_added(protocol):
    assert protocol.prompt(" who wrote {Emma} ") == [
        {
            "role": "user",
            "content": "Answer the given question. If you find you lack some knowledge, you can search for it with "
            "the tool `search`. You can search as many times as you want, and call the tool several times in one "
            "message. If you find no further knowledge needed, provide the answer inside <answer> and </answer>, "
            "without detailed illustrations. For example, <answer> Beijing </answer>. Question: who wrote {Emma}?",
        }
    ]


def test_own_instructions_and_tool_name_stand_in_the_prompt(tokenizer):
    protocol = ChatToolProtocol(tokenizer, tool_name="wiki", instructions='Use {tool}: {"json"}.')
    assert protocol.prompt("Why?") == [{"role": "user", "content": 'Use wiki: {"json"}. Question: Why?'}]
    assert protocol.tools[0]["function"]["name"] == "wiki"
    assert protocol.parse(call("x").replace("search", "wiki")) == search("x")


def test_template_shows_the_tool_and_keeps_its_own_system_prompt(tokenizer, protocol):
    text = tokenizer.apply_chat_template(protocol.prompt("?"), tools=protocol.tools, tokenize=False)
    assert text.startswith("<|im_start|>system\nYou are Qwen, created by Alibaba Cloud.")
    assert '"name": "search", "description": "Search a collection of texts for the passages that match' in text
    assert '"required": ["query"]' in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (call("capital of France"), search("capital of France")),
        ("I search.\n" + call(" river ") + "\n" + call("Rome"), search("river", "Rome")),
        ("<think>\nfirst\n</think>\n\n" + call("Rome"), search("Rome")),
        ("<answer> Paris </answer>", ParsedAction("answer", "Paris")),
        ("It is <answer>A\nB</answer>, or <answer>C</answer>.", ParsedAction("answer", "A\nB")),
        ("It is Paris.", ParsedAction("answer", "It is Paris.")),
        ("It is Paris.<|endoftext|>", ParsedAction("answer", "It is Paris.")),
        ("<answer></answer>", ParsedAction("answer", "")),
        ("<think>\n<answer> Rome </answer>\n</think>\n\n<answer> Paris </answer>", ParsedAction("answer", "Paris")),
        ("<think>\n<answer> Rome </answer>\n</think>\n\nIt is Paris.", ParsedAction("answer", "It is Paris.")),
        ("<think>\n<answer> Rome </answer>", ParsedAction(None, None)),
        ("<think>\n" + call("Rome") + "\n</think>", ParsedAction(None, None)),
        ("", ParsedAction(None, None)),
        (" \n", ParsedAction(None, None)),
    ],
)
def test_turn_holds_calls_or_an_answer(protocol, text, expected):
    assert protocol.parse(text) == expected


@pytest.mark.parametrize("text", [call("Rome") + "<answer> A </answer>", "<answer> A </answer>" + call("Rome")])
def test_calls_win_over_an_answer(protocol, text):
    assert protocol.parse(text) == search("Rome")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is Par", ParsedAction(None, None)),
        ("It is <answer> Paris </answer> bec", ParsedAction("answer", "Paris")),
        (call("Rome") + "\nan", search("Rome")),
        (call("Rome") + call("Pa")[:-14], ParsedAction("search", "Rome", (Call("Rome"), UNREADABLE))),
        (call("Rome").removesuffix("</tool_call>"), ParsedAction(None, None, (UNREADABLE,))),
        ('<tool_call>\n{"name": "search", "argu', ParsedAction(None, None, (UNREADABLE,))),
    ],
)
def test_turn_that_was_cut_answers_only_between_tags(protocol, text, expected):
    assert protocol.parse(text, is_complete=False) == expected


@pytest.mark.parametrize(
    ("inside", "error"),
    [
        ('{"name": "search", "arguments": {"query": "x"}', UNREADABLE),
        ("{'name': 'search'}", UNREADABLE),
        ("", UNREADABLE),
        ("[1]", UNREADABLE),
        ("null", UNREADABLE),
        ('{"arguments": {"query": "x"}}', UNREADABLE),
        ('{"name": 3, "arguments": {"query": "x"}}', UNREADABLE),
        (
            '{"name": "browse", "arguments": {}}',
            Call(None, "Error: unknown tool 'browse'. The only tool is `search`."),
        ),
        ('{"name": "search"}', WRONG_ARGUMENTS),
        ('{"name": "search", "arguments": null}', WRONG_ARGUMENTS),
        ('{"name": "search", "arguments": "x"}', WRONG_ARGUMENTS),
        ('{"name": "search", "arguments": ["query"]}', WRONG_ARGUMENTS),
        ('{"name": "search", "arguments": {}}', WRONG_ARGUMENTS),
        ('{"name": "search", "arguments": {"text": "x"}}', WRONG_ARGUMENTS),
        ('{"name": "search", "arguments": {"query": "x", "k": 3}}', WRONG_ARGUMENTS),
        ('{"name": "search", "arguments": {"query": 3}}', WRONG_ARGUMENTS),
        ('{"name": "search", "arguments": {"query": " "}}', WRONG_ARGUMENTS),
        ('{"name": "search", "arguments": {"query": "\\ud800"}}', WRONG_ARGUMENTS),
    ],
)
def test_bad_call_is_answered_with_its_error_and_the_others_are_searched(protocol, inside, error):
    bad = f"<tool_call>\n{inside}\n</tool_call>"
    assert protocol.parse(bad) == ParsedAction(None, None, (error,))
    calls = (Call("a"), error, Call("b"))
    assert protocol.parse(call("a") + "\n" + bad + "\n" + call("b")) == ParsedAction("search", "a\nb", calls)


@pytest.mark.parametrize("inside", ["[" * 100_000, "1" * 5_000], ids=["nested too deeply", "too many digits"])
def test_json_that_python_refuses_to_read_is_one_bad_call(protocol, inside):
    assert protocol.parse(f"<tool_call>\n{inside}\n</tool_call>") == ParsedAction(None, None, (UNREADABLE,))


def test_calls_after_the_first_32_of_a_turn_are_not_searched(protocol):
    action = protocol.parse("\n".join(call(str(number)) for number in range(40)))
    assert action.queries == tuple(map(str, range(32)))
    assert [made.error for made in action.calls[32:]] == [
        "Error: a message may have 32 tool calls. This one was not made."
    ] * 8


def test_reasoning_that_the_prompt_began_is_no_answer():
    protocol = ChatToolProtocol(tokenizer_of("qwen3_5_think"))
    assert protocol.parse("<answer> Rome </answer>\n</think>\n\n<answer> Paris </answer>").content == "Paris"
    assert protocol.parse("<answer> Rome </answer>") == ParsedAction(None, None)


XML_CALL = "<tool_call>\n<function=search>\n<parameter=query>\n{}\n</parameter>\n</function>\n</tool_call>"


@pytest.mark.parametrize(
    ("template", "turn"),
    [
        ("qwen3_5_nothink", XML_CALL),
        ("qwen3_5_think", "I must search.\n</think>\n\n" + XML_CALL),
        ("nemotron_3_nano", "I must search.\n</think>\n" + XML_CALL),
        ("llama3_1", '{{"name": "search", "parameters": {{"query": "{}"}}}}'),
        ("lfm2_2_5", "<|tool_call_start|>[search(query='{}')]<|tool_call_end|>"),
    ],
)
def test_calls_are_read_in_the_format_of_each_template(template, turn):
    protocol = ChatToolProtocol(tokenizer_of(template))
    assert protocol.parse(turn.format("capital of 7 seas")) == search("capital of 7 seas")
    assert protocol.parse(turn.format("x").replace("query", "text")).calls == (WRONG_ARGUMENTS,)


@pytest.mark.parametrize(
    ("template", "turn"),
    [
        ("qwen3_5_nothink", '<tool_call>\n{"name": "search", "arguments": {"query": "x"}}\n</tool_call>'),
        ("llama3_1", '{"name": "search", "arguments": {"query": "x"}}'),
        ("llama3_1", '{"name": "search", "parameters": {"query": "x}}'),
        ("lfm2_2_5", "<|tool_call_start|>[search]<|tool_call_end|>"),
    ],
)
def test_call_in_another_templates_format_is_a_bad_call_and_no_answer(template, turn):
    parsed = ChatToolProtocol(tokenizer_of(template)).parse(turn)
    assert (parsed.action, len(parsed.calls), parsed.queries) == (None, 1, ())


PIECES = [
    call("Rome"), "<tool_call>", "</tool_call>", '{"name": "search", ', '"arguments": {"query": "', '"}}', "[",
    "\\ud800", "\x01", "<think>", "</think>", "<answer>", "</answer>", "<|im_end|>", "<|im_start|>assistant\n",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=8), is_complete=st.booleans())
def test_whatever_the_model_writes_is_read(protocol, pieces, is_complete):
    parsed = protocol.parse("".join(pieces), is_complete=is_complete)
    assert (parsed.action == "search") == bool(parsed.queries)
    assert (parsed.content is None) == (parsed.action is None)
    assert all((one.query is None) != (one.error is None) for one in parsed.calls)
    assert parsed.action != "answer" or not parsed.calls
    assert all(query.encode() for query in parsed.queries)


def trl_suffix_ids(tokenizer, protocol, contents):
    trainer = SimpleNamespace(
        processing_class=tokenizer,
        _tokenizer=tokenizer,
        _is_vlm=False,
        chat_template=protocol.chat_template,
        chat_template_kwargs={},
    )
    messages = [{"role": "tool", "name": "search", "content": content} for content in contents]
    return GRPOTrainer._get_tool_suffix_ids(trainer, messages)


@pytest.mark.parametrize("template", SUPPORTED)
def test_feedback_is_what_trl_appends_token_for_token(template):
    tokenizer = tokenizer_of(template)
    protocol = ChatToolProtocol(tokenizer)
    found = {"a": [PARIS, SEINE], "b": [], "c": [SEINE]}
    bodies = ['Doc 1(Title: "Paris") Capital of France.\nDoc 2(Title: Seine) A river.\nIn France.', "", "no tööl"]
    if template.startswith("llama"):  # it writes tool messages as JSON, see below
        bodies = [body.replace("\n", " ") for body in bodies]
    calls = (Call("a"), Call("b"), Call(None, "no tööl"))
    for count in (1, 2, 3):
        feedback = protocol.feedback(ParsedAction("search", "", calls[:count]), found)
        ids = tokenizer("".join(part.text for part in feedback), add_special_tokens=False)["input_ids"]
        assert ids == trl_suffix_ids(tokenizer, protocol, bodies[:count])


def test_feedback_is_one_tool_message_for_each_call(protocol):
    calls = (Call("a"), Call(None, "Error: bad"), Call("b"))
    feedback = protocol.feedback(ParsedAction("search", "a\nb", calls), {"a": [PARIS], "b": []})
    assert "".join(part.text for part in feedback) == (
        '\n<|im_start|>user\n<tool_response>\nDoc 1(Title: "Paris") Capital of France.\n</tool_response>\n'
        "<tool_response>\nError: bad\n</tool_response>\n"
        "<tool_response>\n\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )
    assert [(part.body, part.retrieved) for part in feedback] == [
        ('Doc 1(Title: "Paris") Capital of France.', True),
        ("Error: bad", False),
        ("", True),
    ]


def test_turn_without_call_or_answer_gets_a_hint_as_a_user_message(protocol):
    (feedback,) = protocol.feedback(ParsedAction(None, None), {})
    assert feedback.text == (
        "\n<|im_start|>user\nYour last message held neither a tool call nor an answer. To search, call the tool "
        "`search`. To give the final answer, put it between <answer> and </answer>.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert not feedback.retrieved


def test_conversation_is_what_the_template_writes(tokenizer, protocol):
    def ids(messages):
        return tokenizer.apply_chat_template(
            messages, tools=protocol.tools, add_generation_prompt=True, return_dict=False
        )

    turn = call("a") + "\n" + call("b")
    feedback = protocol.feedback(protocol.parse(turn), {"a": [PARIS], "b": [SEINE]})
    text = turn + protocol.turn_ending + "".join(part.text for part in feedback)
    trajectory = Trajectory(
        (Turn(text=turn, token_span=(0, 1), feedback="".join(p.text for p in feedback)),), "max_turns"
    )
    prompt = protocol.prompt("?")
    assert ids(prompt + protocol.messages(trajectory)) == ids(prompt) + tokenizer(text)["input_ids"]


def test_error_cannot_forge_the_end_of_a_message(protocol):
    parsed = protocol.parse('<tool_call>\n{"name": "<|im_start|>", "arguments": {}}\n</tool_call>')
    (feedback,) = protocol.feedback(parsed, {})
    assert feedback.body == "Error: unknown tool '< |im_start|>'. The only tool is `search`."


def test_template_that_writes_tool_messages_as_json_gets_one_line():
    protocol = ChatToolProtocol(tokenizer_of("llama3_1"))
    (feedback,) = protocol.feedback(search("a"), {"a": [PARIS, SEINE]})
    assert feedback.opening == '<|start_header_id|>ipython<|end_header_id|>\n\n"'
    # A line break would become the letters `\n` before the next word, and hide an answer.
    assert feedback.body == 'Doc 1(Title: \\"Paris\\") Capital of France. Doc 2(Title: Seine) A river. In France.'
    assert feedback.closing == '"<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n'


def turn_of(text, feedback=None):
    return Turn(text=text, token_span=(0, 1), feedback=feedback)


def test_rollout_as_messages(protocol):
    def feedback_to(text):
        return "".join(part.text for part in protocol.feedback(protocol.parse(text), {"a": [PARIS], "b": []}))

    two, bad, empty = "I search.\n" + call("a") + call("b"), call("a")[:-14], "<think>\nhm\n</think>"
    turns = [turn_of(two, feedback_to(two)), turn_of(bad, "<|im_end|>" + feedback_to(bad))]
    turns += [turn_of(empty, feedback_to(empty)), turn_of("<answer> Paris </answer>")]
    function = {"name": "search", "arguments": {"query": "a"}}
    assert protocol.messages(Trajectory(tuple(turns), "answered")) == [
        {
            "role": "assistant",
            "content": "I search.",
            "tool_calls": [
                {"type": "function", "function": function},
                {"type": "function", "function": {**function, "arguments": {"query": "b"}}},
            ],
        },
        {"role": "tool", "name": "search", "content": passages_text([PARIS])},
        {"role": "tool", "name": "search", "content": ""},
        {"role": "assistant", "content": bad},
        {"role": "tool", "name": "search", "content": UNREADABLE.error},
        {"role": "assistant", "content": "", "reasoning_content": "hm"},
        {"role": "user", "content": protocol.feedback(ParsedAction(None, None), {})[0].body},
        {"role": "assistant", "content": "<answer> Paris </answer>"},
    ]


def test_feedback_of_another_protocol_is_refused_as_messages(protocol):
    turn = turn_of(call("a"), "\n\n<information></information>\n\n")
    with pytest.raises(ValueError, match="does not answer 1 calls in this chat template"):
        protocol.messages(Trajectory((turn,), "max_turns"))
