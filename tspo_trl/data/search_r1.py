"""Questions in Search-R1's form: rows with a prompt, and the gold answers in `reward_model`.

Search-R1's prompt is that of [`~tspo_trl.protocols.tags.TagProtocol`], byte for byte. So a row is determined by its
question, gold answers and source, and both forms convert into each other.
"""

from collections.abc import Mapping
from typing import Any

from datasets import Dataset

from ..protocols.tags import TagProtocol

_ABILITY = "fact-reasoning"
_MARK = "Question: "
_INSTRUCTION = TagProtocol().prompt("?").removesuffix("?\n")


def to_search_r1(dataset: Dataset, split: str) -> Dataset:
    """
    Add the columns of Search-R1's training and evaluation.

    Args:
        dataset ([`~datasets.Dataset`]):
            Questions from [`~tspo_trl.data.load_questions`].
        split (`str`):
            Split in `extra_info`, `"train"` or `"test"`.

    Returns:
        [`~datasets.Dataset`]: the columns of `dataset`, `prompt` (one user message), `ability`, `reward_model`
        (`style` and `ground_truth`, with the gold answers as `target`) and `extra_info` (`split` and `index`).
        `index` is the position in `dataset`. Search-R1's scripts count each source from 0, but its GRPO takes rows
        with the same index in a batch for the same question.
    """
    protocol = TagProtocol()

    def add_columns(rows: Mapping[str, list], indices: list[int]) -> dict[str, list]:
        return {
            "prompt": [[{"role": "user", "content": protocol.prompt(question)}] for question in rows["question"]],
            "ability": [_ABILITY] * len(indices),
            "reward_model": [
                {"style": "rule", "ground_truth": {"target": answers}} for answers in rows["golden_answers"]
            ],
            "extra_info": [{"split": split, "index": index} for index in indices],
        }

    return dataset.map(
        add_columns, batched=True, with_indices=True, keep_in_memory=True, desc="Writing prompts of Search-R1"
    )


def is_search_r1(record: Mapping[str, Any]) -> bool:
    """Return whether a row is in Search-R1's form."""
    return "reward_model" in record


def from_search_r1(record: Mapping[str, Any], where: str) -> dict[str, Any]:
    """
    Read a row of Search-R1's form.

    Args:
        record (`Mapping[str, Any]`):
            The row. Its gold answers are the target of the reward. Without a `question`, the text of the last user
            message after `"Question: "` is the question.
        where (`str`):
            Name of the row for messages.

    Returns:
        `dict`: the row with `question` and `golden_answers`.

    Raises:
        ValueError: The row has no target or no question.
    """
    reward_model = record["reward_model"]
    truth = reward_model.get("ground_truth") if isinstance(reward_model, Mapping) else None
    if not isinstance(truth, Mapping) or truth.get("target") is None:
        raise ValueError(
            f"{where} has {reward_model!r} as `reward_model`, but Search-R1's form has the gold answers in "
            "`reward_model.ground_truth.target`. Add them there, or remove `reward_model`."
        )
    question = record.get("question")
    if question is None:
        question = _question_of(record.get("prompt"), where)
    return {**record, "question": question, "golden_answers": truth["target"]}


def _question_of(prompt: Any, where: str) -> str:
    messages = [message for message in prompt if isinstance(message, Mapping)] if isinstance(prompt, list) else []
    contents = [message.get("content") for message in messages if message.get("role") == "user"]
    if not contents or not isinstance(contents[-1], str):
        raise ValueError(f"{where} has neither a `question` nor a user message in its `prompt`. Add a `question`.")
    if contents[-1].startswith(_INSTRUCTION):
        return contents[-1].removeprefix(_INSTRUCTION).strip()
    _, mark, question = contents[-1].rpartition(_MARK)
    if not mark:
        raise ValueError(f"{where} has a `prompt` without {_MARK!r} and no `question`. Add a `question`.")
    return question.strip()
