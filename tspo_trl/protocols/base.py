"""How the model and the search speak to each other.

A [`SearchProtocol`] only makes and reads text; it knows no model. [`TagProtocol`] is Search-R1's: its prompt, its
tags, its feedback and its answer to an invalid action, byte for byte, so that models trained there run here and the
other way round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ..trajectory import Action, Trajectory
from .passages import Passage


class Call(NamedTuple):
    """One call of the search: its `query`, or, where it has none, the `error` that answers it."""

    query: str | None
    error: str | None = None


class ParsedAction(NamedTuple):
    """
    What a turn asks for.

    Args:
        action (`str`, *optional*):
            `"search"`, `"answer"`, or `None` where the turn holds neither.
        content (`str`, *optional*):
            The text of an answer, or the query of a search (several: one a line).
        calls (`tuple[Call, ...]`):
            The calls of the search, in order, those that cannot be answered with passages among them.
    """

    action: Action | None
    content: str | None
    calls: tuple[Call, ...] = ()

    @property
    def queries(self) -> tuple[str, ...]:
        """The queries of the calls that have one."""
        return tuple(call.query for call in self.calls if call.query is not None)


@dataclass(frozen=True)
class Feedback:
    """
    A feedback in three parts, so that it can be cut without losing its closing tag.

    Args:
        opening (`str`):
            Text before the body.
        body (`str`):
            What may be cut on the right.
        closing (`str`):
            Text after the body.
        retrieved (`bool`):
            Whether the search returned the body, so that it counts as evidence.
    """

    opening: str
    body: str
    closing: str
    retrieved: bool

    @property
    def text(self) -> str:
        """The whole feedback."""
        return self.opening + self.body + self.closing


class SearchProtocol(Protocol):
    """
    What the turn loop and the trainer ask of a protocol.

    Attributes:
        stop_strings (`tuple[str, ...]`):
            Strings that end a turn; an end-of-sequence token always does.
        turn_ending (`str`):
            What must stand between a turn and its feedback; it is put there where the model did not write it.
        tools (`list`, *optional*):
            Tools that the chat template shows in the prompt.
        chat_template (`str`, *optional*):
            Template of the prompt, `None` for the tokenizer's own.
    """

    stop_strings: tuple[str, ...]
    turn_ending: str
    tools: list[Any] | None
    chat_template: str | None

    def prompt(self, question: str) -> str | list[dict[str, str]]:
        """The prompt that asks a question: the text of a user message, or messages."""
        ...

    def parse(self, text: str, *, is_complete: bool = True) -> ParsedAction:
        """Read what a turn asks for; `is_complete` is `False` where the turn was cut by its budget."""
        ...

    def feedback(self, action: ParsedAction, found: Mapping[str, Sequence[Passage]]) -> list[Feedback]:
        """The parts of the feedback to a turn, in order, given the passages found for each of its queries."""
        ...

    def messages(self, trajectory: Trajectory) -> list[dict[str, Any]]:
        """A rollout as the messages that reward functions and logs read."""
        ...
