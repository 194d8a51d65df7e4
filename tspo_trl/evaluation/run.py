"""An evaluation: each question is answered once, on any number of processes, even if the run is interrupted.

The order of the questions fixes the batches. Neither the number of processes nor an interruption between two batches
changes which questions are generated together.
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
from ..trainer.scores import score_rollout
from ..trajectory import Trajectory, trajectory_to_dict
from .agent import SearchAgent
from .folder import Key, answered_questions, append_answers, claim_folder, mend_answers, only_run_in, read_json
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
    Answer the questions that have no answer yet, and write the report.

    Every process of `accelerate launch` calls this function with the same arguments, except for the agent's device. A
    question with a failed search or request stays without an answer, and the next run asks it again.

    Args:
        questions ([`~datasets.Dataset`]):
            Columns `id`, `question`, `golden_answers`, `data_source` and, optionally, `prompt`.
        agent ([`SearchAgent`]):
            Agent that answers the questions.
        output_dir (`Path`):
            Folder for `settings.json`, `trajectories/` and the report.
        settings (mapping):
            Settings of the agent that affect its answers, as JSON values.
        batch_size (`int`, *optional*, defaults to `64`):
            Number of rollouts that advance together.
        match (`str`, *optional*, defaults to `"token"`):
            Rule for gold answers in evidence, see [`~tspo_trl.answers.contains_answer`].
        match_boolean_answers (`bool`, *optional*, defaults to `False`):
            If `True`, yes and no in a passage are evidence.

    Returns:
        `dict`: content of `report.json`.

    Raises:
        FileExistsError: The folder contains something else or an evaluation with other settings or questions, or
            another run is writing to it.
        ValueError: Two questions have the same `data_source` and `id`, or `batch_size` is less than 1.
    """
    check_evaluation(questions, batch_size)
    settings = evaluation_settings(questions, settings, match, match_boolean_answers)
    state = process_state()
    if state.is_main_process:
        claim_folder(output_dir, settings, "evaluation")
    with only_run_in(output_dir) if state.is_main_process else nullcontext():
        if state.is_main_process:
            mend_answers(output_dir)
        state.wait_for_everyone()
        answered = answered_questions(output_dir)
        state.wait_for_everyone()  # no process writes while another reads

        batches = list(_open_batches(questions, answered, batch_size))
        own_batches = batches[state.process_index :: state.num_processes]
        for batch in tqdm(own_batches, unit="batch", disable=not state.is_main_process):
            rows = questions.select(batch).to_list()
            records = [
                _record(row, trajectory, match, match_boolean_answers)
                for row, trajectory in zip(rows, _answer(agent, rows), strict=True)
                if trajectory is not None and trajectory.end_reason != "search_failed"
            ]
            append_answers(output_dir, state.process_index, records)

        state.wait_for_everyone()
        if state.is_main_process:
            _write_report(output_dir, questions)
    state.wait_for_everyone()
    return read_json(output_dir / "report.json")


def check_evaluation(questions: Dataset, batch_size: int) -> None:
    """Check the arguments of [`run_evaluation`] before a model is loaded, and raise its `ValueError`."""
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
    for (source, id), count in Counter(_keys(questions)).items():
        if count > 1:
            raise ValueError(
                f"{count} questions have the `data_source` {source!r} and the `id` {id!r}. Give each question a "
                "different `id`, or each file a different `data_source`."
            )


def evaluation_settings(
    questions: Dataset, settings: Mapping[str, Any], match: Match = "token", match_boolean_answers: bool = False
) -> dict[str, Any]:
    """Return the settings that [`run_evaluation`] writes to `settings.json`: all that affects answers and scores."""
    matching = {"match": match, "match_boolean_answers": match_boolean_answers}
    return {**settings, **matching, "questions": fingerprint(questions)}


def fingerprint(questions: Iterable[Row]) -> dict[str, str]:
    """
    Identify the questions of each data source.

    Args:
        questions (iterable of mappings):
            The questions.

    Returns:
        `dict[str, str]`: number of questions and SHA-256 digest of questions, prompts and gold answers.
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
    """Yield the positions of unanswered questions in each batch, and skip answered batches."""
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
    """Return the rollouts of a batch. Halving finds the questions that the endpoint refuses, which get `None`."""
    try:
        return agent.answer(rows)
    except RefusedRequestError as error:
        if len(rows) == 1:
            logger.warning("No answer to %s of %s: %s", rows[0]["id"], rows[0]["data_source"], error)
            return [None]
        half = len(rows) // 2
        return _answer(agent, rows[:half]) + _answer(agent, rows[half:])


def _record(row: Row, trajectory: Trajectory, match: Match, match_boolean_answers: bool) -> dict[str, Any]:
    """Make a line of a trajectory file."""
    golds = row["golden_answers"]
    hit = first_occurrence(trajectory.evidence, golds, match=match, match_boolean_answers=match_boolean_answers)
    scores = score_rollout(trajectory, golds, hit)
    question = {name: row[name] for name in ("data_source", "id", "question", "golden_answers")}
    right = scores["exact_match"]
    return trajectory_to_dict(trajectory, **question, outcome=right, success=right, first_occurrence=hit, **scores)
