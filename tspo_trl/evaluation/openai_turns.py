"""Turns of a model served by an OpenAI-compatible endpoint, as text.

The completions API continues the exact text of the rollout, so the model sees what it saw in training. The local
tokenizer encodes the answers and counts the budgets.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..protocols.base import SearchProtocol
from ..rollout.feedback import decode, encode, encode_continuations
from .openai_client import API, Answer, Endpoint

_PROBE = "<think> A b. </think>\n<search> Über 1924 </search>"


class EndpointTurns:
    """
    Generator of greedy turns from an endpoint: common part of both APIs.

    Endpoints cut off the stop string, which is appended again. It is the one that the server names (`stop_reason` of
    vLLM, `matched_stop` of SGLang). Otherwise it is the first that completes an action, if the text ended within its
    budget. A text that ended by itself gets the end-of-sequence token.

    Args:
        endpoint ([`~tspo_trl.evaluation.openai_client.Endpoint`]):
            Endpoint of the model.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer of the texts.
        protocol ([`~tspo_trl.protocols.base.SearchProtocol`]):
            Protocol with the stop strings of turns.

    Raises:
        ValueError: The tokenizer changes more than white space around a text, so tags would be lost.
    """

    api: API

    def __init__(self, endpoint: Endpoint, tokenizer: PreTrainedTokenizerBase, protocol: SearchProtocol):
        self.endpoint = endpoint
        self.tokenizer = tokenizer
        self.protocol = protocol
        # The server may count more tokens in a turn that it cuts.
        self.marks_ends = tokenizer.eos_token_id is not None
        kept = decode(tokenizer, encode(tokenizer, _PROBE))
        if kept.strip() != _PROBE:
            raise ValueError(
                f"The tokenizer {tokenizer.name_or_path!r} changes {_PROBE!r} to {kept!r}. Use the model's tokenizer, "
                "or one that keeps texts as they are."
            )

    def _generate(self, prompts: Sequence[Mapping[str, Any]], max_new_tokens: Sequence[int]) -> list[list[int]]:
        """Send the prompts, as fields of a request, and return the token ids of the turns."""
        stops = list(self.protocol.stop_strings)
        stop_fields = {"stop": stops} if stops else {}
        requests = [
            {**prompt, "max_tokens": budget, **stop_fields}
            for prompt, budget in zip(prompts, max_new_tokens, strict=True)
        ]
        # For vLLM and SGLang: tags or tool calls may be special tokens.
        may_be_special = not stops or not set(stops).isdisjoint(self.tokenizer.all_special_tokens)
        answers = self.endpoint.ask(self.api, requests, {"skip_special_tokens": False} if may_be_special else {})
        return [self._read(*pair) for pair in zip(answers, max_new_tokens, strict=True)]

    def _read(self, answer: Answer, max_new_tokens: int) -> list[int]:
        """Return the token ids of a turn, cut to the budget if the local tokenizer counts more than the server's."""
        text = answer.text if answer.is_cut else answer.text + self._missing_stop(answer)
        ids, eos = encode_continuations(self.tokenizer, [text])[text], self.tokenizer.eos_token_id
        ended_itself = not (answer.is_cut or text.endswith(tuple(self.protocol.stop_strings)))
        if ended_itself and eos is not None and ids[-1:] != [eos]:
            ids = [*ids, eos]
        return ids[:max_new_tokens]

    def _missing_stop(self, answer: Answer) -> str:
        """Return the stop string that the endpoint cut off, or an empty text."""
        text, stops = answer.text, self.protocol.stop_strings
        if text.endswith(tuple(stops)):
            return ""  # this server does not cut it off
        if answer.names_stop:
            return answer.stop if answer.stop in stops else ""
        if self.protocol.parse(text).action is not None:
            return ""
        return next((stop for stop in stops if self.protocol.parse(text + stop).action is not None), "")


class CompletionsTurns(EndpointTurns):
    """
    Generator of greedy turns with `POST /v1/completions`, for either protocol.

    Args:
        endpoint, tokenizer, protocol:
            See [`EndpointTurns`].
        max_context_length (`int`, *optional*):
            Tokens of prompt and turn together that the server accepts, `None` if unknown. The server encodes the text
            of a rollout again, often into a few more tokens, which then shorten the budget.
    """

    api = "completions"

    def __init__(
        self,
        endpoint: Endpoint,
        tokenizer: PreTrainedTokenizerBase,
        protocol: SearchProtocol,
        max_context_length: int | None = None,
    ):
        super().__init__(endpoint, tokenizer, protocol)
        self.max_context_length = max_context_length
        bos = tokenizer.bos_token_id
        self._added_bos = bos if bos is not None and tokenizer("a")["input_ids"][:1] == [bos] else None

    def __call__(self, prompt_ids: list[list[int]], max_new_tokens: list[int]) -> tuple[list[list[int]], None]:
        """Generate a turn of each rollout ([`~tspo_trl.rollout.loop.TurnGenerator`]). Raises as [`Endpoint.ask`]."""
        texts = [self._text(ids) for ids in prompt_ids]
        budgets = [self._budget(*pair) for pair in zip(texts, max_new_tokens, strict=True)]
        return self._generate([{"prompt": text} for text in texts], budgets), None

    def _budget(self, text: str, max_new_tokens: int) -> int:
        if self.max_context_length is None:
            return max_new_tokens
        return max(1, min(max_new_tokens, self.max_context_length - len(self.tokenizer(text)["input_ids"])))

    def _text(self, ids: Sequence[int]) -> str:
        """Return the text of a rollout, without the beginning-of-sequence token that the server adds."""
        adds_first = self._added_bos is not None and ids[0] == self._added_bos
        return decode(self.tokenizer, list(ids[1:] if adds_first else ids))
