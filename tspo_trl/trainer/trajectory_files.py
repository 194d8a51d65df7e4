"""The trajectories of every logging step, as files in the folder of the run."""

from os import PathLike
from pathlib import Path
from typing import Any

from .trajectory import write_json_lines


class TrajectoryFiles:
    """
    Keeps the trajectories of the batches since the last logging step, and writes them with it.

    Args:
        output_dir (`str` or `os.PathLike`):
            Folder of the run; the files go to its folder `trajectories`.

    Attributes:
        records (`dict[str, list[dict]]`):
            The lines that are kept, of `"train"` and `"eval"`.
    """

    def __init__(self, output_dir: str | PathLike):
        self._folder = Path(output_dir) / "trajectories"
        self.records: dict[str, list[dict[str, Any]]] = {"train": [], "eval": []}

    def keep(self, mode: str, records: list[dict[str, Any]]) -> None:
        """
        Keep a batch until the next logging step.

        Args:
            mode (`str`):
                `"train"`, where the latest batch stands for the step, as in TRL's table of completions; or `"eval"`,
                where all batches of an evaluation are kept.
            records (`list[dict]`):
                Lines of the file.
        """
        self.records[mode] = records if mode == "train" else self.records[mode] + records

    def write(self, mode: str, step: int, logs: dict[str, float]) -> None:
        """
        Write what was kept, if anything; a file of the same step is replaced.

        Args:
            mode (`str`):
                `"train"` or `"eval"`.
            step (`int`):
                Number of the step, for the file's name and in every line.
            logs (`dict[str, float]`):
                What the trainer logs: several evaluations may fall on one step, and each has its own prefix there,
                such as `eval_nq`.
        """
        records, self.records[mode] = self.records[mode], []
        if not records:
            return
        prefix = ""
        if mode == "eval":
            prefix = next((key.removesuffix("runtime") for key in logs if key.endswith("_runtime")), "eval_")
        path = self._folder / f"{prefix}step_{step:06d}.jsonl"
        write_json_lines(path, ({"step": step, **record} for record in records))
