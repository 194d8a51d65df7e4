"""The folder of a run: its settings, files that appear whole or not at all, and the answers of an evaluation."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..trajectory import read_json_lines

SETTINGS_NAME = "settings.json"
ANSWERS_NAME = "trajectories"

Key = tuple[str, str]
"""`data_source` and `id` of a question."""


def claim_folder(folder: Path, settings: dict[str, Any], kind: str) -> None:
    """
    Make the folder of a run, or check that it contains a run with the same settings.

    Args:
        folder (`Path`):
            The folder.
        settings (`dict`):
            Settings of this run as JSON values, written to `settings.json`.
        kind (`str`):
            Kind of the run for messages, such as `"evaluation"`.

    Raises:
        FileExistsError: The folder contains something else, or a run with other settings.
    """
    check_folder(folder, settings, kind)
    if not (folder / SETTINGS_NAME).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / SETTINGS_NAME, settings)


def check_folder(folder: Path, settings: dict[str, Any], kind: str) -> None:
    """Raise the errors of [`claim_folder`] without making the folder."""
    path = folder / SETTINGS_NAME
    settings = json.loads(json.dumps(settings))
    if path.is_file():
        kept = read_json(path)
        names = dict.fromkeys([*kept, *settings])
        differences = [
            f"{name}={kept.get(name)!r} there, {settings.get(name)!r} here"
            for name in names
            if kept.get(name) != settings.get(name)
        ]
        if differences:
            raise FileExistsError(
                f"{folder} holds a run with other settings ({', '.join(differences)}). Choose another --output, or "
                "run again with the same settings."
            )
    elif folder.exists() and (not folder.is_dir() or {file.name for file in folder.iterdir()} - {_part(path).name}):
        raise FileExistsError(f"{folder} exists and does not belong to this {kind}. Choose another --output.")


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """
    Lock a folder for one run until the run ends, even if it is killed.

    Args:
        folder (`Path`):
            The folder. The lock file `.lock` stays in it.

    Raises:
        FileExistsError: Another run has locked the folder.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FileExistsError(
            f"Another run is writing to {folder}. Wait until it ends, or choose another --output."
        ) from None
    try:
        yield
    finally:
        lock.release()


def write_text(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    unfinished = _part(path)
    unfinished.write_text(text, encoding="utf-8", newline="")
    unfinished.replace(path)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file that appears whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def mend_answers(folder: Path) -> None:
    """Remove an incomplete last line from each file of answers. No process may write meanwhile."""
    for path in answer_files(folder):
        with path.open("rb+") as file:
            end = sum(len(line) for line in file if line.endswith(b"\n"))
            if end < path.stat().st_size:
                file.truncate(end)


def answered_questions(folder: Path) -> set[Key]:
    """Return the questions that have an answer in the folder of an evaluation."""
    return {(line["data_source"], line["id"]) for path in answer_files(folder) for line in read_json_lines(path)}


def append_answers(folder: Path, process_index: int, records: Iterable[Mapping[str, Any]]) -> None:
    """
    Append answers to the file of a process, so that a killed run loses one batch.

    Args:
        folder (`Path`):
            Folder of the evaluation.
        process_index (`int`):
            Index of the process. Each process writes to its own file.
        records (iterable of mappings):
            Answers as JSON values, one line each.
    """
    lines = "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)
    (folder / ANSWERS_NAME).mkdir(parents=True, exist_ok=True)
    with (folder / ANSWERS_NAME / f"process_{process_index}.jsonl").open("a", encoding="utf-8") as file:
        file.write(lines)


def answer_files(folder: Path) -> list[Path]:
    """Return the files of answers in the folder of an evaluation, sorted by name."""
    return sorted((folder / ANSWERS_NAME).glob("*.jsonl"))


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")
