"""The manifest of prepared data, with content, sources and checksum of each file."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


def file_checksum(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(directory: Path, manifest: dict[str, Any]) -> None:
    """
    Write the manifest of a folder.

    Args:
        directory (`Path`):
            The folder.
        manifest (`dict`):
            JSON values. `files` contains an entry with `sha256` for each file, by its path in the folder.
    """
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    (directory / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(directory: str | os.PathLike) -> dict[str, Any]:
    """
    Read the manifest of a folder.

    Args:
        directory (`str` or `os.PathLike`):
            The folder.

    Returns:
        `dict`: the manifest.

    Raises:
        FileNotFoundError: The folder has no manifest.
        ValueError: The file is not a manifest of prepared data.
    """
    path = Path(directory).expanduser() / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"No {MANIFEST} in {directory}. Pass a folder from `tspo-trl data prepare`.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        entries = manifest["files"].values()
        complete = all(isinstance(entry["sha256"], str) for entry in entries)
    except (ValueError, KeyError, TypeError, AttributeError):
        complete = False
    if not complete:
        raise ValueError(f"{path} is not a manifest of prepared data. Prepare the data again.")
    return manifest


def verify_data(directory: str | os.PathLike) -> list[str]:
    """
    Compare the files of a folder with its manifest.

    Args:
        directory (`str` or `os.PathLike`):
            The folder.

    Returns:
        `list[str]`: a line for each changed, missing or unexpected file.

    Raises:
        As [`read_manifest`].
    """
    directory = Path(directory).expanduser()
    entries = read_manifest(directory)["files"]
    problems = []
    for name, entry in entries.items():
        path = directory / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif (checksum := file_checksum(path)) != entry["sha256"]:
            problems.append(f"{name} has changed: sha256 {checksum}, not {entry['sha256']}")
    return problems + [f"{name} is not in the manifest" for name in sorted(_files_in(directory) - set(entries))]


def is_prepared_data(directory: Path) -> bool:
    """Return whether a folder contains only prepared data, so that it may be replaced."""
    try:
        entries = read_manifest(directory)["files"]
    except (FileNotFoundError, ValueError):
        return False
    return _files_in(directory) <= set(entries)


def _files_in(directory: Path) -> set[str]:
    """Return the paths of all files in a folder except its manifest."""
    files = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir()}
    return files - {MANIFEST}
