"""Search-R1's tags: its prompt, its feedback and its answer to an invalid action, byte for byte.

Models trained with Search-R1 run here, and models trained here run there.
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
