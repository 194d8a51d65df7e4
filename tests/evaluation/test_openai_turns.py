"""Turns of an endpoint: its prompt, the restored stop string, and the token ids for the loop."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tspo_trl.evaluation.openai_client import Endpoint, EndpointError, RefusedRequestError
from tspo_trl.evaluation.openai_turns import CompletionsTurns
from tspo_trl.protocols.tags import TagProtocol
from tspo_trl.rollout.feedback import decode, encode, encode_continuations
from tspo_trl.rollout.loop import RolloutLoop
from tspo_trl.rollout.state import RolloutLimits

from .endpoint_server import Reply, Status, in_turn

LIMITS = RolloutLimits(
    max_turns=2, max_turn_length=60, max_feedback_length=200, max_completion_length=600, top_k=1
)  # fmt: skip
EOS = "<|im_end|>"


@pytest.fixture
def turn_of(server, tokenizer):
    """Function from a reply to the text of its turn, with the end-of-sequence token if there is one."""

    def turn(reply, budget=60, protocol=None):
        server.answer = lambda body: reply
        generate = CompletionsTurns(Endpoint(server.url, "policy"), tokenizer, protocol or TagProtocol())
        [ids], logprobs = generate([encode(tokenizer, "Question?")], [budget])
        assert logprobs is None
        return decode(tokenizer, ids)

    return turn


def byte_level_tokenizer(text="a b c", lowercase=False, bos=False):
    """Byte-level BPE. With `bos`, every text begins with a beginning-of-sequence token."""
    backend = Tokenizer(models.BPE(unk_token=None))
    if lowercase:
        backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<s>", EOS]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator([text], trainers.BpeTrainer(initial_alphabet=alphabet, special_tokens=special))
    if bos:
        backend.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token=EOS)


def spaced_tokenizer():
    """Tokenizer that puts a space before every text, like SentencePiece."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    alphabet = [chr(code) for code in range(33, 127)] + ["▁"]
    special = ["<unk>", EOS, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(initial_alphabet=alphabet, special_tokens=special, vocab_size=400)
    backend.train_from_iterator(["Doc </search> </answer>"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=EOS, unk_token="<unk>")


def test_the_endpoint_gets_text_budget_and_stop_strings_of_each_rollout(server, tokenizer):
    generate = CompletionsTurns(Endpoint(server.url, "policy"), tokenizer, TagProtocol())
    generate([encode(tokenizer, f"One{EOS}"), encode(tokenizer, "Two")], [7, 9])
    requests = sorted(server.requests, key=lambda request: request["max_tokens"])
    assert [(request["prompt"], request["max_tokens"]) for request in requests] == [("One<|im_end|>", 7), ("Two", 9)]
    assert requests[0]["stop"] == ["</search>", "</answer>"]


@pytest.mark.parametrize(
    ("reply", "turn"),
    [
        # The server names the end of the text.
        (Reply("<search> Rome ", extra={"stop_reason": "</search>"}), "<search> Rome </search>"),
        (Reply("<answer> Rome ", extra={"stop_reason": "</answer>"}), "<answer> Rome </answer>"),
        (Reply("<search> Rome ", extra={"matched_stop": "</search>"}), "<search> Rome </search>"),
        (Reply("<search> Rome </answer>", extra={"stop_reason": "</answer>"}), "<search> Rome </answer>"),
        (Reply("<search> Rome ", extra={"stop_reason": None}), f"<search> Rome {EOS}"),
        (Reply("<search> Rome ", extra={"matched_stop": 2}), f"<search> Rome {EOS}"),
        # The server does not name it.
        (Reply("<search> Rome "), "<search> Rome </search>"),
        (Reply("<think> ? </think> <answer> Rome "), "<think> ? </think> <answer> Rome </answer>"),
        (Reply("I do not know."), f"I do not know.{EOS}"),
        (Reply("the tag <search> and </answer>"), "the tag <search> and </answer>"),
        (Reply(""), EOS),
        # The server keeps the stop string.
        (Reply("<search> Rome </search>"), "<search> Rome </search>"),
        (Reply("<search> Rome </search>", extra={"stop_reason": "</search>"}), "<search> Rome </search>"),
        (Reply("<search> Rome </search>\n"), f"<search> Rome </search>\n{EOS}"),
        # The server keeps the end-of-sequence token.
        (Reply(f"I do not know.{EOS}", extra={"stop_reason": None}), f"I do not know.{EOS}"),
        # The budget ended the text.
        (Reply("<search> Rome ", "length"), "<search> Rome "),
        (Reply("<search> Rome ", "length", {"stop_reason": None}), "<search> Rome "),
    ],
)
def test_what_ended_a_turn_stands_at_its_end(turn_of, reply, turn):
    assert turn_of(reply) == turn


def test_a_turn_longer_than_its_budget_here_is_cut(turn_of, tokenizer):
    text = "<search> a very long query about many things </search>"
    assert turn_of(Reply(text), budget=5) == decode(tokenizer, encode(tokenizer, text)[:5])


def test_a_turn_of_tool_calls_ends_with_the_end_of_sequence(server, chat_tokenizer, chat_protocol):
    call = '<tool_call>\n{"name": "search", "arguments": {"query": "Rome"}}\n</tool_call>'
    server.answer = lambda body: Reply(call, extra={"stop_reason": None})
    generate = CompletionsTurns(Endpoint(server.url, "policy"), chat_tokenizer, chat_protocol)
    [ids], _ = generate([encode(chat_tokenizer, "?")], [200])
    assert decode(chat_tokenizer, ids) == f"{call}<|im_end|>"
    assert "stop" not in server.requests[0]
    assert server.requests[0]["skip_special_tokens"] is False


def test_servers_keep_special_tokens_where_a_tag_is_one(server, tokenizer):
    own = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, eos_token=EOS, additional_special_tokens=["</search>"]
    )
    for each in (own, tokenizer):
        CompletionsTurns(Endpoint(server.url, "policy"), each, TagProtocol())([[5]], [3])
    assert [request.get("skip_special_tokens") for request in server.requests] == [False, None]


def test_a_beginning_that_the_server_adds_itself_is_not_sent(server):
    for bos, prompt in ((True, "Question?"), (False, "<s>Question?")):
        tokenizer = byte_level_tokenizer(bos=bos)
        ids = [tokenizer.bos_token_id, *encode(tokenizer, "Question?")]
        CompletionsTurns(Endpoint(server.url, "policy"), tokenizer, TagProtocol())([ids], [3])
        assert server.requests[-1]["prompt"] == prompt


def test_no_space_creeps_in_before_a_turn(server):
    tokenizer = spaced_tokenizer()
    server.answer = in_turn(Reply("<search> Rome "), Reply("<answer> Rome "))
    generate = CompletionsTurns(Endpoint(server.url, "policy"), tokenizer, TagProtocol())
    prompt = encode(tokenizer, "Where?\n")
    [turn], _ = generate([prompt], [60])
    generate([prompt + turn], [60])
    assert server.requests[1]["prompt"] == "Where?\n<search> Rome </search>"


BYTE_LEVEL = byte_level_tokenizer("a\n\n")


@given(st.text())
@example("\n")  # shares a token with the line break before it
def test_an_encoded_turn_decodes_to_its_text_behind_any_prompt(text):
    ids = [*encode(BYTE_LEVEL, "Where?"), *encode_continuations(BYTE_LEVEL, [text])[text]]
    assert decode(BYTE_LEVEL, ids) == "Where?" + text


def test_a_tokenizer_that_changes_texts_is_refused(server):
    with pytest.raises(ValueError, match="keeps texts as they are"):
        CompletionsTurns(Endpoint(server.url, "policy"), byte_level_tokenizer(lowercase=True), TagProtocol())


def test_the_loop_searches_and_answers_through_an_endpoint(server, tokenizer, retriever):
    def policy(body):
        return Reply("<answer> Paris " if "Doc 1(Title" in body["prompt"] else "<search> capital of France ")

    server.answer = policy
    generate = CompletionsTurns(Endpoint(server.url, "policy"), tokenizer, TagProtocol())
    loop = RolloutLoop(tokenizer, retriever, TagProtocol(), LIMITS)
    prompt = TagProtocol().prompt("What is the capital of France?")
    [rollout], statistics = loop.run([encode(tokenizer, prompt)], generate)
    assert [turn.text for turn in rollout.turns] == [
        "<search> capital of France </search>",
        "<answer> Paris </answer>",
    ]
    assert rollout.trajectory.prediction == "Paris"
    assert statistics.queries == 1
    assert server.requests[1]["prompt"] == prompt + rollout.turns[0].text + rollout.turns[0].feedback


def test_the_loop_calls_tools_and_answers_through_an_endpoint(server, chat_tokenizer, chat_protocol, retriever):
    def policy(body):
        call = '<tool_call>\n{"name": "search", "arguments": {"query": "capital of France"}}\n</tool_call>'
        return Reply("<answer> Paris </answer>" if "Doc 1" in body["prompt"] else call)

    server.answer = policy
    generate = CompletionsTurns(Endpoint(server.url, "policy"), chat_tokenizer, chat_protocol)
    loop = RolloutLoop(chat_tokenizer, retriever, chat_protocol, LIMITS)
    text = chat_tokenizer.apply_chat_template(
        chat_protocol.prompt("What is the capital of France?"),
        tools=chat_protocol.tools,
        add_generation_prompt=True,
        tokenize=False,
    )
    [rollout], _ = loop.run([encode(chat_tokenizer, text)], generate)
    assert rollout.trajectory.prediction == "Paris"
    assert rollout.trajectory.num_searches == 1
    messages = chat_protocol.prompt("What is the capital of France?") + chat_protocol.messages(rollout.trajectory)
    assert server.requests[1]["prompt"] == chat_tokenizer.apply_chat_template(
        messages[:-1], tools=chat_protocol.tools, add_generation_prompt=True, tokenize=False
    )


def test_a_refused_prompt_reaches_the_caller_of_the_loop(server, tokenizer, retriever):
    server.answer = lambda body: Status(400, "too long") if "Rome" in body["prompt"] else Reply("<answer> x ")
    generate = CompletionsTurns(Endpoint(server.url, "policy"), tokenizer, TagProtocol())
    loop = RolloutLoop(tokenizer, retriever, TagProtocol(), LIMITS)
    paris, rome = encode(tokenizer, "Paris?"), encode(tokenizer, "Rome?")
    with pytest.raises(RefusedRequestError, match="too long"):
        loop.run([paris, rome], generate)
    [rollout], _ = loop.run([paris], generate)
    assert rollout.trajectory.prediction == "x"
    assert issubclass(RefusedRequestError, EndpointError)


@pytest.mark.parametrize("reason", ["length", "stop"])
def test_turn_that_the_server_cut_is_cut_whatever_its_length_here(
    server, chat_tokenizer, chat_protocol, reason, retriever
):
    server.answer = lambda body: Reply("Paris", reason)
    generate = CompletionsTurns(Endpoint(server.url, "policy"), chat_tokenizer, chat_protocol)
    loop = RolloutLoop(chat_tokenizer, retriever, chat_protocol, LIMITS)
    (rollout,), _ = loop.run([encode(chat_tokenizer, "Question?")], generate)
    assert rollout.end_reason == {"length": "max_length", "stop": "answered"}[reason]
    assert all(turn.is_cut for turn in rollout.turns) == (reason == "length")


def test_requests_stay_within_the_context_where_the_server_counts_more_tokens_of_the_text(server, tokenizer):
    server.answer = lambda body: Reply("<answer> Paris ")
    generate = CompletionsTurns(Endpoint(server.url, "policy"), tokenizer, TagProtocol(), 30)
    merged = encode(tokenizer, "<search> capital of France </search>")
    single = encode(tokenizer, "q") * 20
    generate([merged, single, single * 2], [60, 20, 60])
    lengths = [len(encode(tokenizer, body["prompt"])) for body in server.requests]
    budgets = [body["max_tokens"] for body in server.requests]
    assert sorted(zip(lengths, budgets, strict=True)) == sorted([(len(merged), 30 - len(merged)), (20, 10), (40, 1)])
