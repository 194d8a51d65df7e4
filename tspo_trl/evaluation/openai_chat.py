"""Rollouts through the chat API, for endpoints without a completions API.

A rollout is a conversation: the user asks the question, the assistant writes a turn, the user gives the feedback, and
so on. A model that was trained on one running text did not see it in this form.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..protocols.base import SearchProtocol
from ..protocols.chat import ChatToolProtocol
from ..rollout.feedback import decode, encode
from ..rollout.loop import RolloutLoop, TurnGenerator
from ..rollout.state import Rollout, RolloutLimits
from ..search.base import Retriever
from .openai_client import Endpoint
from .openai_turns import EndpointTurns

Conversation = list[dict[str, str]]


class ChatTurns(EndpointTurns):
    """
    Generator of greedy turns with `POST /v1/chat/completions`. [`ChatEndpointLoop`] passes conversations to it.

    Args:
        endpoint ([`~tspo_trl.evaluation.openai_client.Endpoint`]):
            Endpoint of the model.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer that counts the budgets. It need not be the model's.
        protocol ([`~tspo_trl.protocols.base.SearchProtocol`]):
            [`~tspo_trl.protocols.tags.TagProtocol`], or another protocol of tags.

    Raises:
        ValueError: The protocol is that of tool calls, or the tokenizer changes texts.
    """

    api = "chat"

    def __init__(self, endpoint: Endpoint, tokenizer: PreTrainedTokenizerBase, protocol: SearchProtocol):
        if isinstance(protocol, ChatToolProtocol):
            raise ValueError(
                "`ChatToolProtocol` writes tool calls with the model's chat template, but a chat API hides the "
                "template. Use the completions API of the endpoint."
            )
        super().__init__(endpoint, tokenizer, protocol)

    def __call__(self, prompt_ids: list[list[int]], max_new_tokens: list[int]) -> tuple[list[list[int]], None]:
        """Generate turns of conversations with one user message each, given as its token ids."""
        return self.reply([_question(self.tokenizer, ids) for ids in prompt_ids], max_new_tokens), None

    def reply(self, conversations: Sequence[Conversation], max_new_tokens: Sequence[int]) -> list[list[int]]:
        """
        Generate the next turn of each conversation.

        Args:
            conversations (sequence of `list[dict]`):
                Messages of each conversation.
            max_new_tokens (sequence of `int`):
                Budget of each turn in tokens.

        Returns:
            `list[list[int]]`: token ids of each turn.

        Raises:
            EndpointError: As [`Endpoint.ask`].
        """
        return self._generate([{"messages": messages} for messages in conversations], max_new_tokens)


class ChatEndpointLoop(RolloutLoop):
    """
    Turn loop for [`ChatTurns`]. Prompts are the plain texts of user messages, and rollouts are conversations.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer that counts the budgets.
        retriever ([`~tspo_trl.search.Retriever`]):
            Search engine that answers the queries.
        protocol ([`~tspo_trl.protocols.base.SearchProtocol`]):
            Protocol of prompts, actions and feedback.
        limits ([`~tspo_trl.rollout.state.RolloutLimits`]):
            Budgets in tokens of `tokenizer`. The context also has room for the tokens of its chat template.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, retriever: Retriever, protocol: SearchProtocol, limits: RolloutLimits
    ):
        if limits.max_context_length is not None:
            room = limits.max_context_length - template_length(tokenizer, limits.max_turns)
            limits = replace(limits, max_context_length=room)
        super().__init__(tokenizer, retriever, protocol, limits)
        self._openings: dict[tuple[int, ...], Conversation] = {}

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> list[list[int]]:
        """
        Encode the prompts of rows as plain texts, without a chat template.

        The loop remembers what the ids cannot restore: several messages, or a text that the tokenizer changes.

        Args:
            rows (sequence of mappings):
                Rows with `question`, or with `prompt`, a text or messages.

        Returns:
            `list[list[int]]`: token ids of each prompt.
        """
        return [self._encode_opening(self._opening_of(row)) for row in rows]

    def _opening_of(self, row: Mapping[str, Any]) -> Conversation:
        prompt = row["prompt"] if "prompt" in row else self.protocol.prompt(row["question"])
        return [_user(prompt)] if isinstance(prompt, str) else list(prompt)

    def _encode_opening(self, opening: Conversation) -> list[int]:
        ids = encode(self.tokenizer, "\n".join(message["content"] for message in opening))
        if _question(self.tokenizer, ids) != opening:
            self._openings[tuple(ids)] = opening
        return ids

    def _sample(
        self, rollouts: list[Rollout], budgets: list[int], generate: TurnGenerator, inert: list[list[int]]
    ) -> tuple[list[list[int]], None]:
        """Have the endpoint continue the conversations."""
        if not isinstance(generate, ChatTurns):
            raise TypeError(f"`ChatEndpointLoop` generates with `ChatTurns`, got {type(generate).__name__}.")
        conversations = [self._conversation(rollout) for rollout in rollouts]
        openings = [self._opening(ids) for ids in inert]
        return generate.reply(conversations + openings, budgets + [1] * len(inert)), None

    def _conversation(self, rollout: Rollout) -> Conversation:
        messages = self._opening(rollout.prompt_ids)
        for turn in rollout.turns:
            messages.append({"role": "assistant", "content": turn.text})
            if turn.feedback is not None:
                messages.append(_user(turn.feedback))
        return messages

    def _opening(self, prompt_ids: list[int]) -> Conversation:
        opening = self._openings.get(tuple(prompt_ids))
        return _question(self.tokenizer, prompt_ids) if opening is None else list(opening)


def template_length(tokenizer: PreTrainedTokenizerBase, num_feedbacks: int) -> int:
    """
    Count the tokens that the chat template puts around the messages of a conversation.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer with or without a chat template.
        num_feedbacks (`int`):
            Number of feedbacks after the question.

    Returns:
        `int`: 0 without a chat template.
    """
    if tokenizer.chat_template is None:
        return 0
    messages = [_user("a"), *[{"role": "assistant", "content": "a"}, _user("a")] * num_feedbacks]
    encoded: Any = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    return len(encoded["input_ids"]) - len(messages)


def _question(tokenizer: PreTrainedTokenizerBase, prompt_ids: Sequence[int]) -> Conversation:
    return [_user(decode(tokenizer, list(prompt_ids)))]


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}
