"""Real passages and questions, in the data folder beside the repository."""

import json
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "wiki-mini"
QUESTION_FILES = ("hotpotqa", "2wikimultihopqa", "bamboogle", "musique", "hotpotqa_train")

needs_wiki_mini = pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data/wiki-mini beside the repository")


def load_questions():
    """All 970 questions."""
    files = [DATA / f"{name}.jsonl" for name in QUESTION_FILES]
    return [json.loads(line)["question"] for file in files for line in file.read_text(encoding="utf-8").splitlines()]
