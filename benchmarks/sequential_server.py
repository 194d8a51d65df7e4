"""A retrieval server for comparison that works like Search-R1's: one query after another, without merging requests.

python benchmarks/sequential_server.py BM25_INDEX
"""

import socket
import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from tspo_trl.search import BM25Retriever

app = FastAPI()
retriever = BM25Retriever(sys.argv[1])


class QueryRequest(BaseModel):
    """A request in Search-R1's format."""

    queries: list[str]
    topk: int | None = None
    return_scores: bool = False


@app.post("/retrieve")
def retrieve(request: QueryRequest) -> dict:
    """Search for the queries one by one. FastAPI runs a plain function in a thread of its pool."""
    result = []
    for query in request.queries:
        [passages] = retriever.search([query], request.topk or 3)
        result.append([{"document": {"id": p.id, "contents": p.contents}, "score": p.score} for p in passages or []])
    return {"result": result}


if __name__ == "__main__":
    listening = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
