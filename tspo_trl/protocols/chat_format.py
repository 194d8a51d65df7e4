"""Reads turns and frames feedback in a tokenizer's chat template.

Nothing here is specific to a model. The code renders messages with known contents to see what the template writes
around them, and parses turns with TRL's response templates.
"""

import copy
import json
import re
from typing import Any

from transformers import PreTrainedTokenizerBase
from trl.chat_template_utils import (
    add_response_schema,
    get_training_chat_template,
    is_chat_template_prefix_preserving,
    supports_tool_calling,
)

from .special_tokens import SpecialTokens

# Placeholders for contents.
_WRITTEN = "tspo_written_by_the_model"
_BODY = "tspo_body_{}_of_a_message"
_USER = {"role": "user", "content": "?"}
_REMEDY = "Use the tokenizer of an instruct model that calls tools, or `TagProtocol`."


class ChatFormat:
    """
    Chat template of a tokenizer, as the protocol needs it.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            The model's tokenizer, with its chat template. It is not modified.
        tool_name (`str`):
            Name of the tool. Its only argument is `query`.
        chat_template_kwargs (`dict`):
            Further variables of the template.

    Attributes:
        chat_template (`str`, *optional*):
            Template to use instead of the tokenizer's. `None` selects the tokenizer's.
        turn_ending (`str`):
            End-of-sequence token, which ends a turn.
        hint_frame (`list[str]`):
            Text before and after the body of a hint.
        call_marker (`str`):
            First word of a call, such as `<tool_call>`.
        special_tokens ([`~tspo_trl.protocols.special_tokens.SpecialTokens`]):
            The tokenizer's special tokens.

    Raises:
        `ValueError`: If the tokenizer or its template does not support tool calls as needed.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, tool_name: str, chat_template_kwargs: dict[str, Any]
    ) -> None:
        if tokenizer.eos_token is None:
            raise ValueError(
                f"`tokenizer` ({tokenizer.name_or_path!r}) has no end-of-sequence token, which ends a turn. "
                "Set `tokenizer.eos_token`."
            )
        self._tokenizer: Any = tokenizer
        self._tool_name = tool_name
        self._chat_template_kwargs = chat_template_kwargs
        self.turn_ending = str(tokenizer.eos_token)
        self._response_template = _compiled(_lenient(_response_template(tokenizer)))
        self.chat_template = _prefix_preserving_template(tokenizer)
        self._prefix = self._render([_USER], add_generation_prompt=True)
        self._tool_frames: dict[int, list[str]] = {}
        # Check the frame of two: a template may write several tool messages differently than one.
        self.tool_frame(2)
        self.hint_frame = self._frame({"content": _WRITTEN}, [{"role": "user", "content": _BODY.format(0)}])
        self._check_response_template()
        self.call_marker = self._find_call_marker()
        self._quotes_bodies = '"a"\nb' not in self._render([_USER, self._turn(), self._tool_message('"a"\nb')])
        self.special_tokens = SpecialTokens(tokenizer)

    def read(self, text: str) -> dict[str, Any]:
        """
        Read a turn as a message. A turn that the length limit cut is read as if it had ended.

        Args:
            text (`str`):
                Text of the turn, with special tokens, without the end-of-sequence token.

        Returns:
            `dict`:
                Message as TRL parses it: `content` and, if present, `tool_calls` and reasoning. A call with malformed
                JSON is its text. If the turn cannot be parsed, its only call is `None`.
        """
        text += self.turn_ending
        try:
            message = self._tokenizer.parse_response(text, schema=self._response_template, prefix=self._prefix)
        except (ValueError, TypeError, KeyError, RecursionError):
            # The model may write anything. Only calls are parsed further, so a call has failed.
            return {"role": "assistant", "content": "", "tool_calls": [None]}
        return {**message, "content": message.get("content") or ""}

    def tool_frame(self, num_calls: int) -> list[str]:
        """Return the texts before, between and after the bodies of `num_calls` tool messages."""
        if num_calls not in self._tool_frames:
            messages = [self._tool_message(_BODY.format(i)) for i in range(num_calls)]
            self._tool_frames[num_calls] = self._frame(self._turn(), messages)
        return self._tool_frames[num_calls]

    def body(self, text: str) -> str:
        """
        Return a text as the template writes it in a tool message.

        If the template writes tool messages as JSON, the text becomes one line: JSON would write a line break as the
        letters `\\n`, attached to the next word.
        """
        return json.dumps(" ".join(text.split()), ensure_ascii=False)[1:-1] if self._quotes_bodies else text

    def _turn(self, name: str | None = None) -> dict[str, Any]:
        """The turn that TRL renders to see a template's tool messages, with another argument."""
        function = {"name": name or self._tool_name, "arguments": {"query": _WRITTEN}}
        return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}

    def _tool_message(self, content: str) -> dict[str, str]:
        return {"role": "tool", "name": self._tool_name, "content": content}

    def _render(self, messages: list[dict[str, Any]], *, add_generation_prompt: bool = False) -> str:
        text = self._tokenizer.apply_chat_template(
            messages,
            chat_template=self.chat_template,
            add_generation_prompt=add_generation_prompt,
            tokenize=False,
            **self._chat_template_kwargs,
        )
        return str(text)

    def _frame(self, turn: dict[str, Any], feedback: list[dict[str, str]]) -> list[str]:
        """Texts around the contents of `feedback`, from the end of `turn` to the start of the next turn."""
        text = self._render([_USER, {"role": "assistant", **turn}, *feedback], add_generation_prompt=True)
        frame = re.split("|".join(re.escape(message["content"]) for message in feedback), text)
        after_turn = frame[0].rpartition(_WRITTEN)[2]
        if len(frame) != len(feedback) + 1:
            raise ValueError(
                f"The chat template of `tokenizer` ({self._tokenizer.name_or_path!r}) does not show each of "
                f"{len(feedback)} messages after a turn exactly once. {_REMEDY}"
            )
        if self.turn_ending not in after_turn:
            raise ValueError(
                f"The end-of-sequence token of `tokenizer` is {self.turn_ending!r}, but its chat template does not "
                "end a turn with it. Set `tokenizer.eos_token`, and `eos_token_id` in the model's generation config, "
                "to the token that does (`<|im_end|>` for Qwen). If a template ends a call and an answer with "
                "different tokens, use `TagProtocol`."
            )
        return [after_turn.partition(self.turn_ending)[2], *frame[1:]]

    def _check_response_template(self) -> None:
        """Check that the response template parses a call as the chat template writes it."""
        text = self._render([_USER, self._turn()])
        message = self._tokenizer.parse_response("", schema=self._response_template, prefix=text)
        if message.get("tool_calls") != self._turn()["tool_calls"]:
            raise ValueError(
                f"The `response_template` of `tokenizer` ({self._tokenizer.name_or_path!r}) does not read a tool call "
                f"as its chat template writes it: {text!r} becomes {message!r}. Set a `response_template` that does."
            )

    def _find_call_marker(self) -> str:
        without_call = self._render([_USER, {"role": "assistant", "content": ""}]).rpartition(self.turn_ending)[0]
        with_call = self._render([_USER, self._turn(name=_WRITTEN)])
        pairs = enumerate(zip(without_call, with_call, strict=False))
        start = next((i for i, (a, b) in pairs if a != b), len(without_call))
        return with_call[start : with_call.index(_WRITTEN)].split()[0]


def _response_template(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The tokenizer's own response template, or TRL's for its chat template."""
    name = tokenizer.name_or_path
    if not tokenizer.chat_template:
        raise ValueError(f"`tokenizer` ({name!r}) has no chat template. {_REMEDY}")
    if not supports_tool_calling(tokenizer):
        raise ValueError(f"The chat template of `tokenizer` ({name!r}) shows no tool calls. {_REMEDY}")
    tokenizer = copy.copy(tokenizer)  # `add_response_schema` would modify the user's
    if getattr(tokenizer, "response_template", None) is None:
        try:
            add_response_schema(tokenizer)
        except ValueError as error:
            raise ValueError(
                f"`tokenizer` ({name!r}) has no `response_template`, and TRL has none for its chat template, so "
                f"tool calls cannot be parsed. Set `tokenizer.response_template`. {_REMEDY}"
            ) from error
    template = getattr(tokenizer, "response_template", None)
    if template is None:
        raise ValueError("Tool calls are parsed with response templates: install transformers 5.13 or later.")
    return dict(template)


def _lenient(response_template: dict[str, Any]) -> dict[str, Any]:
    """The response template, changed to return malformed JSON of one call as text instead of failing for the turn."""
    template = copy.deepcopy(response_template)
    calls = template["fields"].get("tool_calls", {})
    if calls.get("content") == "json":
        calls["content_args"] = {**calls.get("content_args", {}), "allow_non_json": True}
    return template


def _compiled(response_template: dict[str, Any]) -> Any:
    """Compile the response template once. Otherwise the parser compiles it for every turn."""
    from transformers.utils.chat_parsing.response_templates import load_response_template  # not before 5.13

    return load_response_template(response_template)


def _prefix_preserving_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """TRL's training template if the tokenizer's own changes a turn once a tool message follows, else `None`."""
    if is_chat_template_prefix_preserving(tokenizer):
        return None
    try:
        return get_training_chat_template(tokenizer)
    except ValueError as error:
        raise ValueError(
            f"The chat template of `tokenizer` ({tokenizer.name_or_path!r}) changes a turn once a tool message "
            "follows it, and TRL has no training variant of it. Set `tokenizer.chat_template` to a template that does "
            "not."
        ) from error
