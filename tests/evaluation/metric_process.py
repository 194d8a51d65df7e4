"""Program that loads and computes every metric by name and by path, and exits on any use of the network."""

import json
import os
import sys


def refuse_network(event, args):
    """Audit hook that ends the process, since an exception might be caught."""
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        print(f"The network was used: {event} {args}", file=sys.stderr, flush=True)
        os._exit(1)


sys.addaudithook(refuse_network)

from pathlib import Path  # noqa: E402

import evaluate  # noqa: E402

from tspo_trl.evaluation import metrics  # noqa: E402

INPUTS = {
    "exact_match": {"predictions": ["x", None], "references": [["x"], ["y"]]},
    "f1": {"predictions": ["x", None], "references": [["x"], ["y"]]},
    "cover_exact_match": {"predictions": ["an x", None], "references": [["x"], ["y"]]},
    "retrieval_recall": {"predictions": [["an x"], []], "references": [["x"], ["y"]]},
    "searches": {"predictions": [1, 0]},
}

folder = Path(metrics.__file__).parent
by_name = {name: metrics.load_metric(name).compute(**INPUTS[name]) for name in metrics.METRICS}
by_path = {name: evaluate.load(str(folder / f"{name}.py")).compute(**INPUTS[name]) for name in metrics.METRICS}
print(json.dumps({"folder": str(folder), "by_name": by_name, "by_path": by_path}))
