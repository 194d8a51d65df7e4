"""Client of a retrieval server with Search-R1's `/retrieve`.

Every search ends within a time limit. A query that could not be searched is a failure ([`SearchError`], or `None` for
a single query), never an empty result.
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

from ..base import Passage, SearchError, check_search, searchable
from ..identity import RetrieverIdentity
from ..serving.wire import check_token, encode_request, parse_answer, parse_failed, parse_identity
from .http_client import AnswerError, ClosedError, HTTPClient, RequestError, StatusError, UnreachableError
from .replicas import Replicas, checked_urls

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Outcome = list[Passage] | RequestError  # of a query: its passages, or the reason of its failure

_LONGEST_WAIT = 30.0  # seconds between two attempts
_HEALTH_TIMEOUT = 5.0  # seconds
_RETRIED_STATUS = {408, 429}  # and all from 500
_NOT_OF_A_QUERY = {401, 403, 404, 405, 415}  # never caused by a query
_REFUSED_QUERY = {400, 413, 414, 422}  # of a single query: it may be too long for the server
_SHORTEST_CUT = 16  # characters


class RemoteRetriever:
    """
    Client of a retrieval server: `tspo-trl serve`, Search-R1's server, or another with the same `/retrieve`.

    A search sends requests of at most `batch_size` queries, several at a time, over connections that are kept alive.
    It asks replicas in turn. A replica that cannot be reached is set aside and tried again later.

    A request is repeated after connection errors, timeouts, unreadable answers and the statuses 408, 429 and 500 or
    higher. It goes at once to a replica that it has not tried. If it has tried all, it waits first, and each wait is
    twice as long as the previous one. If the servers keep answering with an error status, one query may be the cause.
    Then each query is asked alone, once, and again at another replica if that fails. The statuses 401, 403, 404, 405,
    415 and redirects are never caused by a query. If the JSON of the error lists the positions of only some queries in
    `"failed"`, the queries are asked alone without repeating the request. After the status 413 each half of the
    queries is asked. A query that still has no answer is `None`.

    Long queries do not fail: they are cut to 16,384 characters. If a server refuses a query alone with the status 400,
    413, 414 or 422, the query is cut to half its length, again and again, down to 16 characters.

    A search takes at most `(2 * max_retries + 3 * number of urls) * timeout` seconds plus the waits (`max_retries` of
    at most 30 s), times the number of requests divided by `max_concurrency`, rounded up. It may take twice as
    long after the status 413.

    The servers may start after the retriever, because only searches contact them. A retriever works in several Python
    threads, in notebooks and in forked processes. A pickled retriever contains the token.

    Args:
        urls (`str` or sequence of `str`):
            URL of the server, such as `"http://localhost:8000"`, or of all its replicas. A trailing `/retrieve` is
            accepted.
        batch_size (`int`, *optional*, defaults to `64`):
            Maximum number of queries per request.
        max_concurrency (`int`, *optional*, defaults to `8`):
            Maximum number of concurrent requests of one search.
        timeout (`float`, *optional*, defaults to `30.0`):
            Time limit of a request in seconds, from connecting to the last byte of the answer.
        max_retries (`int`, *optional*, defaults to `5`):
            Maximum number of repetitions of a request after a wait. Repetitions at untried replicas do not count.
            The default waits bridge up to 15 seconds without a server. Raise the number if a restart takes longer.
        backoff (`float`, *optional*, defaults to `0.5`):
            First wait in seconds. Waits double up to 30 s, and each is shortened at random by up to a half.
        set_aside (`float`, *optional*, defaults to `30.0`):
            Number of seconds for which a replica that cannot be reached is not asked.
        token (`str`, *optional*):
            Bearer token to send.

    Raises:
        `TypeError`: if `urls` contains anything other than strings.
        `ValueError`: if a URL is not like `http://host:8000`, a number is out of range, or `token` cannot be sent.
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
        if not 0 < timeout < math.inf:
            raise ValueError(f"timeout is {timeout}. It must be a finite number above 0.")
        if token is not None:
            check_token(token)
        self.urls = checked_urls(urls)
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
        # Only the event loop of the client changes replicas and counters.
        self._replicas = Replicas(self.urls, set_aside)
        self._counters = Counter({"requests": 0, "retries": 0, "failed_requests": 0, "replicas_set_aside": 0})
        self._identity: RetrieverIdentity | None = None
        self._random = random.Random()  # the global one may be seeded and must stay reproducible

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage] | None]:
        """
        Search a batch of queries.

        Args:
            queries (sequence of `str`):
                Any text. Lone surrogates are replaced, and long queries are cut.
            k (`int`):
                Maximum number of passages per query, at least 1.

        Returns:
            `list[list[Passage] | None]`: the passages of each query in the order of the server, or `None` if its
            search failed after all retries. The reason is logged.

        Raises:
            `TypeError`: if `queries` is a single string or contains anything other than strings.
            `ValueError`: if `k` is less than 1.
            [`SearchError`]: if every query failed. The message has the last reason.
        """
        check_search(queries, k)
        if not queries:
            return []
        try:
            outcomes = self._run(lambda client: self._ask_all(client, [searchable(query) for query in queries], k))
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
        Identity that the server reports at `GET /healthz`, or just the name until it answers.

        The first answer is kept: if the server restarts with another index, create a new retriever. Each replica is
        asked for at most 5 s. The identity contains no URLs, because replicas move.
        """
        if self._identity is None:
            try:
                self._identity = self._run(self._ask_identity)
            except ClosedError as error:
                logger.warning("The server was not asked for its identity: %s", error)
        return self._identity or RetrieverIdentity("RemoteRetriever")

    def counters(self) -> dict[str, int]:
        """
        Return the counts of this retriever since it was created.

        Returns:
            `dict[str, int]`: `requests` (all that were sent), `retries` (those that repeated a failed request),
            `failed_requests` (those that were given up) and `replicas_set_aside` (how often that happened).
        """
        return dict(self._counters)

    def close(self) -> None:
        """Close the connections. A running search in another thread fails. A later search opens them again."""
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
        """Return the client of this process. A forked process needs its own connections."""
        with self._lock:
            if self._client is None or self._client.is_foreign:
                self._close_client()
                self._client = HTTPClient(self._token)
                # Runs when this retriever is collected or the interpreter exits, while the event loop still works.
                # Otherwise aiohttp would warn of an unclosed session, and the thread would stay.
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

    async def _ask_batch(self, client: HTTPClient, queries: list[str], k: int, end: float = math.inf) -> list[Outcome]:
        """Ask a batch, but start no request after `end`. After a failure, the parts get the time of a request."""
        try:
            if time.monotonic() >= end:
                raise UnreachableError("no time was left to ask it")
            return await self._ask_with_retries(client, queries, k, self.max_retries)
        except RequestError as error:
            self._counters["failed_requests"] += 1
            logger.warning("A request of %d queries is given up: %s", len(queries), error)
            end = min(end, time.monotonic() + (self.max_retries + len(self.urls)) * self.timeout)
            if len(queries) == 1:
                return [await self._ask_shorter(client, queries[0], k, error, end)]
            if isinstance(error, StatusError) and error.status == 413:
                middle = len(queries) // 2
                first = await self._ask_batch(client, queries[:middle], k, end)
                return first + await self._ask_batch(client, queries[middle:], k, end)
            if _may_be_of_a_query(error):
                return [await self._ask_alone(client, query, k, end) for query in queries]
            return [error] * len(queries)

    async def _ask_with_retries(
        self, client: HTTPClient, queries: list[str], k: int, max_retries: int
    ) -> list[Outcome]:
        """Ask each replica in use once. Then wait and ask again, `max_retries` times."""
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

    async def _ask_alone(self, client: HTTPClient, query: str, k: int, end: float) -> Outcome:
        try:
            if time.monotonic() >= end:
                raise UnreachableError("no time was left to ask it alone")
            [outcome] = await self._ask_with_retries(client, [query], k, max_retries=0)
            return outcome
        except RequestError as error:
            self._counters["failed_requests"] += 1
            logger.warning("The search for %.200r failed: %s", query, error)
            return await self._ask_shorter(client, query, k, error, end)

    async def _ask_shorter(self, client: HTTPClient, query: str, k: int, error: RequestError, end: float) -> Outcome:
        """Ask the first half of a query that the server refused. Return the error if it is not too long."""
        if len(query) <= _SHORTEST_CUT or not isinstance(error, StatusError) or error.status not in _REFUSED_QUERY:
            return error
        return await self._ask_alone(client, query[: max(len(query) // 2, _SHORTEST_CUT)], k, end)

    async def _ask_next(self, client: HTTPClient, queries: list[str], k: int, tried: set[str]) -> list[Outcome]:
        """Ask the next replica, add it to `tried`, and record whether it could be reached."""
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
        """Ask the replicas in turn until one answers. Return `None` if no replica does."""
        unknown = RetrieverIdentity("RemoteRetriever")
        for url in self.urls:
            try:
                body = await client.request("GET", f"{url}/healthz", min(self.timeout, _HEALTH_TIMEOUT))
            except RequestError as error:
                if isinstance(error, StatusError) and error.status in (404, 405):
                    return unknown  # the server has no such route
                logger.info("%s does not report its identity: %s", url, error)
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
        return False  # the same queries would fail again and delay the others
    return error.status in _RETRIED_STATUS or error.status >= 500


def _may_be_of_a_query(error: RequestError) -> bool:
    return isinstance(error, StatusError) and error.status >= 400 and error.status not in _NOT_OF_A_QUERY


def _check_at_least(least: int, **numbers: float) -> None:
    for name, number in numbers.items():
        if not least <= number < math.inf:
            raise ValueError(f"{name} is {number}. It must be a finite number of at least {least}.")
