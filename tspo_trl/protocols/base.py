"""How the model and the search speak to each other.

A [`SearchProtocol`] only makes and reads text; it knows no model. [`TagProtocol`] is Search-R1's: its prompt, its
tags, its feedback and its answer to an invalid action, byte for byte, so that models trained there run here and the
other way round.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from .search.base import Passage
from .trajectory import Action, Trajectory


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


def passages_text(passages: Sequence[Passage]) -> str:
    """
    Passages as the model reads them, in Search-R1's form.

    Args:
        passages (sequence of [`~tspo_trl.search.Passage`]):
            Best first; may be empty.

    Returns:
        `str`: one `Doc 1(Title: ...) ...` a passage, counted from 1.
    """
    return "".join(f"Doc {i}(Title: {p.title}) {p.text}\n" for i, p in enumerate(passages, start=1)).strip()


class TagProtocol:
    """
    Search-R1's protocol (arXiv 2503.09516, prompt and loop of its versions 0.1 to 0.3).

    The model searches with `<search> query </search>`, reads the passages between `<information>` and
    `</information>`, and answers with `<answer> ... </answer>`.
    """

    stop_strings: tuple[str, ...] = ("</search>", "</answer>")
    turn_ending = ""
    tools: list[Any] | None = None
    chat_template: str | None = None

    _ACTION = re.compile(r"<(search|answer)>(.*?)</\1>", re.DOTALL)
    _PROMPT = (
        "Answer the given question. "
        "You must conduct reasoning inside <think> and </think> first every time you get new information. "
        "After reasoning, if you find you lack some knowledge, you can call a search engine by <search> query "
        "</search> and it will return the top searched results between <information> and </information>. "
        "You can search as many times as your want. "
        "If you find no further external knowledge needed, you can directly provide the answer inside <answer> and "
        "</answer>, without detailed illustrations. For example, <answer> Beijing </answer>. Question: {question}\n"
    )
    _INVALID_ACTION = (
        "\nMy previous action is invalid. "
        "If I want to search, I should put the query between <search> and </search>. "
        "If I want to give the final answer, I should put the answer between <answer> and </answer>. "
        "Let me try again.\n"
    )

    def prompt(self, question: str) -> str:
        """
        The user message that asks a question.

        Args:
            question (`str`):
                The question; a question mark is added where it has none.

        Returns:
            `str`
        """
        question = question.strip()
        return self._PROMPT.format(question=question if question.endswith("?") else question + "?")

    def parse(self, text: str, *, is_complete: bool = True) -> ParsedAction:
        """
        Read the action from what the model wrote in one turn: the first complete pair of tags.

        Args:
            text (`str`):
                The turn's own text, without earlier turns or feedback.
            is_complete (`bool`, *optional*, defaults to `True`):
                Whether the turn ended by itself; a pair of tags counts either way.

        Returns:
            [`ParsedAction`]
        """
        match = self._ACTION.search(text)
        if match is None:
            return ParsedAction(None, None)
        content = match.group(2).strip()
        if match.group(1) == "answer":
            return ParsedAction("answer", content)
        return ParsedAction("search", content, (Call(content),))

    def feedback(self, action: ParsedAction, found: Mapping[str, Sequence[Passage]]) -> list[Feedback]:
        """
        The feedback to a turn.

        Args:
            action ([`ParsedAction`]):
                What the turn asked for.
            found (mapping from `str` to sequences of [`~tspo_trl.search.Passage`]):
                The passages of each query.

        Returns:
            `list[Feedback]`: one, the passages or the answer to an invalid action.
        """
        return [self.render(found[query]) for query in action.queries] or [self.invalid_action()]

    def render(self, passages: Sequence[Passage]) -> Feedback:
        """
        The feedback that shows passages to the model.

        Args:
            passages (sequence of [`~tspo_trl.search.Passage`]):
                Best first; may be empty.

        Returns:
            [`Feedback`]
        """
        return Feedback("\n\n<information>", passages_text(passages), "</information>\n\n", retrieved=True)

    def invalid_action(self) -> Feedback:
        """The feedback to a turn that holds neither a search nor an answer."""
        return Feedback("", self._INVALID_ACTION, "", retrieved=False)

    def messages(self, trajectory: Trajectory) -> list[dict[str, Any]]:
        """
        A rollout as the messages that reward functions and logs read.

        Args:
            trajectory ([`Trajectory`]):
                The rollout.

        Returns:
            `list[dict]`: the model's turns as `assistant`, feedback as `tool`, as in TRL's own tool loop.
        """
        messages = []
        for turn in trajectory.turns:
            messages.append({"role": "assistant", "content": turn.text})
            if turn.feedback is not None:
                messages.append({"role": "tool", "name": "search", "content": turn.feedback})
        return messages
