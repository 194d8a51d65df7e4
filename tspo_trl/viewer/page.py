"""Writes the report as one HTML file that needs no network and no other file.

Text of a trajectory is never read as HTML: the file contains trajectories as JSON without `<`, and its scripts put
them on the page as text. The content security policy allows only the file's own script and style.
"""

import base64
import hashlib
import html
import json
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from ..analysis.options import ViewOptions
from .report import LIMIT, make_report

MARK = '<meta name="generator" content="tspo-trl view">'
_READ_REPORT = '"use strict";\nconst REPORT = JSON.parse(document.getElementById("report").textContent);'
_SCRIPTS = ("elements.js", "charts.js", "overview.js", "groups.js", "group.js", "rollout.js", "app.js")


def write_report(
    paths: str | os.PathLike | Sequence[str | os.PathLike],
    output: str | os.PathLike,
    options: ViewOptions | None = None,
    *,
    title: str | None = None,
    limit: int = LIMIT,
) -> Path:
    """
    Write a report of trajectories as an HTML file.

    Args:
        paths (`str`, `os.PathLike` or sequence of them):
            Trajectory files, or folders of them: a run's `trajectories/`, or the folder of the run.
        output (`str` or `os.PathLike`):
            HTML file to write. An existing report is replaced, any other file is not.
        options ([`ViewOptions`], *optional*):
            Definitions of correct rollouts and of evidence, for files that record neither.
        title (`str`, *optional*):
            Title of the report. Defaults to the names of the runs or files.
        limit (`int`, *optional*, defaults to 10,000):
            Approximate number of trajectories to keep, see [`~tspo_trl.viewer.make_report`].

    Returns:
        `Path`: the file.

    Raises:
        FileNotFoundError: A path does not exist, or a folder has no trajectory file.
        FileExistsError: `output` exists and is not a report.
        ValueError: A file is empty, a line is not a trajectory, or `limit` is below 1.

    Example:

    ```python
    from tspo_trl.viewer import write_report

    write_report("runs/mine", "report.html")
    ```
    """
    output = Path(output)
    check_output(output)
    page = render_page(make_report(paths, options, limit=limit), title or default_title(paths))
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(output.name + ".part")
    unfinished.write_text(page, encoding="utf-8")
    unfinished.replace(output)
    return output


def check_output(path: Path) -> None:
    """Raise `FileExistsError` if `path` exists and is not a report."""
    if path.is_dir() or (path.exists() and not _is_report(path)):
        raise FileExistsError(f"{path} exists and is not a report of trajectories. Choose another --output.")


def default_title(paths: str | os.PathLike | Sequence[str | os.PathLike]) -> str:
    """Return the names of the runs or files: the last part of each path except `trajectories` and `training`."""
    names = [_name(Path(path).resolve()) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
    return ", ".join(dict.fromkeys(names))


def _name(path: Path) -> str:
    return _name(path.parent) if path.name in ("trajectories", "training") else path.name


def _is_report(path: Path) -> bool:
    with path.open("rb") as file:
        return MARK.encode() in file.read(2000)


def render_page(report: dict[str, Any], title: str) -> str:
    """Return a report of [`~tspo_trl.viewer.make_report`] as HTML."""
    style = _static("report.css")
    script = f"(() => {{\n{_READ_REPORT}\n{''.join(map(_static, _SCRIPTS))}}})();"
    return Template(_static("report.html")).substitute(
        title=html.escape(title),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        # ASCII, because a lone surrogate of a broken file cannot be encoded.
        report=json.dumps(report, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    )


def _static(name: str) -> str:
    return (files(__package__) / "static" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the hash of a text in the form of a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
