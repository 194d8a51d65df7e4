"""Outcome reward functions, with the signature of TRL's reward functions.

Each takes `completions` and the columns of the dataset as lists, one element per rollout, and returns one reward per
rollout. [`TSPOTrainer`] adds the column `trajectory`; without it (in TRL's own `GRPOTrainer`, say) the answer is read
from the text of the completion.
"""

import re
from collections.abc import Sequence
from typing import Any

from .answers import exact_match, f1_score
from .trajectory import Trajectory

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)

Completion = str | list[dict[str, Any]]


def extract_answer(completion: Completion) -> str | None:
    """
    The last `<answer>` in what the model wrote.

    Args:
        completion (`str` or `list[dict]`):
            A completion as TRL hands it to reward functions: a text, or messages, of which only the assistant's count.

    Returns:
        `str` or `None`: the text between the tags without white space around it, `None` where there are no tags.
    """
    if isinstance(completion, str):
        text = completion
    else:
        text = "\n".join(_message_text(message) for message in completion if message["role"] == "assistant")
    answers = _ANSWER.findall(text)
    return answers[-1].strip() if answers else None


def _message_text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


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
    Exact match of the answer, Search-R1's outcome reward and the default of [`TSPOTrainer`].

    Args:
        completions (`list[str]` or `list[list[dict]]`):
            Completions.
        golden_answers (`list[list[str]]`):
            Gold answers of each rollout's question.
        trajectory (`list[Trajectory]`, *optional*):
            Trajectories of the rollouts.
        **kwargs:
            Other columns, not used.

    Returns:
        `list[float]`: 1.0 where the normalised answer equals a normalised gold answer, else 0.0.
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
    Token F1 of the answer (SQuAD's definition), the best over the gold answers.

    Args:
        completions (`list[str]` or `list[list[dict]]`):
            Completions.
        golden_answers (`list[list[str]]`):
            Gold answers of each rollout's question.
        trajectory (`list[Trajectory]`, *optional*):
            Trajectories of the rollouts.
        **kwargs:
            Other columns, not used.

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
    Whether the rollout kept to the protocol (ours): every turn holds an action, and the last one answers.

    Args:
        completions (`list[str]` or `list[list[dict]]`):
            Completions.
        trajectory (`list[Trajectory]`, *optional*):
            Trajectories of the rollouts. Without them only the presence of an answer is checked.
        **kwargs:
            Other columns, not used.

    Returns:
        `list[float]`: 1.0 or 0.0.
    """
    if trajectory is None:
        return [float(extract_answer(completion) is not None) for completion in completions]
    return [
        float(one.end_reason == "answered" and all(turn.action is not None for turn in one.turns))
        for one in trajectory
    ]
