"""Responses of OpenAI-compatible endpoints, read from both APIs and several servers."""

from dataclasses import dataclass
from typing import Any

_SERVERS_WITH_PENALTY = ("vllm", "sglang")


class FilteredError(Exception):
    """A content filter withheld the answer."""


@dataclass(frozen=True)
class Answer:
    """
    Text that the endpoint generated for one request.

    Args:
        text (`str`):
            Unchanged text.
        is_cut (`bool`):
            `True` if the text ended at its budget.
        stop (`str`, *optional*):
            Stop string that ended the text, if the server names it.
        names_stop (`bool`):
            `True` if the server names stop strings. A text without `stop` then ended by itself.
    """

    text: str
    is_cut: bool
    stop: str | None
    names_stop: bool


@dataclass(frozen=True)
class ServedModel:
    """
    Properties of a model in the endpoint's list of models.

    Args:
        context_length (`int`, *optional*):
            Tokens of prompt and completion together, if the server names them (vLLM, SGLang).
        has_penalty (`bool`):
            `True` if the server applies the repetition penalty of the model's `generation_config.json` by default
            (vLLM, SGLang).
    """

    context_length: int | None = None
    has_penalty: bool = False


def read_served_model(listed: Any, model: str) -> ServedModel:
    """
    Read a model from the response to `GET /models`.

    Args:
        listed:
            Any JSON value.
        model (`str`):
            Name of the model.

    Returns:
        [`ServedModel`]: without a context length if the model is not listed.
    """
    data = listed.get("data") if isinstance(listed, dict) else None
    cards = {card.get("id"): card for card in data or () if isinstance(card, dict)} if isinstance(data, list) else {}
    card = cards.get(model, {})
    lengths = [one.get("max_model_len") for one in (card, cards.get(card.get("parent"), {}))]  # a LoRA has its base's
    length = next((length for length in lengths if isinstance(length, int)), None)
    owners = [one.get("owned_by") for one in ([card] if card else cards.values())]  # SGLang answers to any name
    return ServedModel(length, any(owner in _SERVERS_WITH_PENALTY for owner in owners))


def read_answer(completion: Any) -> Answer:
    """
    Read the answer from a response of either API.

    Args:
        completion:
            Response as parsed by the `openai` package, which does not check it.

    Returns:
        [`Answer`]

    Raises:
        ValueError: The response contains no answer.
        [`FilteredError`]: A content filter withheld the answer.
    """
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise ValueError(f"no `choices` in {str(completion)[:200]!r}")
    choice = choices[0]
    reason = getattr(choice, "finish_reason", None)
    if reason == "content_filter":
        raise FilteredError
    if not isinstance(reason, str) or reason in ("abort", "error"):
        raise ValueError(f"`finish_reason` is {reason!r}")
    text = _text(choice)
    extra = getattr(choice, "model_extra", None) or {}
    # Names of vLLM and SGLang. The value is a stop string, an end-of-sequence token or null.
    named = [extra[name] for name in ("stop_reason", "matched_stop") if name in extra]
    stop = named[0] if named and isinstance(named[0], str) else None
    return Answer(text=text, is_cut=reason == "length", stop=stop, names_stop=bool(named))


def _text(choice: Any) -> str:
    message = getattr(choice, "message", None)
    if message is None:
        text = getattr(choice, "text", None)
    else:
        # The content is null if the model only reasoned, or ended the message with its first token.
        content = getattr(message, "content", None)
        text = "" if content is None else content
    if not isinstance(text, str):
        raise ValueError(f"the text is {text!r}")
    return text
