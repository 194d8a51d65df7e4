"""Helpers that make a corpus, an index, and a Python process of its own."""

import json
import os
import subprocess
import sys

import pytest

JAVA_VARIABLES = ("JAVA_HOME", "JDK_HOME", "JRE_HOME", "JVM_PATH", "TSPO_TRL_JAVA_HEAP", "OPENAI_API_KEY")


@pytest.fixture
def write_corpus(tmp_path):
    """Write documents as JSON lines and return the path."""

    def write(*documents, name="corpus.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(document) + "\n" for document in documents), encoding="utf-8")
        return path

    return write


@pytest.fixture
def anserini_index(tmp_path):
    """Index JSON documents with Anserini's own options, past our indexer and its checks."""

    def index(documents, *options):
        from tspo_trl.search.java import java_class

        folder = tmp_path / "anserini"
        arguments = ["-input", "", "-collection", "JsonCollection", "-index", str(folder), *options]
        indexer = java_class("io.anserini.index.SimpleIndexer")(arguments)
        indexer.addRawDocuments([json.dumps(document) for document in documents])
        indexer.close()
        return folder

    return index


@pytest.fixture
def clean_environment():
    """The environment of this process without any Java setting."""
    return {name: value for name, value in os.environ.items() if name not in JAVA_VARIABLES}


@pytest.fixture
def run_python(clean_environment):
    """Run a program in a process of its own (there is one JVM to a process) and return what it printed."""

    def run(program, **environment):
        result = subprocess.run(
            [sys.executable, "-c", program],
            env=clean_environment | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    return run
