"""The folder of a run that can be gone on with: the settings it was made with, and JSON files that are never half."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

SETTINGS_NAME = "settings.json"


def claim_folder(folder: Path, settings: dict[str, Any], kind: str) -> None:
    """
    Make the folder of a run, or check that what is in it was made with the same settings.

    Args:
        folder (`Path`):
            The folder.
        settings (`dict`):
            Settings of this run, as JSON can hold them. They are written to `settings.json`.
        kind (`str`):
            What the run is, for messages, such as `"evaluation"`.

    Raises:
        FileExistsError: The folder holds something else, or a run with other settings.
    """
    check_folder(folder, settings, kind)
    if not (folder / SETTINGS_NAME).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / SETTINGS_NAME, settings)


def check_folder(folder: Path, settings: dict[str, Any], kind: str) -> None:
    """Raise what [`claim_folder`] would raise, and make nothing."""
    path = folder / SETTINGS_NAME
    settings = json.loads(json.dumps(settings))
    if path.is_file():
        kept = read_json(path)
        names = dict.fromkeys([*kept, *settings])
        changed = [name for name in names if kept.get(name) != settings.get(name)]
        if changed:
            differences = ", ".join(
                f"{name}={kept.get(name)!r} there, {settings.get(name)!r} here" for name in changed
            )
            raise FileExistsError(
                f"{folder} holds a run with other settings ({differences}). Choose another --output, or run again "
                "with the same settings."
            )
    elif folder.exists() and (not folder.is_dir() or {file.name for file in folder.iterdir()} - {_part(path).name}):
        raise FileExistsError(f"{folder} exists and is no {kind}. Choose another --output.")


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """
    Hold a folder for one run, which lets it go when it ends, however it ends.

    Args:
        folder (`Path`):
            The folder. The file `.lock` is made in it, and stays.

    Raises:
        FileExistsError: Another run holds it.
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


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file that appears whole or not at all."""
    unfinished = _part(path)
    unfinished.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")
