"""Greedy turns of a transformers model."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, StopStringCriteria

from ..rollout.greedy import greedy_config, no_defaults
from ..rollout.positions import limited_positions
from ..rollout.stopping import TurnEnd


def eos_token_ids(generation_config: GenerationConfig | None, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """
    Return all tokens that end a turn, as in [`~trl.GRPOTrainer`]: those of the tokenizer and of the model.

    Args:
        generation_config ([`~transformers.GenerationConfig`], *optional*):
            Generation configuration of the model.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer of the model.

    Returns:
        `list[int]`: one or more token ids.

    Raises:
        ValueError: Neither has an end-of-sequence token.
    """
    declared = None if generation_config is None else generation_config.eos_token_id
    ids = [declared] if isinstance(declared, int) else list(declared or [])
    ends = list(dict.fromkeys(id for id in [tokenizer.eos_token_id, *ids] if id is not None))
    if not ends:
        raise ValueError(
            f"Neither the tokenizer {tokenizer.name_or_path!r} nor the model's generation configuration has an "
            "end-of-sequence token. Set the tokenizer's `eos_token`."
        )
    return ends


class ModelTurns:
    """
    Generator of greedy turns with `model.generate`.

    As in the trainer's evaluation, sampling and penalties of the model's generation configuration are ignored.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Policy on its device.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer of the policy. Without a padding token, an end-of-sequence token pads.
        stop_strings (sequence of `str`):
            Strings that end a turn.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stop_strings: Sequence[str]):
        self.model = model
        self.eos_token_ids = eos_token_ids(model.generation_config, tokenizer)
        self.pad_token_id = self.eos_token_ids[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self._stop_strings = StopStringCriteria(tokenizer, list(stop_strings)) if stop_strings else None

    @torch.inference_mode()
    def __call__(self, prompt_ids: list[list[int]], max_new_tokens: list[int]) -> tuple[list[list[int]], None]:
        longest = max(map(len, prompt_ids))
        padded = [[self.pad_token_id] * (longest - len(ids)) + ids for ids in prompt_ids]
        mask = [[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompt_ids]
        generate: Any = self.model.generate
        turn_end = TurnEnd(self._stop_strings, max_new_tokens)
        with no_defaults(self.model), limited_positions(self.model):
            output = generate(
                input_ids=torch.tensor(padded, device=self.model.device),
                attention_mask=torch.tensor(mask, device=self.model.device),
                generation_config=greedy_config(
                    self.eos_token_ids, self.pad_token_id, max_new_tokens=max(max_new_tokens)
                ),
                stopping_criteria=[turn_end],
            )
        return turn_end.cut([self._up_to_end(ids) for ids in output[:, longest:].tolist()]), None

    def _up_to_end(self, ids: list[int]) -> list[int]:
        """Return the ids up to the first end-of-sequence token. The rest is padding."""
        ends = (i for i, token in enumerate(ids) if token in self.eos_token_ids)
        return ids[: next(ends, len(ids) - 1) + 1]
