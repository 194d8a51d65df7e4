"""Feedback as tokens: encoded once, and cut so that what stands around the bodies stays whole."""

from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from ..protocols.base import Feedback


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The token ids of a text that stands inside a sequence."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """The text of token ids; special tokens are kept, because a tokenizer may have the protocol's tags among them."""
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def frame_length(parts: Sequence[Feedback], tokenizer: PreTrainedTokenizerBase) -> int:
    """Number of tokens of all that stands before, between and behind the bodies."""
    return sum(len(encode(tokenizer, frame)) for frame in _frames(parts))


def encode_feedbacks(
    feedbacks: Sequence[Sequence[Feedback]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[tuple[list[int], list[Feedback]]]:
    """
    Encode feedbacks, each cut to its budget.

    Args:
        feedbacks (sequence of sequences of [`~tspo_trl.protocols.base.Feedback`]):
            The parts of each, in order.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Encodes them, all in one call: rollouts that asked the same read the same, which is encoded once.
        max_length (`int`):
            Number of tokens that each may have. Bodies are cut on the right, the longest first and to the same length.

    Returns:
        `list[tuple[list[int], list[Feedback]]]`: for each its token ids, none where not even the bodies' frames fit;
        and its parts, with bodies as they were cut.
    """
    texts = ["".join(part.text for part in parts) for parts in feedbacks]
    ids_of = _encode_all(tokenizer, texts)
    return [
        (ids_of[text], list(parts)) if len(ids_of[text]) <= max_length else _encode_cut(parts, tokenizer, max_length)
        for text, parts in zip(texts, feedbacks, strict=True)
    ]


def _encode_cut(
    parts: Sequence[Feedback], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[list[int], list[Feedback]]:
    """The ids and parts of a feedback that is too long."""
    ids_of = _encode_all(tokenizer, [*_frames(parts), *(part.body for part in parts)])
    frames = [ids_of[frame] for frame in _frames(parts)]
    room = max_length - sum(len(frame) for frame in frames)
    if room < 0:
        return [], list(parts)
    bodies = _cut_evenly([ids_of[part.body] for part in parts], room)
    ids = list(frames[0])
    for body, frame in zip(bodies, frames[1:], strict=True):
        ids += body + frame
    return ids, [replace(part, body=decode(tokenizer, body)) for part, body in zip(parts, bodies, strict=True)]


def _encode_all(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> dict[str, list[int]]:
    """The token ids of each different text, as [`encode`] gives them."""
    filled = [text for text in dict.fromkeys(texts) if text]
    ids = tokenizer(filled, add_special_tokens=False)["input_ids"] if filled else []
    return {"": [], **dict(zip(filled, ids, strict=True))}


def _frames(parts: Sequence[Feedback]) -> list[str]:
    """What stands before, between and behind the bodies."""
    openings, closings = [part.opening for part in parts], [part.closing for part in parts]
    return [closing + opening for closing, opening in zip(["", *closings], [*openings, ""], strict=True)]


def _cut_evenly(bodies: Sequence[list[int]], room: int) -> list[list[int]]:
    """Cut the longest bodies, all to the same length, until together they fit in `room` tokens."""
    shortest_first = sorted(range(len(bodies)), key=lambda i: len(bodies[i]))
    cut = list(bodies)
    for done, i in enumerate(shortest_first):
        cut[i] = bodies[i][: room // (len(bodies) - done)]
        room -= len(cut[i])
    return cut
