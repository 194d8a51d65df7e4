"""A policy with its search engine, which answers questions."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..rollout.loop import RolloutLoop, TurnGenerator
from ..rollout.prompts import encode_prompts, row_prompt
from ..trajectory import Trajectory

logger = logging.getLogger(__name__)

PromptEncoder = Callable[[Sequence[Mapping[str, Any]]], list[list[int]]]


class SearchAgent:
    """
    Search agent that answers each question with one rollout.

    Args:
        loop ([`~tspo_trl.rollout.loop.RolloutLoop`]):
            Turn loop with protocol, retriever and budgets.
        generate ([`~tspo_trl.rollout.loop.TurnGenerator`]):
            Generator of turns, greedy or not.
        encode (`Callable`, *optional*):
            Function from rows with `question` or `prompt` to the token ids of their prompts. Defaults to the trainer's
            encoding.
        chat_template_kwargs (mapping, *optional*):
            Additional variables of the chat template for the default `encode`.

    Example:

    ```python
    loop = RolloutLoop(tokenizer, retriever, TagProtocol(), limits)
    agent = SearchAgent(loop, ModelTurns(model, tokenizer, TagProtocol().stop_strings))
    trajectory = agent.answer([{"question": "Who wrote Emma?"}])[0]
    ```
    """

    def __init__(
        self,
        loop: RolloutLoop,
        generate: TurnGenerator,
        encode: PromptEncoder | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ):
        self.loop = loop
        self.chat_template_kwargs = chat_template_kwargs
        self.generate = generate
        self.encode = encode or self._encode_as_in_training

    def answer(self, rows: Sequence[Mapping[str, Any]]) -> list[Trajectory | None]:
        """
        Answer a batch of questions, with rollouts that advance together.

        Args:
            rows (sequence of mappings):
                One or more rows with `question` or `prompt`.

        Returns:
            `list[Trajectory | None]`: rollouts in the order of the rows. A prompt that leaves no room in the model's
            context gets `None` and a logged warning.
        """
        prompts = self.encode(rows)
        fits = [self.loop.limits.completion_length(len(ids)) > 0 for ids in prompts]
        fitting = [ids for ids, fit in zip(prompts, fits, strict=True) if fit]
        rollouts = iter(self.loop.run(fitting, self.generate)[0])
        for row, ids, fit in zip(rows, prompts, fits, strict=True):
            if not fit:
                logger.warning(
                    "No answer to %s: a prompt of %d tokens leaves no room in a context of %d.",
                    repr(row.get("id", row.get("question"))),
                    len(ids),
                    self.loop.limits.max_context_length,
                )
        return [next(rollouts).trajectory if fit else None for fit in fits]

    def _encode_as_in_training(self, rows: Sequence[Mapping[str, Any]]) -> list[list[int]]:
        tokenizer, protocol = self.loop.tokenizer, self.loop.protocol
        prompts = [row_prompt(row, tokenizer, protocol) for row in rows]
        return encode_prompts(prompts, tokenizer, protocol, self.chat_template_kwargs)
