"""Interface of a protocol: how the model and the search engine exchange text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ..trajectory import Action, Trajectory
from .passages import Passage


class Call(NamedTuple):
    """A search call: its `query`, or the `error` to return if the query cannot be used."""

    query: str | None
    error: str | None = None


class ParsedAction(NamedTuple):
    """
    Action that a turn requests.

    Args:
        action (`str`, *optional*):
            `"search"`, `"answer"`, or `None` if the turn contains neither.
        content (`str`, *optional*):
            Text of an answer, or query of a search. Several queries are separated by line breaks.
        calls (`tuple[Call, ...]`):
            Search calls, in order, including those that get an error.
    """

    action: Action | None
    content: str | None
    calls: tuple[Call, ...] = ()

    @property
    def queries(self) -> tuple[str, ...]:
        """Queries of the calls that have one."""
        return tuple(call.query for call in self.calls if call.query is not None)


@dataclass(frozen=True)
class Feedback:
    """
    Feedback in three parts, so that truncation keeps its closing tag.

    Args:
        opening (`str`):
            Text before the body.
        body (`str`):
            Text that may be truncated on the right.
        closing (`str`):
            Text after the body.
        retrieved (`bool`):
            Whether the search returned the body. Only then does it count as evidence, and special tokens in it are
            broken up. All other text is encoded as it is.
    """

    opening: str
    body: str
    closing: str
    retrieved: bool

    @property
    def text(self) -> str:
        """The three parts in one string."""
        return self.opening + self.body + self.closing


class SearchProtocol(Protocol):
    """
    Interface that the rollout loop and the trainer need. It only handles text and does not depend on the model.

    Attributes:
        stop_strings (`tuple[str, ...]`):
            Strings that end a turn. An end-of-sequence token always does.
        turn_ending (`str`):
            Text between a turn and its feedback. It is added if the model did not write it.
        tools (`list`, *optional*):
            Tools that the chat template shows in the prompt.
        chat_template (`str`, *optional*):
            Template of the prompt. `None` selects the tokenizer's.
    """

    stop_strings: tuple[str, ...]
    turn_ending: str
    tools: list[Any] | None
    chat_template: str | None

    def prompt(self, question: str) -> str | list[dict[str, str]]:
        """Return the prompt for a question: the text of a user message, or messages."""
        ...

    def parse(self, text: str, *, is_complete: bool = True) -> ParsedAction:
        """Read the action that a turn requests. `is_complete` is `False` if the length limit cut the turn."""
        ...

    def feedback(self, action: ParsedAction, found: Mapping[str, Sequence[Passage]]) -> list[Feedback]:
        """Return the parts of the feedback, in order, given the passages found for each query of the turn."""
        ...

    def messages(self, trajectory: Trajectory) -> list[dict[str, Any]]:
        """Convert a rollout to the messages that reward functions and logs read."""
        ...
