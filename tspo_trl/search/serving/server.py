"""HTTP server around a retriever that speaks Search-R1's protocol.

`POST /retrieve` searches. [`~tspo_trl.search.serving.batching.BatchingSearcher`] merges concurrent requests.
`/healthz`, `/stats` and `/metrics` report the state of the server. A wrong request is answered with
`{"detail": "..."}` and a 4xx status. A failed search is answered with status 503 and the positions of all queries that
failed: `{"detail": "...", "failed": [0, 2]}`. The client can then ask the other queries again. If a client leaves,
its search is not run.

A web page in a browser on this machine cannot search: the server only answers to known host names, and only to JSON,
which a page may not send to another site.
"""

import asyncio
import hmac
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BaseModel, StrictStr, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from ... import __version__
from ..base import MAX_QUERY_LENGTH, Passage, Retriever
from ..identity import identity_of
from .batching import BatchingSearcher, QueueFullError, Results
from .hosts import check_allowed_hosts, host_name, is_allowed
from .statistics import ServerStatistics
from .wire import check_token

logger = logging.getLogger(__name__)

_SHOWN = 10  # failed positions in the text of an answer
_BODY_TIMEOUT = 60.0  # seconds in which the whole body must come
_CLIENT_LEFT = 499  # nginx's status; only the statistics see it


@dataclass(frozen=True)
class RequestLimits:
    """
    Limits of one request.

    Args:
        max_queries (`int`, *optional*, defaults to `4096`):
            Maximum number of queries in a request.
        max_query_length (`int`, *optional*, defaults to `16384`):
            Maximum number of characters of a query.
        max_body_size (`int`, *optional*, defaults to `16777216`):
            Maximum number of bytes of the body.
        max_top_k (`int`, *optional*, defaults to `100`):
            Maximum number of passages per query.

    Raises:
        `ValueError`: if a limit is less than 1.
    """

    max_queries: int = 4096
    max_query_length: int = MAX_QUERY_LENGTH
    max_body_size: int = 16 * 2**20
    max_top_k: int = 100

    def __post_init__(self) -> None:
        for limit in fields(self):
            if getattr(self, limit.name) < 1:
                raise ValueError(f"{limit.name} is {getattr(self, limit.name)}. It must be at least 1.")


class _RetrieveRequest(BaseModel):
    """As lenient as Search-R1: `topk` may be "3" and `return_scores` may be 1."""

    queries: list[StrictStr]
    topk: int | None = None
    return_scores: bool | None = None


def create_app(
    retriever: Retriever,
    *,
    default_top_k: int = 3,
    limits: RequestLimits | None = None,
    token: str | None = None,
    allowed_hosts: Sequence[str] = (),
    max_batch_size: int = 512,
    merge_window: float = 0.002,
    max_waiting: int = 16384,
) -> FastAPI:
    """
    Create the server as an ASGI application. Run it in one process.

    Args:
        retriever ([`~tspo_trl.search.Retriever`]):
            Retriever that answers the queries.
        default_top_k (`int`, *optional*, defaults to `3`):
            Number of passages per query if `topk` in the request is missing, null or 0.
        limits ([`RequestLimits`], *optional*):
            Limits of one request. Defaults to those of [`RequestLimits`].
        token (`str`, *optional*):
            If given, all routes except `/healthz` require the header `Authorization: Bearer <token>`.
        allowed_hosts (sequence of `str`, *optional*, defaults to `()`):
            Host names in the URLs of clients, without ports. `"*.example.com"` allows all names that end in
            `.example.com`, and `"*"` all names. `localhost`, loopback addresses and the address of the server are
            always allowed.
        max_batch_size (`int`, *optional*, defaults to `512`):
            Maximum number of queries in one call of the retriever.
        merge_window (`float`, *optional*, defaults to `0.002`):
            Number of seconds that a request waits for others to be merged with it.
        max_waiting (`int`, *optional*, defaults to `16384`):
            Maximum number of waiting queries. Further requests are answered with status 503.

    Returns:
        `FastAPI`: the application. Its `state.searcher` is the batching searcher.

    Raises:
        `ValueError`: if a number is out of range, `token` cannot be sent in a header, or `allowed_hosts` contains
            anything other than host names.
    """
    limits = limits or RequestLimits()
    if not 1 <= default_top_k <= limits.max_top_k:
        raise ValueError(f"default_top_k is {default_top_k}. It must be from 1 to max_top_k, {limits.max_top_k}.")
    if token is not None:
        check_token(token)
    searcher = BatchingSearcher(
        retriever, max_batch_size=max_batch_size, merge_window=merge_window, max_waiting=max_waiting
    )
    return _app(_Endpoints(searcher, default_top_k, limits, token), check_allowed_hosts(allowed_hosts))


def _app(endpoints: "_Endpoints", allowed_hosts: tuple[str, ...]) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        endpoints.searcher.start()
        yield
        await endpoints.searcher.close()

    app = FastAPI(title="tspo-trl retrieval server", version=__version__, lifespan=lifespan, openapi_url=None)
    app.state.searcher = endpoints.searcher
    app.add_api_route("/retrieve", endpoints.retrieve, methods=["POST"])
    app.add_api_route("/healthz", endpoints.healthz)
    app.add_api_route("/stats", endpoints.stats)
    app.add_api_route("/metrics", endpoints.metrics)
    app.add_middleware(_KnownHosts, allowed_hosts=allowed_hosts)
    return app


class _KnownHosts:
    """Refuses requests that name another host, whatever their route, before their body is read."""

    def __init__(self, app: ASGIApp, allowed_hosts: tuple[str, ...]):
        self._app = app
        self._allowed_hosts = allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = [value for name, value in scope["headers"] if name == b"host"]
        name = host_name(headers[0].decode("latin-1")) if len(headers) == 1 else None
        if name is None:
            return JSONResponse({"detail": "The request needs one header `Host` with a name or an address."}, 400)
        if is_allowed(name, self._allowed_hosts) or name == (scope.get("server") or ("",))[0]:
            return None
        detail = f"The host {name:.80} is unknown. To allow it, start the server with --allowed-host {name:.80}."
        return JSONResponse({"detail": detail}, 403)


class _Endpoints:
    def __init__(self, searcher: BatchingSearcher, default_top_k: int, limits: RequestLimits, token: str | None):
        self.searcher = searcher
        self._default_top_k = default_top_k
        self._limits = limits
        self._token = token
        self._statistics = ServerStatistics(searcher)
        identity = identity_of(searcher.retriever).to_dict()
        self._health = {"status": "ok", "retriever": identity, "version": __version__}

    async def healthz(self) -> Response:
        return JSONResponse(self._health)

    async def stats(self, request: Request) -> Response:
        self._check_token(request)
        return JSONResponse(self._statistics.summary())

    async def metrics(self, request: Request) -> Response:
        self._check_token(request)
        return Response(self._statistics.exposition(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def retrieve(self, request: Request) -> Response:
        start = time.perf_counter()
        try:
            response = await self._answer(request)
        except HTTPException as refusal:
            response = JSONResponse({"detail": refusal.detail}, refusal.status_code, refusal.headers)
        except Exception as error:
            logger.exception("A request could not be answered")
            detail = f"The search raised {type(error).__name__}. See the log of the server."
            response = JSONResponse({"detail": detail}, 500)
        self._statistics.count_request(response.status_code, time.perf_counter() - start)
        return response

    async def _answer(self, request: Request) -> Response:
        self._check_token(request)
        _check_content_type(request)
        asked = _parse(await _read_body(request, self._limits.max_body_size))
        _check_limits(asked, self._limits)
        try:
            results = await self._search(asked, request)
        except QueueFullError as error:
            raise HTTPException(503, f"{error} Try again later.", {"Retry-After": "1"}) from error
        failed = [position for position, passages in enumerate(results) if passages is None]
        if failed:
            return self._failure(failed, len(results))
        items = [[_item(passage, asked.return_scores) for passage in passages or []] for passages in results]
        return Response(json.dumps({"result": items}), media_type="application/json")

    async def _search(self, asked: _RetrieveRequest, request: Request) -> Results:
        """Search, but stop when the client leaves, so that an abandoned search does not delay the others."""
        search = asyncio.ensure_future(self.searcher.search(asked.queries, asked.topk or self._default_top_k))
        departure = asyncio.ensure_future(_departure(request))
        try:
            await asyncio.wait([search, departure], return_when=asyncio.FIRST_COMPLETED)
            if search.done():
                return search.result()
            raise HTTPException(_CLIENT_LEFT, "The client left.")
        finally:
            search.cancel()
            departure.cancel()

    def _check_token(self, request: Request) -> None:
        if self._token is None:
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        matches = hmac.compare_digest(token.strip().encode(), self._token.encode())
        if scheme.lower() != "bearer" or not matches:
            detail = "The header `Authorization: Bearer <token>` is missing or has a wrong token."
            raise HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})

    def _failure(self, failed: list[int], queries: int) -> Response:
        self._statistics.count_failed(len(failed))
        detail = f"The search failed for {len(failed)} of {queries} queries: {_named(failed)}."
        return JSONResponse({"detail": detail, "failed": failed}, 503)


def _check_content_type(request: Request) -> None:
    """Without asking first, browsers let a web page send plain text and forms to other sites, but no JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        given = f"is {kind:.80}" if kind else "is missing"
        raise HTTPException(415, f"The header `Content-Type` {given}. It must be application/json.")


async def _read_body(request: Request, limit: int) -> bytes:
    """Read the body, but never keep more than the limit, whatever length was announced."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise HTTPException(413, f"The body has {announced} bytes and may have {limit}. Send fewer queries at a time.")
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_TIMEOUT):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise HTTPException(413, f"The body has more than {limit} bytes. Send fewer queries at a time.")
    except TimeoutError as error:
        raise HTTPException(408, f"The body did not come within {_BODY_TIMEOUT:g} s.") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "The body ended early.") from error  # only the statistics see it
    return bytes(body)


async def _departure(request: Request) -> None:
    """Wait until the client closes the connection. Its body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _parse(body: bytes) -> _RetrieveRequest:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"The body is not valid JSON: {error}.") from error
    try:
        return _RetrieveRequest.model_validate(values)
    except ValidationError as error:
        raise HTTPException(422, _explain(error)) from error


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = "".join(f"[{part}]" if isinstance(part, int) else part for part in first["loc"]) or "the body"
    if first["type"] == "missing":
        return f"{name} is missing."
    return f"{name} is {first['input']!r:.80}: {first['msg']}."


def _check_limits(asked: _RetrieveRequest, limits: RequestLimits) -> None:
    if len(asked.queries) > limits.max_queries:
        detail = f"queries has {len(asked.queries)} items and may have {limits.max_queries}. Send several requests."
        raise HTTPException(413, detail)
    for position, query in enumerate(asked.queries):
        if len(query) > limits.max_query_length:
            detail = f"queries[{position}] has {len(query)} characters and may have {limits.max_query_length}."
            raise HTTPException(422, detail)
    if asked.topk is not None and not 0 <= asked.topk <= limits.max_top_k:
        detail = f"topk is {asked.topk!r:.80}. It may be from 1 to {limits.max_top_k}, or 0 for the default."
        raise HTTPException(422, detail)


def _item(passage: Passage, return_scores: bool | None) -> dict[str, Any]:
    document = {
        "id": passage.id,
        "title": passage.title,
        "text": passage.text,
        "contents": passage.contents,
    }
    if not return_scores:
        return document
    if passage.score is None or not math.isfinite(passage.score):  # JSON has no NaN
        return {"document": document}
    return {"document": document, "score": passage.score}


def _named(positions: Sequence[int]) -> str:
    more = f" and {len(positions) - _SHOWN} more" if len(positions) > _SHOWN else ""
    return ", ".join(f"queries[{position}]" for position in positions[:_SHOWN]) + more
