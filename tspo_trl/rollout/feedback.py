"""Feedback as tokens: encoded once, and cut inside the bodies only, so that tags stay whole.

No text that the search returned becomes a special token. A space breaks up the special tokens in it, so that they stay
broken if the feedback is sent as text. A token that is left, because a normalizer made it or because it has a single
character, is dropped.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from ..protocols.base import Feedback
from ..protocols.special_tokens import SpecialTokens

# Texts before a continuation. A continuation must not share a token with the text before it.
_ANCHORS = ("\n", "a", ">")


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the token ids of a text inside a sequence, without special tokens around it."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """Return the text of token ids. Special tokens are kept, because a protocol's tags may be special tokens."""
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def frame_length(parts: Sequence[Feedback], tokenizer: PreTrainedTokenizerBase) -> int:
    """Count the tokens before, between and after the bodies."""
    ids_of = encode_continuations(tokenizer, _frames(parts))
    return sum(len(ids_of[frame]) for frame in _frames(parts))


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
    ids_of = encode_continuations(tokenizer, texts)
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
    ids_of = encode_continuations(tokenizer, own_texts)
    own_ids = [i for text in own_texts for i in ids_of[text]]
    return [i for i in ids if i in special.ids] != [i for i in own_ids if i in special.ids]


def _encode_parts(
    parts: Sequence[Feedback], tokenizer: PreTrainedTokenizerBase, special: SpecialTokens, max_length: int
) -> tuple[list[int], list[Feedback]]:
    """Encode each part of a feedback, and cut the bodies if it is too long."""
    ids_of = encode_continuations(tokenizer, [*_frames(parts), *(part.body for part in parts)])
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
    return ids, [
        replace(part, body=_decode_continuation(tokenizer, body)) for part, body in zip(parts, bodies, strict=True)
    ]


def encode_continuations(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> dict[str, list[int]]:
    """
    Encode texts that follow other text.

    SentencePiece tokenizers put a space before a text that stands alone. So they encode each text after another one,
    and the tokens of that one are dropped.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Encodes each distinct text.
        texts (sequence of `str`):
            The texts.

    Returns:
        `dict[str, list[int]]`: token ids of each text, without special tokens around it.
    """
    ids_of = _encode_batch(tokenizer, [text for text in dict.fromkeys(texts) if text])
    if ids_of and _adds_space(tokenizer):
        ids_of.update(_encode_after_anchors(tokenizer, ids_of))
    return {"": [], **ids_of}


def _encode_batch(tokenizer: PreTrainedTokenizerBase, texts: list[str], before: str = "") -> dict[str, list[int]]:
    ids = tokenizer([before + text for text in texts], add_special_tokens=False)["input_ids"] if texts else []
    return dict(zip(texts, ids, strict=True))


def _adds_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Check whether the tokenizer puts a space before a text."""
    return decode(tokenizer, tokenizer.encode("a", add_special_tokens=False) * 2).strip() != "aa"


def _encode_after_anchors(
    tokenizer: PreTrainedTokenizerBase, standalone: dict[str, list[int]]
) -> dict[str, list[int]]:
    """Encode texts without the space before them, except those for which this changes more than that space."""
    exact: dict[str, list[int]] = {}
    similar: dict[str, list[int]] = {}
    for anchor in _ANCHORS:
        anchor_ids = encode(tokenizer, anchor)
        before = decode(tokenizer, anchor_ids)
        for text, ids in _encode_batch(tokenizer, [text for text in standalone if text not in exact], anchor).items():
            if not anchor_ids or ids[: len(anchor_ids)] != anchor_ids:
                continue
            alone = decode(tokenizer, standalone[text])
            after = decode(tokenizer, ids).removeprefix(before)
            if after == text:
                exact[text] = ids[len(anchor_ids) :]
            elif after == (alone if text.startswith(" ") else alone.removeprefix(" ")):
                similar.setdefault(text, ids[len(anchor_ids) :])
    for text in standalone.keys() - exact.keys():
        ids = _encode_between_added_tokens(tokenizer, text)
        if _decode_after_anchor(tokenizer, ids) == text:
            exact[text] = ids
    return similar | exact


def _encode_between_added_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Encode a text without the spaces that some tokenizers put after added tokens, empty if it has none."""
    added = sorted((token.content for token in tokenizer.added_tokens_decoder.values()), key=len, reverse=True)
    pieces = [piece for piece in re.split(f"({'|'.join(map(re.escape, added))})", text) if piece] if added else []
    if len(pieces) < 2:
        return []
    ids_of = encode_continuations(tokenizer, pieces)
    return [i for piece in pieces for i in ids_of[piece]]


def _decode_continuation(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """Return the text of token ids that follow other ids."""
    return _decode_after_anchor(tokenizer, ids) if _adds_space(tokenizer) else decode(tokenizer, ids)


def _decode_after_anchor(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    anchor_ids = encode(tokenizer, _ANCHORS[1])  # a line break may have no token
    return decode(tokenizer, anchor_ids + ids).removeprefix(decode(tokenizer, anchor_ids))


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
