"""From a row of a dataset to the token ids of its prompt: the same in training and in evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..protocols.base import SearchProtocol

Prompt = str | list[dict[str, str]]


def row_prompt(row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, protocol: SearchProtocol) -> Prompt:
    """
    The prompt of a row: its own, or the one that the protocol writes for its question.

    Args:
        row (mapping):
            With `prompt` or `question`.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Where it has a chat template, the protocol's text is a user message.
        protocol ([`~tspo_trl.protocols.base.SearchProtocol`]):
            Writes prompts.

    Returns:
        `str` or `list[dict]`: plain text, or messages.
    """
    if "prompt" in row:
        own: Prompt = row["prompt"]
        return own
    prompt = protocol.prompt(row["question"])
    if isinstance(prompt, str) and tokenizer.chat_template is not None:
        return [{"role": "user", "content": prompt}]
    return prompt


def encode_prompts(
    prompts: Sequence[Prompt],
    tokenizer: PreTrainedTokenizerBase,
    protocol: SearchProtocol,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> list[list[int]]:
    """
    The token ids of prompts, as [`TSPOTrainer`] encodes them.

    Args:
        prompts (sequence of `str` or `list[dict]`):
            At least one; all of them texts, or all of them messages.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Encodes them.
        protocol ([`~tspo_trl.protocols.base.SearchProtocol`]):
            Whose tools and chat template messages are rendered with.
        chat_template_kwargs (mapping, *optional*):
            Further variables of the chat template.

    Returns:
        `list[list[int]]`
    """
    if isinstance(prompts[0], str):
        return list(tokenizer(list(prompts))["input_ids"])
    conversations: Any = list(prompts)
    encoded: Any = tokenizer.apply_chat_template(
        conversations,
        tools=protocol.tools,
        chat_template=protocol.chat_template,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        **(chat_template_kwargs or {}),
    )
    return list(encoded["input_ids"])
