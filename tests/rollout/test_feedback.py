"""Feedback as tokens: whole if it fits, otherwise cut in its bodies only."""

import copy

import pytest

from tspo_trl.protocols.base import Feedback
from tspo_trl.rollout.feedback import encode_feedbacks, frame_length

FRAME = ("<information>", "</information>")


def part(body, opening=FRAME[0], closing=FRAME[1]):
    return Feedback(opening, body, closing, retrieved=True)


def encode_feedback(parts, tokenizer, max_length):
    (encoded,) = encode_feedbacks([parts], tokenizer, max_length)
    return encoded


def length(tokenizer, text):
    return len(tokenizer(text)["input_ids"])


def bodies(parts, tokenizer):
    return [length(tokenizer, one.body) for one in parts]


def test_feedback_that_fits_is_encoded_as_one_text(tokenizer):
    parts = [part("Paris"), part("Rome")]
    text = "<information>Paris</information><information>Rome</information>"
    ids, kept = encode_feedback(parts, tokenizer, length(tokenizer, text))
    assert ids == tokenizer(text)["input_ids"]
    assert kept == parts


def test_body_is_cut_on_the_right_to_the_token(tokenizer):
    room = frame_length([part("")], tokenizer) + 3
    ids, (kept,) = encode_feedback([part("0123456789")], tokenizer, room)
    assert len(ids) == room
    assert kept.text == "<information>012</information>"
    assert tokenizer.decode(ids) == kept.text


@pytest.mark.parametrize(
    ("lengths", "room", "expected"),
    [
        ([8, 8], 10, [5, 5]),
        ([2, 8], 9, [2, 7]),  # a long body gets the room that a short one leaves
        ([8, 2], 9, [7, 2]),
        ([1, 8, 8], 10, [1, 4, 5]),
        ([8, 8, 8], 0, [0, 0, 0]),
    ],
)
def test_several_bodies_share_what_is_left(tokenizer, lengths, room, expected):
    parts = [part("0123456789"[:number]) for number in lengths]
    ids, kept = encode_feedback(parts, tokenizer, frame_length(parts, tokenizer) + room)
    assert bodies(kept, tokenizer) == expected
    assert tokenizer.decode(ids) == "".join(one.text for one in kept)


def test_feedback_whose_frames_do_not_fit_has_no_ids(tokenizer):
    parts = [part("Paris"), part("Rome")]
    assert encode_feedback(parts, tokenizer, frame_length(parts, tokenizer) - 1) == ([], parts)


def test_no_token_of_a_sequences_beginning_stands_in_a_feedback(tokenizer):
    """Llama's tokenizer adds a special token to every text."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    beginning = PreTrainedTokenizerFast(
        tokenizer_object=copy.deepcopy(tokenizer.backend_tokenizer), bos_token="<|endoftext|>", eos_token="<|im_end|>"
    )
    token = ("<|endoftext|>", tokenizer.convert_tokens_to_ids("<|endoftext|>"))
    beginning.backend_tokenizer.post_processor = TemplateProcessing(single="<|endoftext|> $A", special_tokens=[token])
    assert beginning("Paris")["input_ids"][0] == token[1]
    for room in (100, frame_length([part("")], tokenizer) + 2):
        ids, _ = encode_feedback([part("Paris is nice")], beginning, room)
        assert token[1] not in ids


def test_feedback_that_fits_to_the_token_is_not_taken_apart(tokenizer):
    """A text that is encoded in parts may have different tokens."""
    parts = [part("aris", opening="<information>P")]
    ids, _ = encode_feedback(parts, tokenizer, length(tokenizer, parts[0].text))
    assert ids == tokenizer(parts[0].text)["input_ids"]
    assert len(encode_feedback(parts, tokenizer, frame_length(parts, tokenizer) + 4)[0]) >= len(ids)


def test_several_feedbacks_are_encoded_each_as_if_alone(tokenizer):
    feedbacks = [[part("Paris")], [part("Rome"), part("")], [part("0123456789" * 9)], [part("Paris")]]
    together = encode_feedbacks(feedbacks, tokenizer, 40)
    assert together == [encode_feedback(parts, tokenizer, 40) for parts in feedbacks]
    assert together[2][1] != feedbacks[2]  # the third was cut


def test_feedback_that_several_rollouts_read_is_encoded_once(tokenizer):
    texts = []

    class Counting:
        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def __call__(self, batch, **kwargs):
            texts.extend(batch)
            return tokenizer(batch, **kwargs)

    encode_feedbacks([[part("Paris")], [part("Paris")], [part("Rome")]], Counting(), 100)
    assert texts == ["<information>Paris</information>", "<information>Rome</information>"]


def test_no_feedback_is_no_work(tokenizer):
    assert encode_feedbacks([], tokenizer, 40) == []
