"""Search-R1's tags: its prompt, its feedback and its reply to an invalid action, byte for byte.

Models trained with Search-R1 work with this package, and the other way round.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..trajectory import Trajectory
from .base import Call, Feedback, ParsedAction
from .passages import Passage, passages_text


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
        Return the user message that asks a question.

        Args:
            question (`str`):
                Question. A question mark is added if it has none.

        Returns:
            `str`
        """
        question = question.strip()
        return self._PROMPT.format(question=question if question.endswith("?") else question + "?")

    def parse(self, text: str, *, is_complete: bool = True) -> ParsedAction:
        """
        Read the action of a turn from its first complete pair of tags.

        Args:
            text (`str`):
                Text of the turn, without earlier turns and feedback.
            is_complete (`bool`, *optional*, defaults to `True`):
                Ignored: a complete pair of tags counts even if the length limit cut the turn.

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
        Return the feedback to a turn.

        Args:
            action ([`ParsedAction`]):
                Action of the turn.
            found (mapping from `str` to sequences of [`~tspo_trl.search.Passage`]):
                Passages of each query, best first.

        Returns:
            `list[Feedback]`: one, with the passages or with the reply to an invalid action.
        """
        return [self.render(found[query]) for query in action.queries] or [self.invalid_action()]

    def render(self, passages: Sequence[Passage]) -> Feedback:
        """
        Return the feedback that shows passages to the model.

        Args:
            passages (sequence of [`~tspo_trl.search.Passage`]):
                Passages, best first. May be empty.

        Returns:
            [`Feedback`]
        """
        return Feedback("\n\n<information>", passages_text(passages), "</information>\n\n", retrieved=True)

    def invalid_action(self) -> Feedback:
        """Return the feedback to a turn that contains neither a search nor an answer."""
        return Feedback("", self._INVALID_ACTION, "", retrieved=False)

    def messages(self, trajectory: Trajectory) -> list[dict[str, Any]]:
        """
        Convert a rollout to the messages that reward functions and logs read.

        Args:
            trajectory ([`Trajectory`]):
                Rollout.

        Returns:
            `list[dict]`: turns as `assistant` and feedback as `tool` messages, as in TRL's own tool loop.
        """
        messages = []
        for turn in trajectory.turns:
            messages.append({"role": "assistant", "content": turn.text})
            if turn.feedback is not None:
                messages.append({"role": "tool", "name": "search", "content": turn.feedback})
        return messages
