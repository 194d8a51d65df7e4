"""A server whose retriever finds the query itself, which tests start in another process.

The query says what goes wrong: `fail ...` fails, `bug` raises, `until FILE` waits until the file exists, and
`unranked` finds passages with scores that are not finite. The argument is JSON: the arguments of `create_app`, and
`stop_timeout`.
"""

import json
import socket
import sys
import time
from pathlib import Path

from tspo_trl.cli.serve import serve
from tspo_trl.search import Passage, SearchError
from tspo_trl.search.serving.server import RequestLimits, create_app

UNRANKED = [float("nan"), float("inf"), float("-inf"), None]


class EchoRetriever:
    """Finds the query itself, and counts its calls."""

    def __init__(self):
        self.calls = 0

    def search(self, queries, k):
        self.calls += 1
        if "bug" in queries:
            raise AttributeError("a defect")
        for query in queries:
            if query.startswith("until "):
                wait_for(Path(query.removeprefix("until ")))
        results = [None if query.startswith("fail") else passages(query, k) for query in queries]
        if not any(results):
            raise SearchError("the backend is down")
        return results

    def counters(self):
        return {"calls": self.calls}


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.005)


def passages(query, k):
    scores = UNRANKED if query == "unranked" else [-float(rank) for rank in range(k)]
    return [Passage(str(rank), f'"{query}"', f"rank {rank}", score=score) for rank, score in enumerate(scores[:k])]


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    stop_timeout = settings.pop("stop_timeout", 30)
    limits = RequestLimits(**settings.pop("limits", {}))
    app = create_app(EchoRetriever(), limits=limits, **settings)
    serve(app, socket.create_server(("127.0.0.1", 0)), stop_timeout=stop_timeout)
