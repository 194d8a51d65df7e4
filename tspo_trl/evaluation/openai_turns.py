"""Turns of a model behind an OpenAI-compatible endpoint, as text through the completions API.

The endpoint continues the very text that the rollout has so far, so a model sees what it saw in training. What it
writes is encoded with the local tokenizer, which also counts the budgets.
"""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..protocols.base import SearchProtocol
from ..rollout.feedback import decode, encode
from .openai_client import Answer, Endpoint

_PROBE = "<think> A b. </think>\n<search> Über 1924 </search>"
_ANCHOR = "\n"


class TurnReader:
    """
    Turns the answers of an endpoint into the token ids that a [`~tspo_trl.rollout.loop.TurnGenerator`] returns.

    Endpoints cut the stop string off. It is put back: the one that the server names (vLLM's `stop_reason`, SGLang's
    `matched_stop`), or else, where the text ended before its budget, the first that makes an action of it. A text that
    ended otherwise, by the end of the sequence, gets the end-of-sequence token.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Encodes the texts.
        protocol ([`~tspo_trl.protocols.base.SearchProtocol`]):
            Its stop strings end turns.

    Raises:
        ValueError: The tokenizer changes more of a text than white space around it, so that tags would be lost.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, protocol: SearchProtocol):
        self.tokenizer = tokenizer
        self.protocol = protocol
        kept = decode(tokenizer, encode(tokenizer, _PROBE))
        if kept.strip() != _PROBE:
            raise ValueError(
                f"The tokenizer {tokenizer.name_or_path!r} makes {kept!r} of {_PROBE!r}. Use the model's own, or one "
                "that keeps texts as they are."
            )

    @property
    def stop_fields(self) -> dict[str, Any]:
        """The stop strings as fields of a request."""
        return {"stop": list(self.protocol.stop_strings)} if self.protocol.stop_strings else {}

    @property
    def extra_body(self) -> dict[str, Any]:
        """What vLLM and SGLang must be told where tags or tool calls may be special tokens."""
        stops = self.protocol.stop_strings
        may_be_special = not stops or not set(stops).isdisjoint(self.tokenizer.all_special_tokens)
        return {"skip_special_tokens": False} if may_be_special else {}

    def read(self, answer: Answer, max_new_tokens: int) -> list[int]:
        """
        The token ids of a turn.

        Args:
            answer ([`~tspo_trl.evaluation.openai_client.Answer`]):
                What the endpoint generated.
            max_new_tokens (`int`):
                Budget of the turn.

        Returns:
            `list[int]`: cut to the budget where the local tokenizer counts more tokens than the server's.
        """
        text = answer.text if answer.is_cut else answer.text + self._missing_stop(answer)
        ids, eos = encode_turn(self.tokenizer, text), self.tokenizer.eos_token_id
        ended_itself = not (answer.is_cut or text.endswith(tuple(self.protocol.stop_strings)))
        if ended_itself and eos is not None and ids[-1:] != [eos]:
            ids = [*ids, eos]
        return ids[:max_new_tokens]

    def _missing_stop(self, answer: Answer) -> str:
        """The stop string that the endpoint cut off, empty where it cut none."""
        text, stops = answer.text, self.protocol.stop_strings
        if text.endswith(tuple(stops)):
            return ""  # a server that leaves it there
        if answer.names_stop:
            return answer.stop if answer.stop in stops else ""
        if self.protocol.parse(text).action is not None:
            return ""
        return next((stop for stop in stops if self.protocol.parse(text + stop).action is not None), "")


class CompletionsTurns:
    """
    Generates greedy turns with `POST /v1/completions`, for either protocol.

    Args:
        endpoint ([`~tspo_trl.evaluation.openai_client.Endpoint`]):
            Where the model is served.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            The model's tokenizer.
        protocol ([`~tspo_trl.protocols.base.SearchProtocol`]):
            Its stop strings end turns.

    Raises:
        ValueError: As [`TurnReader`].
    """

    def __init__(self, endpoint: Endpoint, tokenizer: PreTrainedTokenizerBase, protocol: SearchProtocol):
        self.endpoint = endpoint
        self.tokenizer = tokenizer
        self._reader = TurnReader(tokenizer, protocol)
        bos = tokenizer.bos_token_id
        self._added_bos = bos if bos is not None and tokenizer("a")["input_ids"][:1] == [bos] else None

    def __call__(self, prompt_ids: list[list[int]], max_new_tokens: list[int]) -> tuple[list[list[int]], None]:
        """
        Generate a turn of each rollout, as a [`~tspo_trl.rollout.loop.TurnGenerator`].

        Raises:
            [`~tspo_trl.evaluation.openai_client.RefusedRequestError`],
            [`~tspo_trl.evaluation.openai_client.EndpointError`]: as [`Endpoint.ask`].
        """
        requests = [
            {"prompt": self._text(ids), "max_tokens": budget, **self._reader.stop_fields}
            for ids, budget in zip(prompt_ids, max_new_tokens, strict=True)
        ]
        answers = self.endpoint.ask("completions", requests, self._reader.extra_body)
        return [self._reader.read(*pair) for pair in zip(answers, max_new_tokens, strict=True)], None

    def _text(self, ids: Sequence[int]) -> str:
        """The text of a rollout, without the beginning-of-sequence token that the server's tokenizer adds itself."""
        adds_first = self._added_bos is not None and ids[0] == self._added_bos
        return decode(self.tokenizer, list(ids[1:] if adds_first else ids))


def encode_turn(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """
    The token ids of what a model wrote behind other text.

    Tokenizers of the SentencePiece kind put a space before a text that stands alone, which a turn does not. So it is
    encoded behind a line break, whose tokens are then dropped, where the two do not share a token.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Encodes it.
        text (`str`):
            The text.

    Returns:
        `list[int]`: without special tokens that the text does not hold.
    """
    anchor, anchored = encode(tokenizer, _ANCHOR), encode(tokenizer, _ANCHOR + text)
    if anchor and anchored[: len(anchor)] == anchor:
        return anchored[len(anchor) :]
    return encode(tokenizer, text)
