"""A retriever that is a server: the client of Search-R1's `/retrieve`.

Whatever the servers do, a search ends within a bound, and what could not be searched is a failure ([`SearchError`],
or `None` for a single query), never an empty result.
"""

import asyncio
import logging
import math
import random
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ..base import Passage, SearchError, check_search
from ..identity import RetrieverIdentity
from ..serving.wire import encode_request, parse_answer, parse_failed, parse_identity
from .http_client import AnswerError, ClosedError, HTTPClient, RequestError, StatusError, UnreachableError
from .replicas import Replicas

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Outcome = list[Passage] | RequestError  # of a query: its passages, or why there are none

_LONGEST_WAIT = 30.0  # seconds, between two attempts
_HEALTH_TIMEOUT = 5.0  # seconds
_RETRIED_STATUS = {408, 429}  # and all from 500
_NOT_OF_A_QUERY = {401, 403, 404, 405}  # which no query is the cause of


class RemoteRetriever:
    """
    Search on a retrieval server: `tspo-trl serve`, Search-R1's, or another with the same `/retrieve`.

    Queries are sent in requests of at most `batch_size`, several at once, over connections that are kept alive.
    Replicas are asked in turn. One that cannot be reached is set aside and tried again later.

    A request is repeated after connection errors, timeouts, the statuses 408, 429 and from 500, and answers that
    cannot be read: at once at a replica that it has not tried, else after a wait that doubles each time. When the
    servers keep answering a request with an error status, its queries are asked one by one, once each (and at another
    replica where one fails), because one of them may be the cause (of 401, 403, 404, 405 and redirects none is). That
    is done without repeating the request when the server says that only some of its queries failed: with `"failed"`,
    their positions, in the JSON of the error. A query that still has no answer is `None`.

    A search takes at most `(2 * max_retries + 3 * number of urls) * timeout` seconds plus the waits (`max_retries` of
    at most 30 s), times the number of requests divided by `max_concurrency`, rounded up.

    Servers are contacted by searches only, so they may start later. One retriever may be used from several Python
    threads, in notebooks and in forked processes. A pickled one holds the token.

    Args:
        urls (`str` or sequence of `str`):
            The server, such as `"http://localhost:8000"`, or all its replicas. A trailing `/retrieve` is accepted.
        batch_size (`int`, *optional*, defaults to `64`):
            Queries per request.
        max_concurrency (`int`, *optional*, defaults to `8`):
            Requests that one search has under way at the same time.
        timeout (`float`, *optional*, defaults to `30.0`):
            Seconds for a request, from connecting to the last byte of the answer.
        max_retries (`int`, *optional*, defaults to `5`):
            How often a request is repeated after a wait. Replicas that it has not tried come first and do not count.
            With the default waits this bridges up to 15 seconds in which no server is there; raise it where a
            restart takes longer.
        backoff (`float`, *optional*, defaults to `0.5`):
            Seconds of the first wait. It doubles up to 30 s, and each wait is shortened at random by up to a half.
        set_aside (`float`, *optional*, defaults to `30.0`):
            For how many seconds a replica that cannot be reached is left alone.
        token (`str`, *optional*):
            Sent as `Authorization: Bearer`.

    Raises:
        `TypeError`: if `urls` holds something else than strings.
        `ValueError`: if a URL is not like `http://host:8000`, a number is out of range or the token is not printable.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        batch_size: int = 64,
        max_concurrency: int = 8,
        timeout: float = 30.0,
        max_retries: int = 5,
        backoff: float = 0.5,
        set_aside: float = 30.0,
        token: str | None = None,
    ):
        _check_at_least(1, batch_size=batch_size, max_concurrency=max_concurrency)
        _check_at_least(0, max_retries=max_retries, backoff=backoff, set_aside=set_aside)
        _check_timeout(timeout)
        _check_token(token)
        self.urls = _checked_urls(urls)
        self.batch_size = batch_size
        self.max_concurrency = max_concurrency
        self.timeout = timeout
        self.max_retries = max_retries
        self.backoff = backoff
        self.set_aside = set_aside
        self._token = token
        self._lock = threading.Lock()
        self._client: HTTPClient | None = None
        self._close_client: Callable[[], Any] = lambda: None
        # Replicas and counters change on the client's event loop only.
        self._replicas = Replicas(self.urls, set_aside)
        self._counters = Counter({"requests": 0, "retries": 0, "failed_requests": 0, "replicas_set_aside": 0})
        self._identity: RetrieverIdentity | None = None
        self._random = random.Random()  # not the global one: that may be seeded, and has to stay reproducible

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage] | None]:
        """
        Search a batch of queries.

        Args:
            queries (sequence of `str`):
                Any text. Lone surrogates are replaced.
            k (`int`):
                How many passages to return at most for each query, at least 1.

        Returns:
            `list[list[Passage] | None]`: for each query in order its passages, in the order of the server; `None`
            where the search failed after all retries (the reasons are logged).

        Raises:
            `TypeError`: if `queries` is a single string or holds something else than strings.
            `ValueError`: if `k` is less than 1.
            [`SearchError`]: if every query failed; the message has the last reason.
        """
        check_search(queries, k)
        if not queries:
            return []
        try:
            outcomes = self._run(lambda client: self._ask_all(client, list(queries), k))
        except ClosedError as error:
            raise SearchError(f"The search of {len(queries)} queries was given up: {error}.") from error
        failures = [outcome for outcome in outcomes if isinstance(outcome, RequestError)]
        if len(failures) == len(queries):
            raise SearchError(
                f"All {len(queries)} searches at {', '.join(self.urls)} failed: {failures[-1]}."
            ) from failures[-1]
        return [None if isinstance(outcome, RequestError) else outcome for outcome in outcomes]

    @property
    def identity(self) -> RetrieverIdentity:
        """
        What the server says it serves (`GET /healthz`), kept once it has answered; just the name while it has not.

        It is never asked again: after a server has come back with another index, make a new retriever. URLs are not
        in it: replicas move. Each is asked for at most 5 s.
        """
        if self._identity is None:
            try:
                self._identity = self._run(self._ask_identity)
            except ClosedError as error:
                logger.warning("The server was not asked what it serves: %s", error)
        return self._identity or RetrieverIdentity("RemoteRetriever")

    def counters(self) -> dict[str, int]:
        """
        What this retriever has counted since it was made.

        Returns:
            `dict[str, int]`: `requests` that were sent, those `retries` among them that repeated a failed one,
            `failed_requests` that were given up, and `replicas_set_aside`, how often that happened.
        """
        return dict(self._counters)

    def close(self) -> None:
        """Close the connections; a search under way in another thread fails. A later search opens them again."""
        with self._lock:
            self._close_client()
            self._client = None

    def __enter__(self) -> "RemoteRetriever":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RemoteRetriever({list(self.urls)!r})"

    def __reduce__(self) -> tuple[Callable[..., "RemoteRetriever"], tuple[list[str]]]:
        names = ("batch_size", "max_concurrency", "timeout", "max_retries", "backoff", "set_aside")
        options = {name: getattr(self, name) for name in names}
        return partial(RemoteRetriever, **options, token=self._token), (list(self.urls),)

    def _run(self, ask: Callable[[HTTPClient], Coroutine[Any, Any, Result]]) -> Result:
        client = self._open_client()
        return client.run(ask(client))

    def _open_client(self) -> HTTPClient:
        """The client of this process: a process that was forked needs connections of its own."""
        with self._lock:
            if self._client is None or self._client.is_foreign:
                self._close_client()
                self._client = HTTPClient(self._token)
                # Runs when this retriever is collected, or else when the interpreter exits, while the event loop
                # still works. Without it aiohttp would warn of an unclosed session there, and the thread would stay.
                self._close_client = weakref.finalize(self, self._client.close)
            return self._client

    async def _ask_all(self, client: HTTPClient, queries: list[str], k: int) -> list[Outcome]:
        slots = asyncio.Semaphore(self.max_concurrency)

        async def ask(batch: list[str]) -> list[Outcome]:
            async with slots:
                return await self._ask_batch(client, batch, k)

        batches = [queries[start : start + self.batch_size] for start in range(0, len(queries), self.batch_size)]
        outcomes = await asyncio.gather(*map(ask, batches))
        return [outcome for batch in outcomes for outcome in batch]

    async def _ask_batch(self, client: HTTPClient, queries: list[str], k: int) -> list[Outcome]:
        try:
            return await self._ask_with_retries(client, queries, k, self.max_retries)
        except RequestError as error:
            self._counters["failed_requests"] += 1
            logger.warning("A request of %d queries is given up: %s", len(queries), error)
            if len(queries) > 1 and _may_be_of_a_query(error):
                return await self._ask_one_by_one(client, queries, k)
            return [error] * len(queries)

    async def _ask_with_retries(
        self, client: HTTPClient, queries: list[str], k: int, max_retries: int
    ) -> list[Outcome]:
        """Ask the replicas that are in use, each once; then wait and ask again, `max_retries` times."""
        tried: set[str] = set()
        wait, num_waits = self.backoff, 0
        while True:
            try:
                return await self._ask_next(client, queries, k, tried)
            except RequestError as error:
                has_another = self._replicas.has_another(tried)
                if not _is_retried(error, len(queries)) or (num_waits == max_retries and not has_another):
                    raise
            if not has_another:
                await asyncio.sleep(min(wait, _LONGEST_WAIT) * self._random.uniform(0.5, 1.0))
                wait, num_waits = wait * 2, num_waits + 1
            self._counters["retries"] += 1

    async def _ask_one_by_one(self, client: HTTPClient, queries: list[str], k: int) -> list[Outcome]:
        """Ask each query alone, and begin with none after the time that a request with its retries may take."""
        deadline = time.monotonic() + (self.max_retries + len(self.urls)) * self.timeout
        return [await self._ask_alone(client, query, k, deadline) for query in queries]

    async def _ask_alone(self, client: HTTPClient, query: str, k: int, deadline: float) -> Outcome:
        try:
            if time.monotonic() >= deadline:
                raise UnreachableError("no time was left to ask it alone")
            [outcome] = await self._ask_with_retries(client, [query], k, max_retries=0)
            return outcome
        except RequestError as error:
            self._counters["failed_requests"] += 1
            logger.warning("The search for %.200r failed: %s", query, error)
            return error

    async def _ask_next(self, client: HTTPClient, queries: list[str], k: int, tried: set[str]) -> list[Outcome]:
        """Ask the next replica, add it to `tried`, and remember whether it could be reached."""
        url = self._replicas.next(tried)
        tried.add(url)
        self._counters["requests"] += 1
        try:
            body = await client.request("POST", f"{url}/retrieve", self.timeout, encode_request(queries, k))
            self._replicas.restore(url)
            return _outcomes(body, len(queries), k)
        except RequestError as error:
            logger.warning("%s failed a request of %d queries: %s", url, len(queries), error)
            if isinstance(error, UnreachableError):
                self._set_replica_aside(url)
            else:
                self._replicas.restore(url)
            raise

    def _set_replica_aside(self, url: str) -> None:
        if self._replicas.set_aside(url):
            self._counters["replicas_set_aside"] += 1
            logger.warning("%s cannot be reached and is set aside for %g s.", url, self.set_aside)

    async def _ask_identity(self, client: HTTPClient) -> RetrieverIdentity | None:
        """Ask the replicas in turn until one answers; `None` if none does."""
        unknown = RetrieverIdentity("RemoteRetriever")
        for url in self.urls:
            try:
                body = await client.request("GET", f"{url}/healthz", min(self.timeout, _HEALTH_TIMEOUT))
            except RequestError as error:
                if isinstance(error, StatusError) and error.status in (404, 405):
                    return unknown  # a server that has no such route, and will have none
                logger.info("%s does not say what it serves: %s", url, error)
                continue
            served = parse_identity(body)
            if served is None:
                return unknown
            return RetrieverIdentity("RemoteRetriever", served.fingerprint, {"served": served.to_dict()})
        return None


def _outcomes(body: bytes, num_queries: int, k: int) -> list[Outcome]:
    try:
        answer = parse_answer(body, num_queries, k)
    except ValueError as error:
        raise AnswerError(str(error)) from error
    return [AnswerError("the server gave null") if passages is None else passages for passages in answer]


def _is_retried(error: RequestError, num_queries: int) -> bool:
    if not isinstance(error, StatusError):
        return True
    if 0 < len(parse_failed(error.body, num_queries)) < num_queries:
        return False  # the same queries would fail it again, and the others wait for that
    return error.status in _RETRIED_STATUS or error.status >= 500


def _may_be_of_a_query(error: RequestError) -> bool:
    return isinstance(error, StatusError) and error.status >= 400 and error.status not in _NOT_OF_A_QUERY


def _checked_urls(urls: str | Sequence[str]) -> tuple[str, ...]:
    listed = [urls] if isinstance(urls, str) else list(urls)
    if not listed:
        raise ValueError("urls is empty: pass the URL of at least one server, such as 'http://localhost:8000'.")
    return tuple(dict.fromkeys(map(_checked_url, listed)))


def _checked_url(url: str) -> str:
    """The URL without a trailing `/retrieve`."""
    if not isinstance(url, str):
        raise TypeError(f"urls holds {url!r}: every URL has to be a string.")
    try:
        parts = urlsplit(url)
        name = (parts.hostname or "").encode("idna")
        is_usable = parts.scheme in ("http", "https") and bool(name) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or "@" in url or "?" in url or "#" in url or not url.isprintable() or " " in url:
        shown = url.rpartition("@")[2]  # a password may stand before it
        raise ValueError(f"urls holds {shown!r}: it has to be like 'http://localhost:8000'; secrets go to `token`.")
    return url.rstrip("/").removesuffix("/retrieve").rstrip("/")


def _check_at_least(least: int, **numbers: float) -> None:
    for name, number in numbers.items():
        if not least <= number < math.inf:
            raise ValueError(f"{name} is {number}: a finite number of at least {least} is needed.")


def _check_timeout(timeout: float) -> None:
    if not 0 < timeout < math.inf:
        raise ValueError(f"timeout is {timeout}: a finite number of seconds above 0 is needed.")


def _check_token(token: str | None) -> None:
    if token is not None and not (token and token.isascii() and token.isprintable() and " " not in token):
        raise ValueError("token is empty or has characters that no HTTP header can hold: use printable ASCII.")
