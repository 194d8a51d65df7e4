"""Outcome reward functions with the signature of TRL's reward functions.

Each takes `completions` and the columns of the dataset as lists with one element per rollout, and returns one reward
per rollout. [`~tspo_trl.TSPOTrainer`] adds the column `trajectory`. Without it, as in TRL's `GRPOTrainer`, the answer
is read from the text of the completion.
"""

import re
from collections.abc import Sequence
from typing import Any

from .answers import exact_match, f1_score
from .trajectory import Trajectory

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
# What the model did not write. A text may contain the whole rollout: prompt, turns and feedback.
_OF_OTHERS = (
    # Feedback. A passage may contain closing tags: that of the feedback is the last before an empty line or the end.
    r"<information>(?:(?!<information>).)*</information>(?=\n\n|\s*\Z)",
    r"<information>.*?</information>",
    r"<tool_response>.*?</tool_response>",
    # Messages of other roles, in the templates of Qwen and of Llama.
    r"<\|im_start\|>(?!assistant).*?<\|im_end\|>",
    r"<\|start_header_id\|>(?!assistant).*?<\|eot_id\|>",
    # Instructions of prompts and hints, which name the tags, and the example of the prompts.
    r"\b(?:between|inside|within|in|with|using)\s+<answer>\s+and\s+</answer>",
    r"without detailed illustrations\. For example, <answer>.*?</answer>",
)
_NOT_WRITTEN = re.compile("|".join(_OF_OTHERS), re.DOTALL)

Completion = str | list[dict[str, Any]]


def extract_answer(completion: Completion) -> str | None:
    """
    Return the last `<answer>` that the model wrote, without a trajectory.

    Prompts, hints and feedback of this package's protocols do not count. A text does not show who wrote them, so an
    answer that the model puts between the tags of a feedback does not count either.

    Args:
        completion (`str` or `list[dict]`):
            Completion as TRL passes it to reward functions: a text, or messages. Only the assistant's messages count.

    Returns:
        `str` or `None`: the text between the tags, stripped. `None` if there are no tags.
    """
    texts = [completion] if isinstance(completion, str) else _assistant_texts(completion)
    answers = [answer for text in texts for turn in _NOT_WRITTEN.split(text) for answer in _ANSWER.findall(turn)]
    return answers[-1].strip() if answers else None


def _assistant_texts(messages: list[dict[str, Any]]) -> list[str]:
    return [_message_text(message) for message in messages if message["role"] == "assistant"]


def _message_text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if part.get("type", "text") == "text")


def _predictions(completions: Sequence[Completion], trajectory: Sequence[Trajectory] | None) -> list[str | None]:
    if trajectory is None:
        return [extract_answer(completion) for completion in completions]
    return [one.prediction for one in trajectory]


def exact_match_reward(
    completions: Sequence[Completion],
    golden_answers: Sequence[Sequence[str]],
    trajectory: Sequence[Trajectory] | None = None,
    **kwargs: Any,
) -> list[float]:
    """
    Return the exact match of each answer, Search-R1's outcome reward and the default of [`~tspo_trl.TSPOTrainer`].

    Args:
        completions (`list[str]` or `list[list[dict]]`):
            Completions of the rollouts.
        golden_answers (`list[list[str]]`):
            Gold answers of each rollout's question.
        trajectory (`list[Trajectory]`, *optional*):
            Trajectories of the rollouts.
        **kwargs:
            Other columns, ignored.

    Returns:
        `list[float]`: 1.0 if the normalised answer equals a normalised gold answer, else 0.0.
    """
    predictions = _predictions(completions, trajectory)
    return [exact_match(prediction, golds) for prediction, golds in zip(predictions, golden_answers, strict=True)]


def f1_reward(
    completions: Sequence[Completion],
    golden_answers: Sequence[Sequence[str]],
    trajectory: Sequence[Trajectory] | None = None,
    **kwargs: Any,
) -> list[float]:
    """
    Return the token F1 of each answer (SQuAD's definition), the best over the gold answers.

    Args:
        completions (`list[str]` or `list[list[dict]]`):
            Completions of the rollouts.
        golden_answers (`list[list[str]]`):
            Gold answers of each rollout's question.
        trajectory (`list[Trajectory]`, *optional*):
            Trajectories of the rollouts.
        **kwargs:
            Other columns, ignored.

    Returns:
        `list[float]`: between 0.0 and 1.0.
    """
    predictions = _predictions(completions, trajectory)
    return [f1_score(prediction, golds) for prediction, golds in zip(predictions, golden_answers, strict=True)]


def format_reward(
    completions: Sequence[Completion],
    trajectory: Sequence[Trajectory] | None = None,
    **kwargs: Any,
) -> list[float]:
    """
    Return whether each rollout followed the protocol: every turn contains an action, and the last one answers.

    Args:
        completions (`list[str]` or `list[list[dict]]`):
            Completions of the rollouts.
        trajectory (`list[Trajectory]`, *optional*):
            Trajectories of the rollouts. Without them, a rollout only needs an answer.
        **kwargs:
            Other columns, ignored.

    Returns:
        `list[float]`: 1.0 or 0.0.
    """
    if trajectory is None:
        return [float(extract_answer(completion) is not None) for completion in completions]
    return [
        float(one.end_reason == "answered" and all(turn.action is not None for turn in one.turns))
        for one in trajectory
    ]
