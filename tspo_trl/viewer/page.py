"""The report as one HTML file: no network, nothing beside it, and no text of a trajectory that is read as HTML.

The trajectories stand in the file as JSON in which no `<` occurs, the scripts put them on the page as text, and the
page's content security policy lets nothing run or load but the file's own script and style.
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

from .groups import ViewOptions
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
    Write the trajectories of a run or of files as a report that a browser opens.

    Args:
        paths (`str`, `os.PathLike` or sequence of them):
            Trajectory files, or folders of them: a run's `trajectories/`, or the folder of the run.
        output (`str` or `os.PathLike`):
            HTML file to write. A report that is there is replaced, any other file is not.
        options ([`ViewOptions`], *optional*):
            What counts as correct and as evidence where the files do not say.
        title (`str`, *optional*):
            Title of the report. Defaults to the names of the runs or files.
        limit (`int`, *optional*, defaults to 10,000):
            About how many trajectories to keep, see [`~tspo_trl.viewer.make_report`].

    Returns:
        `Path`: the file.

    Raises:
        FileNotFoundError: A path does not exist, or a folder holds no trajectory file.
        FileExistsError: `output` is there and is no report.
        ValueError: A file is empty, a line is no trajectory, or `limit` is below 1.

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
    """Raise `FileExistsError` where a file is there that no report may replace."""
    if path.is_dir() or (path.exists() and not _is_report(path)):
        raise FileExistsError(f"{path} exists and is no report of trajectories. Choose another --output.")


def default_title(paths: str | os.PathLike | Sequence[str | os.PathLike]) -> str:
    """The names of the runs or files: of each path the last part that is not just `trajectories` or `training`."""
    names = [_name(Path(path).resolve()) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
    return ", ".join(dict.fromkeys(names))


def _name(path: Path) -> str:
    return _name(path.parent) if path.name in ("trajectories", "training") else path.name


def _is_report(path: Path) -> bool:
    with path.open("rb") as file:
        return MARK.encode() in file.read(2000)


def render_page(report: dict[str, Any], title: str) -> str:
    """
    Write a report as a page.

    Args:
        report (`dict`):
            What [`~tspo_trl.viewer.report.make_report`] returned.
        title (`str`):
            Its title.

    Returns:
        `str`: the HTML.
    """
    style = _static("report.css")
    script = f"(() => {{\n{_READ_REPORT}\n{''.join(map(_static, _SCRIPTS))}}})();"
    return Template(_static("report.html")).substitute(
        title=html.escape(title),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        # ASCII only, so that no lone surrogate of a broken file and no character of another encoding can spoil it.
        report=json.dumps(report, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    )


def _static(name: str) -> str:
    return (files(__package__) / "static" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What the content security policy knows a text by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
