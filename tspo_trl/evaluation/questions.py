"""The questions of an evaluation, from one file for each dataset."""

import os
from collections.abc import Sequence

from datasets import Dataset, concatenate_datasets

from ..data.questions import load_questions


def load_question_files(paths: Sequence[str | os.PathLike], *, limit: int | None = None) -> Dataset:
    """
    Load several files of questions as one dataset.

    Args:
        paths (sequence of `str` or `os.PathLike`):
            One or more files, see [`~tspo_trl.data.load_questions`].
        limit (`int`, *optional*):
            Maximum number of questions of each file.

    Returns:
        [`~datasets.Dataset`]: columns `id`, `question`, `golden_answers`, `data_source`, and `prompt` if every file
        has it.

    Raises:
        ValueError: `limit` is less than 1, only some files have prompts, or a file is malformed.
        FileNotFoundError: A file does not exist.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"`limit` must be at least 1, got {limit}.")
    files = [load_questions(path) for path in paths]
    without_prompt = [str(path) for path, file in zip(paths, files, strict=True) if "prompt" not in file.column_names]
    if 0 < len(without_prompt) < len(files):
        raise ValueError(
            f"{', '.join(without_prompt)} has no `prompt` column, but other files of `data` have one. Evaluate files "
            "with and without prompts separately."
        )
    if limit is not None:
        files = [file.select(range(min(limit, len(file)))) for file in files]
    return concatenate_datasets(files)
