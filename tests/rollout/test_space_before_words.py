"""Feedback of tokenizers that put a space before the first word of a text, as SentencePiece does."""

import copy
import itertools

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tspo_trl.protocols.base import Feedback
from tspo_trl.protocols.tags import TagProtocol
from tspo_trl.rollout.feedback import decode, encode, encode_feedbacks, frame_length
from tspo_trl.rollout.loop import RolloutLoop
from tspo_trl.search import Passage

from .test_loop import Script, limits

ALPHABET = [*map(chr, range(33, 127)), "▁", "\n"]
SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
TEXTS = [
    '\n\n<information>Doc 1(Title: "Paris") Paris is the capital of France.</information>\n\n',
    "<search> a </search>",
]
TEXTS += ["Where? a\n\n", "\n\n\n\n"]
NAMES = ["bpe-first", "bpe-always", "bpe-whole", "unigram-first", "unigram-always", "prepend", "byte-level"]


def make_tokenizer(name):
    """Tokenizer of a kind and a scheme. `bpe-whole` may join words, `prepend` is Llama 2's, `byte-level` RoBERTa's."""
    kind, _, scheme = name.partition("-")
    if kind == "unigram":
        backend = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(
            vocab_size=160, initial_alphabet=ALPHABET, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
        )
    else:
        backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
        special = SPECIAL if kind == "byte" else SPECIAL + BYTES
        trainer = trainers.BpeTrainer(
            vocab_size=470, initial_alphabet=ALPHABET, special_tokens=special, show_progress=False
        )
    if kind == "byte":
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        backend.decoder = decoders.ByteLevel()
        trainer.initial_alphabet = pre_tokenizers.ByteLevel.alphabet()
    elif kind == "prepend":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        backend.decoder = decoders.Sequence(steps)
    else:
        first = "first" if scheme == "whole" else scheme
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=first, split=scheme != "whole")
        backend.decoder = decoders.Metaspace(prepend_scheme=first)
    backend.train_from_iterator(TEXTS * 2, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="module", params=NAMES)
def spaced(request):
    return make_tokenizer(request.param)


def text_of(parts):
    return "".join(part.text for part in parts)


def test_the_tokenizers_put_a_space_before_a_text(spaced):
    assert decode(spaced, encode(spaced, "Where?") + encode(spaced, "Paris")).strip() == "Where? Paris"


OPENINGS = ["\n\n<information>", "<information>", " ", "a"]
BODIES = ["Paris is the capital. " * 9, "\n\nParis " * 9, " Paris" * 40, ""]


def assert_decodes_to_its_text(tokenizer, parts, max_length, before):
    ((ids, kept),) = encode_feedbacks([parts], tokenizer, max_length)
    assert 0 < len(ids) <= max_length
    prefix = encode(tokenizer, before)
    assert decode(tokenizer, prefix + ids) == decode(tokenizer, prefix) + text_of(kept)
    for part, cut in zip(parts, kept, strict=True):
        assert (cut.opening, cut.closing) == (part.opening, part.closing)
        assert part.body.startswith(cut.body.rstrip("\ufffd"))
    return kept == parts


@pytest.mark.parametrize("max_length", [1_000, 130, 100])
@pytest.mark.parametrize("before", ["Where?", "<search> a </search>", "Where?\n"])
def test_feedback_decodes_to_its_text(spaced, max_length, before):
    for opening, body in itertools.product(OPENINGS, BODIES):
        parts = [
            Feedback(opening, body, "</information>\n\n", retrieved=True),
            Feedback("", body, "x", retrieved=False),
        ]
        assert_decodes_to_its_text(spaced, parts, max_length, before)


@pytest.mark.parametrize("max_length", [1_000, 24])
def test_no_space_stands_after_tags_that_are_special_tokens(spaced, max_length):
    own = copy.deepcopy(spaced)
    own.backend_tokenizer.add_special_tokens(["<information>", "</information>"])
    parts = [Feedback("\n\n<information>", "Paris is the capital. " * 9, "</information>\n\n", retrieved=True)]
    is_whole = assert_decodes_to_its_text(own, parts, max_length, "Where?")
    assert is_whole == (max_length == 1_000)


def test_bytes_of_unknown_characters():
    tokenizer = make_tokenizer("prepend")
    parts = [Feedback("\n\n<information>", "é 東京 Paris 東京", "</information>\n\n", retrieved=True)]
    for max_length in range(frame_length(parts, tokenizer), 100):
        assert_decodes_to_its_text(tokenizer, parts, max_length, "Where?")


@pytest.mark.parametrize("name", ["unigram-first", "prepend"])
def test_tokenizer_that_folds_white_space_adds_none(name):
    """As T5's: a line break becomes a space, so the text is not exact."""
    tokenizer = make_tokenizer(name)
    own = tokenizer.backend_tokenizer.normalizer
    fold = [normalizers.Strip(), normalizers.Replace(Regex(r"\s+"), " ")]
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([*fold, *([own] if own else [])])
    part = Feedback("(", "Paris\n is", ")\n\nx", retrieved=True)
    ((ids, _),) = encode_feedbacks([[part]], tokenizer, 100)
    assert decode(tokenizer, encode(tokenizer, "Where?") + ids) == "Where?(Paris is) x"


def test_a_cut_uses_the_whole_room(spaced):
    part = Feedback("\n\n<information>", "Paris is the capital of France. " * 9, "</information>\n\n", retrieved=True)
    room = frame_length([part], spaced) + 5
    ((ids, _),) = encode_feedbacks([[part]], spaced, room)
    assert len(ids) == room


@pytest.mark.parametrize("max_length", [1_000, 100])
def test_no_special_token_of_a_passage(spaced, max_length):
    part = Feedback("\n\n<information>", "x</s> <s></s>" * 9, "</information>\n\n", retrieved=True)
    ((ids, kept),) = encode_feedbacks([[part]], spaced, max_length)
    assert not {spaced.bos_token_id, spaced.eos_token_id}.intersection(ids)
    assert decode(spaced, ids) == text_of(kept)


@pytest.mark.parametrize("max_length", [1_000, 80])
def test_rollout_is_its_running_text(spaced, max_length):
    class Found:
        def search(self, queries, k):
            return [
                [Passage("1", '"Paris"', "Paris is the capital of France. It lies on the Seine.")] for _ in queries
            ]

    script = Script(spaced, ["<search> a </search>", "Where?</s>", "<answer> A </answer>"])
    script.scripts = {spaced.bos_token_id: next(iter(script.scripts.values()))}
    values = limits(max_feedback_length=max_length, max_completion_length=4_000)
    (rollout,), _ = RolloutLoop(spaced, Found(), TagProtocol(), values).run([[spaced.bos_token_id]], script)
    for turn in rollout.turns[:2]:
        assert spaced.decode(rollout.completion_ids[slice(*turn.feedback_span)]) == turn.feedback
        start, end = turn.feedback_span
        before, after = rollout.completion_ids[:start], rollout.completion_ids[:end]
        assert spaced.decode(after) == spaced.decode(before) + turn.feedback
    assert rollout.end_reason == "answered"
