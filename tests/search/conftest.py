"""Fixtures that make corpora, indexes, Python processes, and servers with their clients."""

import contextlib
import json
import os
import subprocess
import sys

import pytest

from tspo_trl.search.retrievers.remote import RemoteRetriever

from .fault_server import FaultServer

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
    """Index JSON documents with Anserini directly."""

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
    """Run a program in a new process, because a process has only one JVM, and return its output."""

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


@pytest.fixture(scope="module")
def processes():
    servers = [FaultServer(), FaultServer()]
    yield servers
    for server in servers:
        server.kill()


@pytest.fixture
def servers(processes):
    """Two servers that answer normally until a test changes that."""
    for server in processes:
        server.control()
    return processes


@pytest.fixture
def server(servers):
    return servers[0]


@pytest.fixture
def connect():
    """Create retrievers with short waits, and close them."""
    with contextlib.ExitStack() as stack:
        options = {"timeout": 10.0, "max_retries": 2, "backoff": 0.01}
        yield lambda *urls, **changes: stack.enter_context(RemoteRetriever(urls, **{**options, **changes}))


@pytest.fixture
def dead_url():
    """URL of a server that has stopped."""
    server = FaultServer()
    server.kill()
    return server.url
