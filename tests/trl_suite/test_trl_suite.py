"""TRL's own tests of `GRPOTrainer` with `TSPOTrainer` in its place: without a retriever it is a drop-in replacement.

TRL's tests are neither here nor in TRL's package. The environment variable `TRL_TESTS` names the folder `tests` of a
checkout of TRL, best of the version installed:

    git clone --depth 1 --branch v1.16.0 https://github.com/huggingface/trl
    TRL_TESTS=trl/tests pytest -m slow tests/trl_suite

They run offline, on stand-ins for the models and datasets that they load from the Hub. A test that fails or skips with
TRL's own trainer here (no GPU, no vLLM, no stand-in for its model) says nothing about ours and is left out.
"""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
LEAST_PASSED = 60  # fewer with TRL's own trainer: it is the stand-ins that are broken

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trl_tests():
    folder = os.environ.get("TRL_TESTS")
    if not folder:
        pytest.skip("TRL's tests are not at hand: set TRL_TESTS to the folder `tests` of a checkout of TRL")
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
    """Runs TRL's tests with a trainer and a configuration, and gives each test's outcome."""

    def run(trainer: str, config: str) -> dict[str, str]:
        report = offline_hub / f"{trainer}-{config}.xml"
        environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"},
            "TRL_SUITE_TRAINER": trainer,
            "TRL_SUITE_CONFIG": config,
            "PYTHONPATH": os.pathsep.join([str(HERE), str(REPOSITORY)]),
            "HF_HOME": str(offline_hub / "cache"),  # the user's may hold other versions of the datasets
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
