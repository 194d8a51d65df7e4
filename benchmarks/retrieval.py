"""Speed and memory of every retriever, of the server under load, and of one server over many queries.

    python benchmarks/retrieval.py --data DATA --index BM25_INDEX --dense DENSE_INDEX --encoder MODEL

`DATA` is a folder with question files `NAME.jsonl`. Everything runs on this machine, one part after another. The
server under load is compared with a server that works like Search-R1's: it searches for the queries of a request one
after another and does not merge requests. Both use the same engine. `--soak 100000` sends that many queries to one
server process and prints its resident memory on the way.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import psutil
import requests

from tspo_trl.search.arguments import RetrieverArguments, open_retriever

BATCH_SIZES = (1, 64, 512)
TOP_K = 3
SECONDS = 10.0  # duration of each measurement
LOADS = ((64, 1), (8, 64))  # concurrent clients, queries per request


def load_questions(folder: Path) -> list[str]:
    """Read the questions of all files in the folder."""
    files = sorted(file for file in folder.glob("*.jsonl") if file.stem != "corpus")
    return [json.loads(line)["question"] for file in files for line in file.read_text("utf-8").splitlines()]


def batches(questions: list[str], size: int) -> Iterator[list[str]]:
    """Endless batches of the questions."""
    endless = cycle(questions)
    while True:
        yield list(islice(endless, size))


def measure(search: Callable[[list[str]], Any], questions: list[str], size: int) -> dict[str, float]:
    """Queries per second, and the median and 99th percentile of a call in milliseconds."""
    seconds: list[float] = []
    for batch in batches(questions, size):
        start = time.perf_counter()
        search(batch)
        seconds.append(time.perf_counter() - start)
        if sum(seconds) > SECONDS:
            break
    p99 = statistics.quantiles(seconds, n=100)[98] if len(seconds) > 1 else seconds[0]
    return {
        "queries_per_second": size * len(seconds) / sum(seconds),
        "p50_ms": 1000 * statistics.median(seconds),
        "p99_ms": 1000 * p99,
    }


def measure_retriever(arguments: RetrieverArguments, questions: list[str]) -> dict[str, Any]:
    """Measure all batch sizes of one retriever, and the resident memory of a process with only this retriever."""
    retriever = open_retriever(arguments)
    retriever.search(questions[:64], TOP_K)
    figures: dict[str, Any] = {
        str(size): measure(lambda batch: retriever.search(batch, TOP_K), questions, size) for size in BATCH_SIZES
    }
    return figures | {"resident_mb": psutil.Process().memory_info().rss / 2**20}


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the function in a new process, so that its memory can be measured alone."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


@contextmanager
def server(command: list[str]) -> Iterator[tuple[str, psutil.Process]]:
    """Start a server that prints its address when it listens. Yield the address and the process."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if address := re.search(r"http://[\d.]+:\d+", line):
                yield address.group(), psutil.Process(process.pid)
                break
        else:
            raise RuntimeError(
                f"The server {command} ended before it printed an address. Run the command by hand to see why."
            )
    finally:
        process.terminate()
        process.wait()


def ask(session: requests.Session, url: str, queries: list[str]) -> None:
    """Send one request in Search-R1's format."""
    payload = {"queries": queries, "topk": TOP_K, "return_scores": True}
    response = session.post(f"{url}/retrieve", json=payload, timeout=60)
    response.raise_for_status()
    assert len(response.json()["result"]) == len(queries)


def measure_requests(url: str, questions: list[str]) -> dict[str, Any]:
    """Measure one client on one connection, with 1 and with 512 queries per request."""
    with requests.Session() as session:
        return {str(size): measure(lambda batch: ask(session, url, batch), questions, size) for size in (1, 512)}


async def load(url: str, questions: list[str], clients: int, size: int) -> dict[str, float]:
    """Run concurrent clients. Each sends its next request when the last one is answered."""
    import aiohttp

    pending, seconds = batches(questions, size), []
    end = time.perf_counter() + SECONDS

    async def client(session: aiohttp.ClientSession) -> None:
        while (start := time.perf_counter()) < end:
            payload = {"queries": next(pending), "topk": TOP_K, "return_scores": True}
            async with session.post(f"{url}/retrieve", json=payload) as response:
                response.raise_for_status()
                await response.read()
            seconds.append(time.perf_counter() - start)

    start = time.perf_counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    return {
        "queries_per_second": size * len(seconds) / (time.perf_counter() - start),
        "p50_ms": 1000 * statistics.median(seconds),
        "p99_ms": 1000 * statistics.quantiles(seconds, n=100)[98],
    }


def measure_load(url: str, questions: list[str]) -> dict[str, Any]:
    """Measure both loads after a warm-up."""
    with requests.Session() as session:
        ask(session, url, questions[:64])
    return {f"{clients} x {size}": asyncio.run(load(url, questions, clients, size)) for clients, size in LOADS}


def soak(url: str, process: psutil.Process, questions: list[str], total: int) -> list[dict[str, float]]:
    """Send `total` different queries, and read the server's memory ten times on the way."""
    readings = []
    with requests.Session() as session:
        for sent in range(0, total, 500):
            ask(session, url, [f"{questions[i % len(questions)]} {i}" for i in range(sent, sent + 500)])
            if (sent + 500) % (total // 10) == 0:
                readings.append({"queries": sent + 500, "resident_mb": process.memory_info().rss / 2**20})
                print(f"{sent + 500:>8} queries: {readings[-1]['resident_mb']:.0f} MB", flush=True)
    return readings


def print_table(title: str, figures: dict[str, dict[str, Any]]) -> None:
    """Print a Markdown row for each retriever and batch size."""
    print(f"\n| {title} | queries/s | p50 ms | p99 ms | resident MB |\n|---|---|---|---|---|")
    for name, cells in figures.items():
        memory = cells.get("resident_mb")
        for size, cell in cells.items():
            if size != "resident_mb":
                rate, p50, p99 = (cell[key] for key in ("queries_per_second", "p50_ms", "p99_ms"))
                print(f"| {name}, {size} | {rate:.0f} | {p50:.1f} | {p99:.1f} | {f'{memory:.0f}' if memory else ''} |")


def make_parser(description: str, *, needs_dense: bool = True) -> argparse.ArgumentParser:
    """A parser with the options of data, indexes and the JSON file."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of question files")
    parser.add_argument("--index", required=True, help="Lucene index")
    parser.add_argument("--dense", required=needs_dense, help="FAISS index")
    parser.add_argument("--encoder", required=needs_dense, help="model of the dense index")
    parser.add_argument("--json", type=Path, help="JSON file for the values")
    return parser


def local_retrievers(args: argparse.Namespace) -> dict[str, RetrieverArguments]:
    """BM25, and with a dense index also dense and hybrid search."""
    retrievers = {"BM25": RetrieverArguments(index=args.index)}
    if args.dense:
        dense = {"index": args.index, "dense": args.dense, "encoder": args.encoder}
        retrievers["dense"] = RetrieverArguments(**dense)
        retrievers["hybrid"] = RetrieverArguments(**dense, hybrid=True)
    return retrievers


def main() -> None:
    """Measure everything and print tables."""
    parser = make_parser(__doc__, needs_dense=False)
    parser.add_argument("--soak", type=int, metavar="N", help="only send N queries to one server")
    args = parser.parse_args()
    questions = load_questions(args.data)
    serve = ["-m", "tspo_trl.cli.main", "serve", "--index", args.index, "--port", "0"]

    if args.soak:
        with server(serve) as (url, process):
            results: dict[str, Any] = {"soak": soak(url, process, questions, args.soak)}
    else:
        results = measure_all(args, serve, questions)
    if args.json:
        args.json.write_text(json.dumps({"cores": os.cpu_count(), **results}, indent=2) + "\n", encoding="utf-8")


def measure_all(args: argparse.Namespace, serve: list[str], questions: list[str]) -> dict[str, Any]:
    """Measure every retriever, then the server."""
    retrievers = {
        name: in_own_process(measure_retriever, one, questions) for name, one in local_retrievers(args).items()
    }
    with server(serve) as (url, process):
        remote = RetrieverArguments(retriever_url=[url])
        retrievers["remote (BM25)"] = in_own_process(measure_retriever, remote, questions)
        plain = measure_requests(url, questions)
        ours = measure_load(url, questions) | {"resident_mb": process.memory_info().rss / 2**20}
    here = Path(__file__).parent
    with server([str(here / "sequential_server.py"), args.index]) as (url, process):
        theirs = measure_load(url, questions) | {"resident_mb": process.memory_info().rss / 2**20}

    print_table("retriever, batch size", retrievers)
    print_table("one connection, queries per request", {"HTTP": plain})
    ratio = plain["512"]["queries_per_second"] / plain["1"]["queries_per_second"]
    print(f"\n512 queries per request: {ratio:.1f} times the queries per second of one per request")
    print_table("server, clients x queries per request", {"tspo-trl serve": ours, "one query after another": theirs})
    return {"retrievers": retrievers, "plain_client": plain, "server": ours, "one_query_after_another": theirs}


if __name__ == "__main__":
    main()
