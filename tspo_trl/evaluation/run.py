"""An evaluation: every question is asked once, by one process of any number, however often the run is interrupted.

Batches are fixed by the order of the questions, so neither the number of processes nor an interruption between two
batches changes which questions are generated together.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from datasets import Dataset
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from ..answers import Match
from ..credit import first_occurrence
from ..trainer.metrics import score_rollout
from ..trajectory import Trajectory, trajectory_to_dict
from .agent import SearchAgent
from .answers_folder import AnswersFolder, Key
from .folder import claim_folder, only_run_in, read_json
from .openai_client import RefusedRequestError
from .processes import process_state
from .report import make_report, write_report
from .scores import read_scores, read_settings

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]


def run_evaluation(
    questions: Dataset,
    agent: SearchAgent,
    output_dir: Path,
    settings: Mapping[str, Any],
    *,
    batch_size: int = 64,
    match: Match = "token",
    match_boolean_answers: bool = False,
) -> dict[str, Any]:
    """
    Ask the questions that have no answer yet, and write the report.

    To be called in every process of `accelerate launch`, with the same arguments but for the agent's device. A
    question whose search or request failed is left without an answer, and asked again by the next run.

    Args:
        questions ([`~datasets.Dataset`]):
            Columns `id`, `question`, `golden_answers`, `data_source` and, where questions bring their own, `prompt`.
        agent ([`SearchAgent`]):
            Answers them.
        output_dir (`Path`):
            Folder of the evaluation. `settings.json`, `trajectories/` and the report are written to it.
        settings (mapping):
            What of the agent decides the answers, as JSON can hold it.
        batch_size (`int`, *optional*, defaults to `64`):
            Questions whose rollouts advance together.
        match (`str`, *optional*, defaults to `"token"`):
            How gold answers are looked for in evidence, see [`~tspo_trl.answers.contains_answer`].
        match_boolean_answers (`bool`, *optional*, defaults to `False`):
            Whether yes and no in a passage are evidence.

    Returns:
        `dict`: what stands in `report.json`.

    Raises:
        FileExistsError: The folder holds something else, an evaluation with other settings or questions, or one that
            another run is writing.
        ValueError: Two questions have the same `data_source` and `id`, or `batch_size` is less than 1.
    """
    check_evaluation(questions, batch_size)
    settings = evaluation_settings(questions, settings, match, match_boolean_answers)
    state = process_state()
    answers = AnswersFolder(output_dir / "trajectories")
    if state.is_main_process:
        claim_folder(output_dir, settings, "evaluation")
    with only_run_in(output_dir) if state.is_main_process else nullcontext():
        if state.is_main_process:
            answers.mend()
        state.wait_for_everyone()
        answered = answers.answered()
        state.wait_for_everyone()  # nobody writes while others read

        batches = list(_open_batches(questions, answered, batch_size))
        own_batches = batches[state.process_index :: state.num_processes]
        for batch in tqdm(own_batches, unit="batch", disable=not state.is_main_process):
            rows = questions.select(batch).to_list()
            records = [
                _record(row, trajectory, match, match_boolean_answers)
                for row, trajectory in zip(rows, _answer(agent, rows), strict=True)
                if trajectory is not None and trajectory.end_reason != "search_failed"
            ]
            answers.append(state.process_index, records)

        state.wait_for_everyone()
        if state.is_main_process:
            _write_report(output_dir, questions)
    state.wait_for_everyone()
    return read_json(output_dir / "report.json")


def check_evaluation(questions: Dataset, batch_size: int) -> None:
    """
    Check what can be checked before a model is loaded.

    Args:
        questions ([`~datasets.Dataset`]):
            As for [`run_evaluation`].
        batch_size (`int`):
            As for [`run_evaluation`].

    Raises:
        ValueError: Two questions have the same `data_source` and `id`, or `batch_size` is less than 1.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
    for (source, id), count in Counter(_keys(questions)).items():
        if count > 1:
            raise ValueError(
                f"{count} questions have the `data_source` {source!r} and the `id` {id!r}. Give each its own `id`, or "
                "the files their own `data_source`."
            )


def evaluation_settings(
    questions: Dataset, settings: Mapping[str, Any], match: Match = "token", match_boolean_answers: bool = False
) -> dict[str, Any]:
    """
    What [`run_evaluation`], with the same arguments, writes to `settings.json`: all that decides the answers and their
    scores.

    Returns:
        `dict`: `settings`, how gold answers are looked for, and which questions are asked.
    """
    matching = {"match": match, "match_boolean_answers": match_boolean_answers}
    return {**settings, **matching, "questions": fingerprint(questions)}


def fingerprint(questions: Iterable[Row]) -> dict[str, str]:
    """
    Which questions are asked, for each data source.

    Args:
        questions (iterable of mappings):
            The questions.

    Returns:
        `dict[str, str]`: number of questions and a SHA-256 digest of all that is asked and accepted.
    """
    digests: dict[str, Any] = {}
    counts = Counter[str]()
    for row in questions:
        source = row["data_source"]
        counts[source] += 1
        line = json.dumps([row["id"], row["question"], row["golden_answers"], row.get("prompt")])
        digests.setdefault(source, hashlib.sha256()).update(line.encode())
    return {source: f"{counts[source]} questions, sha256 {digest.hexdigest()}" for source, digest in digests.items()}


def _keys(questions: Dataset) -> list[Key]:
    return list(zip(questions["data_source"], questions["id"], strict=True))


def _open_batches(questions: Dataset, answered: set[Key], batch_size: int) -> Iterator[list[int]]:
    """The positions of what has no answer in each batch, but for batches that are answered."""
    keys = _keys(questions)
    for start in range(0, len(keys), batch_size):
        positions = range(start, min(start + batch_size, len(keys)))
        if batch := [position for position in positions if keys[position] not in answered]:
            yield batch


def _write_report(output_dir: Path, questions: Dataset) -> None:
    scores = read_scores(output_dir)
    counts = Counter(questions["data_source"])
    missing = {source: count - len(scores.get(source, ())) for source, count in counts.items()}
    write_report(output_dir, make_report(scores, read_settings(output_dir), missing=missing))


def _answer(agent: SearchAgent, rows: Sequence[Row]) -> list[Trajectory | None]:
    """The rollouts of a batch; `None` for a question that the endpoint refuses, which is found by halving."""
    try:
        return agent.answer(rows)
    except RefusedRequestError as error:
        if len(rows) == 1:
            logger.warning("No answer to %s of %s: %s", rows[0]["id"], rows[0]["data_source"], error)
            return [None]
        half = len(rows) // 2
        return _answer(agent, rows[:half]) + _answer(agent, rows[half:])


def _record(row: Row, trajectory: Trajectory, match: Match, match_boolean_answers: bool) -> dict[str, Any]:
    """A line of a trajectory file."""
    golds = row["golden_answers"]
    hit = first_occurrence(trajectory.evidence, golds, match=match, match_boolean_answers=match_boolean_answers)
    scores = score_rollout(trajectory, golds, hit)
    question = {name: row[name] for name in ("data_source", "id", "question", "golden_answers")}
    return trajectory_to_dict(trajectory, **question, outcome=scores["exact_match"], first_occurrence=hit, **scores)
