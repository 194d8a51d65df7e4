"""All files name the same version."""

import re
import tomllib
from pathlib import Path

import tspo_trl

ROOT = Path(__file__).parent.parent.parent


def test_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M)
    assert [project["version"], citation[1]] == [tspo_trl.__version__] * 2


def test_changelog_begins_with_the_version():
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert newest[1] == tspo_trl.__version__
