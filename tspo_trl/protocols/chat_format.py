"""What a chat template writes around messages, and how a turn in it is read.

Everything is learned from the template itself, by rendering messages with known contents, and from TRL's response
templates: nothing here is written for one model.
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

# Stand in for contents when a template is rendered to see what it writes around them.
_WRITTEN = "tspo_written_by_the_model"
_BODY = "tspo_body_{}_of_a_message"
_USER = {"role": "user", "content": "?"}
_REMEDY = "Use the tokenizer of an instruct model that calls tools, or `TagProtocol`."


class ChatFormat:
    """
    Reads turns and frames feedback in a tokenizer's chat template.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            The model's tokenizer, with its chat template. It is not changed.
        tool_name (`str`):
            Name of the tool, whose one argument is `query`.
        chat_template_kwargs (`dict`):
            Further variables of the template.

    Attributes:
        chat_template (`str`, *optional*):
            Template to use in place of the tokenizer's, `None` for the tokenizer's own.
        turn_ending (`str`):
            What ends a turn: the end-of-sequence token.
        call_marker (`str`):
            The first word of a call, such as `<tool_call>`.
        special_token (`re.Pattern`):
            Matches any special token of the tokenizer.

    Raises:
        ValueError: The template and the tokenizer do not go together in the way that tool calls need.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, tool_name: str, chat_template_kwargs: dict[str, Any]
    ) -> None:
        if tokenizer.eos_token is None:
            raise ValueError(
                f"`tokenizer` ({tokenizer.name_or_path!r}) has no end-of-sequence token, so a turn has no end. "
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
        # Two, because a template may write several tool messages otherwise than one.
        self.tool_frame(2)
        self.hint_frame = self._frame({"content": _WRITTEN}, [{"role": "user", "content": _BODY.format(0)}])
        self._check_response_template()
        self.call_marker = self._find_call_marker()
        self._quotes_bodies = '"a"\nb' not in self._render([_USER, self._turn(), self._tool_message('"a"\nb')])
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        special |= {str(token) for token in tokenizer.all_special_tokens}
        self.special_token = re.compile("|".join(map(re.escape, sorted(special))))

    def read(self, text: str) -> dict[str, Any]:
        """
        Read a turn as a message. A turn that was cut is read as it stands before its feedback: with its end.

        Args:
            text (`str`):
                The turn's own text, special tokens kept, without the end-of-sequence token.

        Returns:
            `dict`: as TRL parses it: `content`, and perhaps `tool_calls` and reasoning. A call whose JSON is malformed
            has its text in place of what it should hold; where the turn as a whole cannot be parsed there is one call,
            `None`.
        """
        text += self.turn_ending
        try:
            message = self._tokenizer.parse_response(text, schema=self._response_template, prefix=self._prefix)
        except (ValueError, TypeError, KeyError, RecursionError):
            # The model may write anything. Only what stands in a call is parsed further, so that is what failed.
            return {"role": "assistant", "content": "", "tool_calls": [None]}
        return {**message, "content": message.get("content") or ""}

    def tool_frame(self, num_calls: int) -> list[str]:
        """What stands before, between and after the bodies of that many tool messages."""
        if num_calls not in self._tool_frames:
            messages = [self._tool_message(_BODY.format(i)) for i in range(num_calls)]
            self._tool_frames[num_calls] = self._frame(self._turn(), messages)
        return self._tool_frames[num_calls]

    def body(self, text: str) -> str:
        """
        A text as it stands in a message.

        (ours) A special token in it is broken up with a space, so that no passage can forge the end of a message.
        Where the template writes tool messages as JSON, the text becomes one line first: in JSON a line break would
        be the letters `\\n`, glued to the next word.
        """
        text = self.special_token.sub(lambda token: f"{token[0][:1]} {token[0][1:]}", text)
        return json.dumps(" ".join(text.split()), ensure_ascii=False)[1:-1] if self._quotes_bodies else text

    def _turn(self, name: str | None = None) -> dict[str, Any]:
        """The same turn that TRL renders to see a template's tool messages, but for the argument."""
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
        """The text around the contents of `feedback`, from the end of `turn` to the beginning of the next turn."""
        text = self._render([_USER, {"role": "assistant", **turn}, *feedback], add_generation_prompt=True)
        frame = re.split("|".join(re.escape(message["content"]) for message in feedback), text)
        after_turn = frame[0].rpartition(_WRITTEN)[2]
        if len(frame) != len(feedback) + 1:
            raise ValueError(
                f"The chat template of `tokenizer` ({self._tokenizer.name_or_path!r}) does not show each of "
                f"{len(feedback)} messages behind a turn once. {_REMEDY}"
            )
        if self.turn_ending not in after_turn:
            raise ValueError(
                f"`tokenizer` has {self.turn_ending!r} as its end-of-sequence token, but its chat template does not "
                "end a turn with it. Set `tokenizer.eos_token`, and `eos_token_id` in the model's generation config, "
                "to the token that does (`<|im_end|>` for Qwen). Where a template ends a call and an answer with "
                "different tokens, use `TagProtocol`."
            )
        return [after_turn.partition(self.turn_ending)[2], *frame[1:]]

    def _check_response_template(self) -> None:
        """Parse a call as the chat template writes it: the two may come from different hands."""
        text = self._render([_USER, self._turn()])
        message = self._tokenizer.parse_response("", schema=self._response_template, prefix=text)
        if message.get("tool_calls") != self._turn()["tool_calls"]:
            raise ValueError(
                f"The `response_template` of `tokenizer` ({self._tokenizer.name_or_path!r}) does not read a tool call "
                f"as its chat template writes it: {text!r} gives {message!r}. Set a `response_template` that does."
            )

    def _find_call_marker(self) -> str:
        without_call = self._render([_USER, {"role": "assistant", "content": ""}]).rpartition(self.turn_ending)[0]
        with_call = self._render([_USER, self._turn(name=_WRITTEN)])
        pairs = enumerate(zip(without_call, with_call, strict=False))
        start = next((i for i, (a, b) in pairs if a != b), len(without_call))
        return with_call[start : with_call.index(_WRITTEN)].split()[0]


def _response_template(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The tokenizer's own response template, or the one that TRL knows for its chat template."""
    name = tokenizer.name_or_path
    if not tokenizer.chat_template:
        raise ValueError(f"`tokenizer` ({name!r}) has no chat template. {_REMEDY}")
    if not supports_tool_calling(tokenizer):
        raise ValueError(f"The chat template of `tokenizer` ({name!r}) shows no tool calls. {_REMEDY}")
    # On a copy: the tokenizer is the user's.
    tokenizer = copy.copy(tokenizer)
    if getattr(tokenizer, "response_template", None) is None:
        try:
            add_response_schema(tokenizer)
        except ValueError as error:
            raise ValueError(
                f"`tokenizer` ({name!r}) has no `response_template`, and TRL knows none for its chat template, so "
                f"tool calls cannot be parsed. Set `tokenizer.response_template`. {_REMEDY}"
            ) from error
    template = getattr(tokenizer, "response_template", None)
    if template is None:
        raise ValueError("Tool calls are parsed with response templates: install transformers 5.13 or later.")
    return dict(template)


def _lenient(response_template: dict[str, Any]) -> dict[str, Any]:
    """The response template that gives malformed JSON in one call as text, where it would fail for the whole turn."""
    template = copy.deepcopy(response_template)
    calls = template["fields"].get("tool_calls", {})
    if calls.get("content") == "json":
        calls["content_args"] = {**calls.get("content_args", {}), "allow_non_json": True}
    return template


def _compiled(response_template: dict[str, Any]) -> Any:
    """The response template as the parser uses it: it would compile it anew for every turn."""
    from transformers.utils.chat_parsing.response_templates import load_response_template  # not before 5.13

    return load_response_template(response_template)


def _prefix_preserving_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """TRL's training template where the tokenizer's own would write a turn anew once a tool message follows."""
    if is_chat_template_prefix_preserving(tokenizer):
        return None
    try:
        return get_training_chat_template(tokenizer)
    except ValueError as error:
        raise ValueError(
            f"The chat template of `tokenizer` ({tokenizer.name_or_path!r}) writes a turn differently once a tool "
            "message follows it, and TRL has no training variant of it. Set `tokenizer.chat_template` to a template "
            "that does not."
        ) from error
