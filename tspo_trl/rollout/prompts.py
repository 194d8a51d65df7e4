"""Prompts of dataset rows and their token ids, the same in training and evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..protocols.base import SearchProtocol

Prompt = str | list[dict[str, str]]


def row_prompt(row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, protocol: SearchProtocol) -> Prompt:
    """
    Return the `prompt` of a row, or the prompt that the protocol writes for its `question`.

    Args:
        row (mapping):
            Row with `prompt` or `question`.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            If it has a chat template, the protocol's text becomes a user message.
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
    Encode prompts as [`TSPOTrainer`] does.

    Args:
        prompts (sequence of `str` or `list[dict]`):
            At least one prompt. All are texts, or all are messages.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Encodes prompts.
        protocol ([`~tspo_trl.protocols.base.SearchProtocol`]):
            Gives the tools and the chat template of messages.
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
