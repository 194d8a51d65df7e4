"""A local OpenAI-compatible endpoint with answers from the test."""

import asyncio
import socket
import threading
from dataclasses import dataclass, field

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response


@dataclass
class Reply:
    """A generated text. `extra` contains further fields of the choice, such as vLLM's `stop_reason`."""

    text: str | None
    finish_reason: str | None = "stop"
    extra: dict = field(default_factory=dict)
    seconds: float = 0.0


@dataclass
class Status:
    """An error."""

    code: int
    message: str = "no"
    headers: dict = field(default_factory=lambda: {"retry-after-ms": "1"})


class EndpointServer:
    """
    The endpoint, seen from a test; a context manager.

    Attributes:
        models: The response to `GET /v1/models`, none by default.
        answer: From the body of a request to a [`Reply`], a [`Status`], or the bytes of a response.
        requests: The bodies, in the order in which they came.
        headers: Their headers.
        most_together: The most requests that were under way at the same time.
    """

    def __init__(self):
        self.answer = lambda body: Reply("Paris")
        self.models = None
        self.requests, self.headers, self.paths = [], [], []
        self.together = self.most_together = 0

    def __enter__(self):
        app = FastAPI()
        app.add_api_route("/v1/models", self._list_models)
        app.add_api_route("/v1/{api:path}", self._respond, methods=["POST"])
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    @property
    def num_connections(self):
        """Number of open connections."""
        return len(self._server.server_state.connections)

    async def _list_models(self):
        return JSONResponse({}, 404) if self.models is None else self.models

    async def _respond(self, request: Request):
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        self.paths.append(request.url.path)
        self.together += 1
        self.most_together = max(self.most_together, self.together)
        try:
            answer = self.answer(body)
            if isinstance(answer, Reply):
                await asyncio.sleep(answer.seconds)
                return _completion(answer, is_chat=request.url.path == "/v1/chat/completions")
            if isinstance(answer, Status):
                error = {"error": {"message": answer.message, "type": "error", "code": answer.code}}
                return JSONResponse(error, answer.code, answer.headers)
            return Response(answer, media_type="application/json")
        finally:
            self.together -= 1


def _completion(reply, is_chat):
    text = {"message": {"role": "assistant", "content": reply.text}} if is_chat else {"text": reply.text}
    choice = {"index": 0, **text, "logprobs": None, "finish_reason": reply.finish_reason, **reply.extra}
    kind = "chat.completion" if is_chat else "text_completion"
    return {"id": "1", "object": kind, "created": 0, "model": "policy", "choices": [choice]}


def in_turn(*answers):
    """Give the answers in order, then repeat the last one."""
    waiting = list(answers)
    return lambda body: waiting.pop(0) if len(waiting) > 1 else waiting[0]


def free_url():
    """Return a URL without a server."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
