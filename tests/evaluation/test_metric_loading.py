"""Metrics load from a read-only package, without a network, in several processes."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SCORES = {
    "exact_match": {"exact_match": 0.5},
    "f1": {"f1": 0.5},
    "cover_exact_match": {"cover_exact_match": 0.5},
    "retrieval_recall": {"retrieval_recall": 0.5},
    "searches": {"searches": 0.5},
}


def start(site_packages, cache, **environment):
    """Start a process outside the repository with the package in `site_packages` and caches in `cache`."""
    settings = {"PYTHONPATH": str(site_packages), "HF_HOME": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("metric_process.py"))],
        cwd=site_packages.parent,
        env=inherited | settings | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_computes_the_scores(process, site_packages):
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    result = json.loads(stdout)
    assert result["folder"] == str(site_packages / "tspo_trl/evaluation/metrics")
    assert result["by_name"] == result["by_path"] == SCORES


def files_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def make_read_only(folder):
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


@pytest.fixture
def site_packages(tmp_path):
    """A read-only folder with a copy of the package."""
    folder = tmp_path / "site-packages"
    shutil.copytree(REPOSITORY / "tspo_trl", folder / "tspo_trl", ignore=shutil.ignore_patterns("__pycache__"))
    make_read_only(folder)
    yield folder
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {}], ids=["offline", "online"])
def test_metrics_load_without_a_network_and_leave_the_package_alone(site_packages, tmp_path, environment):
    before = files_of(site_packages)
    assert_computes_the_scores(start(site_packages, tmp_path / "cache", **environment), site_packages)
    assert files_of(site_packages) == before


@pytest.mark.slow
def test_metrics_load_in_several_processes_that_share_a_new_cache(site_packages, tmp_path):
    processes = [start(site_packages, tmp_path / "cache") for _ in range(3)]
    for process in processes:
        assert_computes_the_scores(process, site_packages)


@pytest.mark.slow
def test_metrics_load_from_a_wheel(tmp_path):
    pytest.importorskip("setuptools", minversion="77", reason="a wheel is built by setuptools")
    source = tmp_path / "source"
    shutil.copytree(REPOSITORY / "tspo_trl", source / "tspo_trl", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True)
    site_packages = tmp_path / "installed"
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site_packages)
    assert_computes_the_scores(start(site_packages, tmp_path / "cache"), site_packages)
