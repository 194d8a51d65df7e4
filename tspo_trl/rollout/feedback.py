"""Feedback as tokens: encoded once, and cut inside the bodies only, so that tags stay whole.

No text that the search returned becomes a special token. A space breaks up the special tokens in it, so that they stay
broken if the feedback is sent as text. A token that is left, because a normalizer made it or because it has a single
character, is dropped.
"""

from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from ..protocols.base import Feedback
from ..protocols.special_tokens import SpecialTokens


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the token ids of a text inside a sequence, without special tokens around it."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """Return the text of token ids. Special tokens are kept, because a protocol's tags may be special tokens."""
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def frame_length(parts: Sequence[Feedback], tokenizer: PreTrainedTokenizerBase) -> int:
    """Count the tokens before, between and after the bodies."""
    return sum(len(encode(tokenizer, frame)) for frame in _frames(parts))


def encode_feedbacks(
    feedbacks: Sequence[Sequence[Feedback]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[tuple[list[int], list[Feedback]]]:
    """
    Encode feedbacks, each cut to the maximum length.

    Args:
        feedbacks (sequence of sequences of [`~tspo_trl.protocols.base.Feedback`]):
            Parts of each feedback, in order.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Encodes all feedbacks in one call, equal ones once.
        max_length (`int`):
            Maximum number of tokens of a feedback. Bodies are cut on the right, the longest first and to the same
            length.

    Returns:
        `list[tuple[list[int], list[Feedback]]]`: token ids of each feedback, empty if the text around the bodies does
        not fit, and its parts with the cut bodies.
    """
    special = SpecialTokens(tokenizer)
    broken = [[_break_up(part, special) for part in parts] for parts in feedbacks]
    texts = ["".join(part.text for part in parts) for parts in broken]
    ids_of = _encode_all(tokenizer, texts)
    return [
        (ids_of[text], parts)
        if len(ids_of[text]) <= max_length and not _is_forged(ids_of[text], parts, tokenizer, special)
        else _encode_parts(parts, tokenizer, special, max_length)
        for text, parts in zip(texts, broken, strict=True)
    ]


def _break_up(part: Feedback, special: SpecialTokens) -> Feedback:
    return replace(part, body=special.break_up(part.body)) if part.retrieved else part


def _is_forged(
    ids: list[int], parts: Sequence[Feedback], tokenizer: PreTrainedTokenizerBase, special: SpecialTokens
) -> bool:
    """Check whether a feedback contains other special tokens than those that the protocol wrote."""
    if special.ids.isdisjoint(ids):
        return False
    frames, own_bodies = _frames(parts), ["" if part.retrieved else part.body for part in parts]
    own_texts = [text for pair in zip(frames, [*own_bodies, ""], strict=True) for text in pair]
    ids_of = _encode_all(tokenizer, own_texts)
    own_ids = [i for text in own_texts for i in ids_of[text]]
    return [i for i in ids if i in special.ids] != [i for i in own_ids if i in special.ids]


def _encode_parts(
    parts: Sequence[Feedback], tokenizer: PreTrainedTokenizerBase, special: SpecialTokens, max_length: int
) -> tuple[list[int], list[Feedback]]:
    """Encode each part of a feedback, and cut the bodies if it is too long."""
    ids_of = _encode_all(tokenizer, [*_frames(parts), *(part.body for part in parts)])
    frames = [ids_of[frame] for frame in _frames(parts)]
    room = max_length - sum(len(frame) for frame in frames)
    if room < 0:
        return [], list(parts)
    whole = [
        [i for i in ids_of[part.body] if i not in special.ids] if part.retrieved else ids_of[part.body]
        for part in parts
    ]
    bodies = _cut_evenly(whole, room)
    ids = list(frames[0])
    for body, frame in zip(bodies, frames[1:], strict=True):
        ids += body + frame
    return ids, [replace(part, body=decode(tokenizer, body)) for part, body in zip(parts, bodies, strict=True)]


def _encode_all(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> dict[str, list[int]]:
    """Encode each distinct text as [`encode`] does."""
    filled = [text for text in dict.fromkeys(texts) if text]
    ids = tokenizer(filled, add_special_tokens=False)["input_ids"] if filled else []
    return {"": [], **dict(zip(filled, ids, strict=True))}


def _frames(parts: Sequence[Feedback]) -> list[str]:
    """Text before, between and after the bodies."""
    openings, closings = [part.opening for part in parts], [part.closing for part in parts]
    return [closing + opening for closing, opening in zip(["", *closings], [*openings, ""], strict=True)]


def _cut_evenly(bodies: Sequence[list[int]], room: int) -> list[list[int]]:
    """Cut the longest bodies to the same length, so that all bodies together fit in `room` tokens."""
    shortest_first = sorted(range(len(bodies)), key=lambda i: len(bodies[i]))
    cut = list(bodies)
    for done, i in enumerate(shortest_first):
        cut[i] = bodies[i][: room // (len(bodies) - done)]
        room -= len(cut[i])
    return cut
