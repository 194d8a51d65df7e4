"""Workflows and forms in .github name only what exists, and workflows have no more permissions than they need."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*_*.yml"))
WRITERS = {("docs", "deploy"): {"pages", "id-token"}, ("publish", "publish"): {"id-token"}}

pytestmark = pytest.mark.skipif(not GITHUB.exists(), reason="a source distribution has no .github")
every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def read(path):
    return yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)  # reads `on` as a string


def jobs(path):
    return read(path)["jobs"]


def steps(path):
    return [step for job in jobs(path).values() for step in job["steps"]]


def commands(path):
    return "\n".join(step.get("run", "") for step in steps(path))


def test_there_are_four_workflows():
    assert [path.stem for path in WORKFLOWS] == ["docs", "lint", "publish", "tests"]


@every_workflow
def test_actions_are_pinned_to_a_major_version(path):
    actions = [step["uses"] for step in steps(path) if "uses" in step]
    assert actions
    for action in actions:
        assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", action)


@every_workflow
def test_a_workflow_reads_and_only_what_publishes_writes(path):
    assert read(path)["permissions"] == {"contents": "read"}
    for name, job in jobs(path).items():
        expected = dict.fromkeys(WRITERS.get((path.stem, name), ()), "write")
        assert job.get("permissions", {}) == expected


@every_workflow
def test_no_checkout_leaves_its_token_behind(path):
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false"


@every_workflow
def test_runs_take_turns_and_end(path):
    assert "${{ github.ref }}" in read(path)["concurrency"]["group"]
    for job in jobs(path).values():
        assert 0 < int(job["timeout-minutes"]) <= 360


@every_workflow
def test_jobs_wait_for_jobs_that_exist(path):
    for job in jobs(path).values():
        assert job.get("needs", next(iter(jobs(path)))) in jobs(path)


@every_workflow
def test_make_targets_and_scripts_exist(path):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(INSTALLED)", ".venv/.installed")
    targets = set(re.findall(r"^([\w./-]+):", makefile, re.M))
    assert set(re.findall(r"^make (\S+)", commands(path), re.M)) <= targets
    for script in re.findall(r"\bbash (\S+)", commands(path)):
        assert (ROOT / script).is_file()


@every_workflow
def test_pip_caches_belong_to_files_that_exist(path):
    for step in steps(path):
        cached = step.get("with", {}).get("cache-dependency-path")
        assert cached is None or (ROOT / cached).is_file()


def test_pythons_of_the_tests_are_those_of_the_classifiers():
    classifiers = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    versions = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', classifiers)
    (tests,) = [path for path in WORKFLOWS if path.stem == "tests"]
    assert jobs(tests)["fast"]["strategy"]["matrix"]["python-version"] == versions


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_forms_are_whole(path):
    form = read(path)
    assert {"name", "description", "labels", "body"} == set(form)
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids))
    for field in form["body"]:
        assert field["attributes"]["label"]
        assert field["type"] != "dropdown" or field["attributes"]["options"]


def test_a_bug_report_asks_for_what_the_doctor_prints():
    assert "`tspo-trl doctor`" in (GITHUB / "ISSUE_TEMPLATE" / "bug_report.yml").read_text(encoding="utf-8")
