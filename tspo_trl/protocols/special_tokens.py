"""Special tokens of a tokenizer, which text from elsewhere must not write."""

import re

from transformers import PreTrainedTokenizerBase

_BYTE = re.compile("<0x[0-9A-F]{2}>")


class SpecialTokens:
    """
    Special tokens of a tokenizer, including added tokens that are flagged as special.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            The tokenizer.

    Attributes:
        ids (`frozenset[int]`):
            Ids of the special tokens, without those that ordinary text needs: the bytes of unknown characters, and the
            token of unknown words if it has no other role.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        flagged = {id: token.content for id, token in tokenizer.added_tokens_decoder.items() if token.special}
        texts = {*flagged.values(), *map(str, tokenizer.all_special_tokens)} - {""}
        self._pattern = re.compile("|".join(map(re.escape, sorted(texts))) or "(?!)")
        byte_ids = {id for id, text in flagged.items() if _BYTE.fullmatch(text)}
        ids = {*flagged, *tokenizer.all_special_ids} - byte_ids
        roles = {name: token for name, token in tokenizer.special_tokens_map.items() if name != "unk_token"}
        if str(tokenizer.unk_token) not in map(str, roles.values()):
            ids.discard(tokenizer.unk_token_id)
        self.ids = frozenset(ids)

    def remove(self, text: str) -> str:
        """Return a text without special tokens."""
        return self._pattern.sub("", text)

    def break_up(self, text: str) -> str:
        """Return a text with a space after the first character of each special token."""
        return self._pattern.sub(lambda token: f"{token[0][:1]} {token[0][1:]}", text)
