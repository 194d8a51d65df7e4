"""The machine of a benchmark, and the memory that it took."""

import os
import platform
import subprocess
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import psutil
import torch

PACKAGES = ("tspo-trl", "torch", "transformers", "trl", "accelerate", "vllm", "pyserini")
_PERIOD = 0.05  # seconds between two readings of the resident memory


def describe_machine() -> dict[str, Any]:
    """Commit, versions, cores and load, threads and GPU."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    here = Path(__file__).parent
    git = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip() or None,
        "python": platform.python_version(),
        "versions": versions,
        "cores": os.cpu_count(),
        "load_average_before": os.getloadavg()[0],
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


class PeakMemory:
    """
    Peak memory of this process in a context, in MiB: resident, and on the GPU if there is one.

    Attributes:
        peak (`dict[str, float]`): `resident_mb`, and with a GPU `device_mb`.
    """

    def __enter__(self) -> Self:
        self.peak = {"resident_mb": self._resident()}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if torch.cuda.is_available():
            self.peak["device_mb"] = torch.cuda.max_memory_allocated() / 2**20

    def _watch(self) -> None:
        while not self._stop.wait(_PERIOD):
            self.peak["resident_mb"] = max(self.peak["resident_mb"], self._resident())

    def _resident(self) -> float:
        return psutil.Process().memory_info().rss / 2**20
