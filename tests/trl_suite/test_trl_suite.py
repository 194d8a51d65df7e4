"""TRL's own tests of `GRPOTrainer`, run with `TSPOTrainer`, which replaces it if there is no retriever.

TRL's package does not include its tests. The environment variable `TRL_TESTS` names the folder `tests` of a checkout
of TRL, preferably of the installed version:

    git clone --depth 1 --branch v1.16.0 https://github.com/huggingface/trl
    TRL_TESTS=trl/tests pytest -m slow tests/trl_suite

They run offline, with local replacements for the models and datasets of the Hub. Tests that fail or skip with TRL's
own trainer (no GPU, no vLLM, no replacement for a model) are left out.
"""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
LEAST_PASSED = 60  # if fewer pass with TRL's own trainer, the replacements are broken

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trl_tests():
    folder = os.environ.get("TRL_TESTS")
    if not folder:
        pytest.skip("TRL's tests are missing. Set TRL_TESTS to the folder `tests` of a checkout of TRL.")
    path = Path(folder).resolve() / "test_grpo_trainer.py"
    assert path.is_file(), f"TRL_TESTS is {folder!r}, but there is no {path}"
    return path


@pytest.fixture(scope="module")
def offline_hub(trl_tests, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    subprocess.run([sys.executable, HERE / "offline_hub.py", folder], check=True)
    return folder


@pytest.fixture(scope="module")
def outcomes_with(trl_tests, offline_hub):
    """Run TRL's tests with a trainer and a configuration, and return the outcome of each test."""

    def run(trainer: str, config: str) -> dict[str, str]:
        report = offline_hub / f"{trainer}-{config}.xml"
        environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"},
            "TRL_SUITE_TRAINER": trainer,
            "TRL_SUITE_CONFIG": config,
            "PYTHONPATH": os.pathsep.join([str(HERE), str(REPOSITORY)]),
            "HF_HOME": str(offline_hub / "cache"),  # the user's cache may contain other versions of the datasets
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }
        options = ["-q", "-p", "substitute", "-p", "no:cacheprovider", f"--junitxml={report}"]
        command = [sys.executable, "-m", "pytest", *options, str(trl_tests)]
        subprocess.run(command, cwd=offline_hub, env=environment, check=False)
        return read_outcomes(report)

    return run


def read_outcomes(report: Path) -> dict[str, str]:
    outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        children = {child.tag for child in case}
        outcome = next((tag for tag in ("failure", "error", "skipped") if tag in children), "passed")
        outcomes[f"{case.get('classname')}::{case.get('name')}"] = outcome
    return outcomes


@pytest.fixture(scope="module")
def passed_with_trl(outcomes_with):
    outcomes = outcomes_with("trl.GRPOTrainer", "trl.GRPOConfig")
    return {test for test, outcome in outcomes.items() if outcome == "passed"}


def test_the_stand_ins_are_good_enough_for_trl(passed_with_trl):
    assert len(passed_with_trl) >= LEAST_PASSED


@pytest.mark.parametrize("config", ["trl.GRPOConfig", "tspo_trl.TSPOConfig"])
def test_whatever_passes_with_grpo_trainer_passes_with_tspo_trainer(passed_with_trl, outcomes_with, config):
    outcomes = outcomes_with("tspo_trl.TSPOTrainer", config)
    assert {test: outcomes.get(test) for test in passed_with_trl if outcomes.get(test) != "passed"} == {}
