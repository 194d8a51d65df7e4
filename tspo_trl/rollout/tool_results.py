"""Evidence in the text of other programs: results of TRL's tools, and feedback in published trajectories."""

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

# What TRL's tool loop writes for a call that it cannot make, and Search-R1 and this package for a turn without one.
_NO_RESULT = re.compile(
    r"Tool .* not found\.|Unsupported tool call type: .*|None"
    r"|My previous action is invalid\..*|Your last message held neither a tool call nor an answer\..*"
    r"|Error: (?:this tool call could not be read|unknown tool|`\w+` takes exactly one argument).*",
    re.DOTALL,
)
_TOOL_RESPONSE = re.compile(r"<tool_response>(.*?)(?:</tool_response>|\Z)", re.DOTALL)
_ROLES = re.compile(r"\A\s*(?:user|tool|ipython|function|observation)\n|(?<=[\n\"}\]])(?:assistant|model)\s*\Z")
_TAG = re.compile(r"""</?[A-Za-z][\w.:-]*(?:\s+[\w:-]+\s*=\s*(?:"[^"]*"|'[^']*'))*\s*/?>|<\|\w+\|>""")
_MEDIA = ("image", "image_url", "audio", "video")
_PASSAGE_KEYS = ("document", "title", "contents", "text")


def returned_text(result: Any) -> str | None:
    """
    Return what a tool returned, without keys of JSON, markup and error messages.

    Args:
        result (`Any`):
            Content of a tool message: a text, which may be JSON or Python's form of a list or dictionary, or a list of
            content blocks.

    Returns:
        `str`, *optional*: `None` if nothing was returned, as by a tool that raised.
    """
    try:
        return "\n".join(_texts(result)) or None
    except RecursionError:
        return None  # no passage is nested so deeply


def results_of_tools(completion: Any) -> list[str | None]:
    """
    Return the evidence after each turn of a completion.

    Args:
        completion (`Any`):
            Messages of a rollout with TRL's tool loop, or a text.

    Returns:
        `list[str | None]`: one element for every run of tool messages, empty for a text.
    """
    messages = [] if isinstance(completion, str) else completion or []
    runs = groupby(messages, key=lambda message: message["role"] == "tool")
    return [_joined(returned_text(message["content"]) for message in run) for is_tool, run in runs if is_tool]


def evidence_in_feedback(feedback: str) -> str | None:
    """
    Return the evidence in a decoded feedback, of which only the text is known.

    Args:
        feedback (`str`):
            Text between two turns, perhaps with the frame of a chat template.

    Returns:
        `str`, *optional*: `None` if there is none.
    """
    responses = _TOOL_RESPONSE.findall(feedback)
    return _joined(returned_text(text) for text in responses or [_ROLES.sub("", feedback)])


def _joined(texts: Iterator[str | None]) -> str | None:
    return "\n".join(text for text in texts if text) or None


def _texts(result: Any) -> Iterator[str]:
    """Yield the texts and numbers in a result."""
    if isinstance(result, str):
        parsed = _parsed(result.strip())
        if parsed == result.strip():
            text = _TAG.sub(" ", parsed).strip()
            if text and not _NO_RESULT.fullmatch(text):
                yield text
        else:
            yield from _texts(parsed)
    elif isinstance(result, Mapping):
        if result.get("error") or result.get("type") in _MEDIA:
            return
        own = [key for key in _PASSAGE_KEYS if key in result]
        for key in own or result:
            yield from _texts(result[key])
    elif isinstance(result, Sequence | set):
        for one in result:
            yield from _texts(one)
    elif isinstance(result, int | float) and not isinstance(result, bool):
        yield str(result)


def _parsed(text: str) -> Any:
    """Return the list, dictionary or string that a text is in JSON or in Python's form, else the text."""
    if text[:1] not in ("{", "[", "(", '"', "'"):
        return text
    for parse in (json.loads, ast.literal_eval):
        try:
            parsed = parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return parsed if isinstance(parsed, str | list | dict | tuple | set) else text
    return text
