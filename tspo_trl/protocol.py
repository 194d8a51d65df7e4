"""How the model and the search speak to each other.

[`TagProtocol`] is Search-R1's: its prompt, its tags, its feedback and its answer to an invalid action, byte for byte,
so that models trained there run here and the other way round. A protocol only makes and reads text; it knows neither
tokens nor models.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .search.base import Passage
from .trajectory import Action, Trajectory


class ParsedAction(NamedTuple):
    """What a turn asks for: `action` is `"search"`, `"answer"` or `None`; `content` its query or answer."""

    action: Action | None
    content: str | None


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


class TagProtocol:
    """
    Search-R1's protocol (arXiv 2503.09516, prompt and loop of its versions 0.1 to 0.3).

    The model searches with `<search> query </search>`, reads the passages between `<information>` and
    `</information>`, and answers with `<answer> ... </answer>`.
    """

    stop_strings: tuple[str, ...] = ("</search>", "</answer>")

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

    def parse(self, text: str) -> ParsedAction:
        """
        Read the action from what the model wrote in one turn: the first complete pair of tags.

        Args:
            text (`str`):
                The turn's own text, without earlier turns or feedback.

        Returns:
            [`ParsedAction`]
        """
        match = self._ACTION.search(text)
        if match is None:
            return ParsedAction(None, None)
        return ParsedAction("search" if match.group(1) == "search" else "answer", match.group(2).strip())

    def render(self, passages: Sequence[Passage]) -> Feedback:
        """
        The feedback that shows passages to the model.

        Args:
            passages (sequence of [`~tspo_trl.search.Passage`]):
                Best first; may be empty.

        Returns:
            [`Feedback`]
        """
        documents = "".join(f"Doc {i}(Title: {p.title}) {p.text}\n" for i, p in enumerate(passages, start=1))
        return Feedback("\n\n<information>", documents.strip(), "</information>\n\n", retrieved=True)

    def invalid_action(self) -> Feedback:
        """The feedback to a turn that holds neither a search nor an answer."""
        return Feedback("", self._INVALID_ACTION, "", retrieved=False)

    def messages(self, trajectory: Trajectory) -> list[dict[str, str]]:
        """
        A rollout as the messages that reward functions and logs read.

        Args:
            trajectory ([`Trajectory`]):
                The rollout.

        Returns:
            `list[dict[str, str]]`: the model's turns as `assistant`, feedback as `tool`, as in TRL's own tool loop.
        """
        messages = []
        for turn in trajectory.turns:
            messages.append({"role": "assistant", "content": turn.text})
            if turn.feedback is not None:
                messages.append({"role": "tool", "name": "search", "content": turn.feedback})
        return messages
