"""HTTP for a caller that is not asynchronous: one aiohttp session on an event loop in a thread of its own.

So it works where another event loop runs (notebooks) and from several Python threads. Every failure is a
[`RequestError`]. aiohttp is imported when a client is made.
"""

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import aiohttp

Result = TypeVar("Result")

LARGEST_BODY = 256 * 2**20
_LARGEST_ERROR = 16 * 2**10  # bytes that are read of an error's body
_CLOSING = 5.0  # seconds that closing may take


class RequestError(Exception):
    """A request that got no usable answer."""


class UnreachableError(RequestError):
    """The connection failed, or the answer was not complete in time."""


class AnswerError(RequestError):
    """The server answered with something that cannot be read."""


class StatusError(RequestError):
    """
    The server answered with another status than success.

    Args:
        status (`int`):
            The HTTP status.
        reason (`str`):
            What the server says about it, may be empty.
        body (`bytes`, *optional*, defaults to `b""`):
            The first 16 KiB of the answer, as they came.
    """

    def __init__(self, status: int, reason: str, body: bytes = b""):
        super().__init__(f"HTTP {status} {reason}".strip())
        self.status = status
        self.body = body


class ClosedError(RequestError):
    """The client was closed before the answer came."""


class HTTPClient:
    """
    A pool of keep-alive connections. It works in the process that made it, until it is closed.

    Args:
        token (`str`, *optional*):
            Sent as `Authorization: Bearer`.
    """

    def __init__(self, token: str | None = None):
        import aiohttp  # noqa: F401 (where it is missing, that shows here and not in the thread)

        self._pid = os.getpid()
        self._token = token
        self._lock = threading.Lock()
        self._is_closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="tspo-trl-http", daemon=True)
        self._thread.start()
        self._session = self.run(self._open_session())

    @property
    def is_foreign(self) -> bool:
        """Whether this process was forked from the one that made the client."""
        return self._pid != os.getpid()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """
        Run a coroutine on the client's event loop and wait for it.

        Args:
            coroutine (`Coroutine`):
                It may await [`HTTPClient.request`]. It is cancelled when the wait is interrupted (Ctrl-C).

        Returns:
            What the coroutine returns.

        Raises:
            [`ClosedError`]: if the client was closed before the coroutine ended.
        """
        with self._lock:
            if self._is_closed:
                coroutine.close()
                raise ClosedError("the client is closed")
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise ClosedError("the client was closed meanwhile") from None
        finally:
            future.cancel()

    async def request(self, method: str, url: str, timeout: float, body: bytes | None = None) -> bytes:
        """
        Send one request and read the whole answer, up to 256 MiB.

        Args:
            method (`str`):
                `"GET"` or `"POST"`.
            url (`str`):
                Where to. Redirects are not followed: they would turn a POST into a GET.
            timeout (`float`):
                Seconds from the first step of connecting to the last byte.
            body (`bytes`, *optional*):
                JSON to send.

        Returns:
            `bytes`: the body of the answer.

        Raises:
            [`RequestError`]: [`UnreachableError`], [`StatusError`] or [`AnswerError`].
        """
        import aiohttp

        try:
            async with (
                asyncio.timeout(timeout),
                self._session.request(method, url, data=body, allow_redirects=False) as response,
            ):
                if not 200 <= response.status < 300:
                    body = await _error_body(response)
                    reason = _in_short(self._without_token(_reason(response, body)))
                    raise StatusError(response.status, reason, body)
                return await _read(response)
        except TimeoutError as error:
            raise UnreachableError(f"no complete answer within {timeout:g} s") from error
        except (aiohttp.ClientConnectionError, OSError) as error:
            raise UnreachableError(_in_short(str(error)) or type(error).__name__) from error
        except aiohttp.ClientError as error:
            raise AnswerError(f"the answer is broken: {_in_short(self._without_token(str(error)))}") from error

    def close(self) -> None:
        """Cancel what is under way and close all connections. In a forked process the parent's stay untouched."""
        if self.is_foreign:
            # Nothing may be closed here: the event loop shares its selector with the parent's. CPython keeps what the
            # stack of the thread holds, which did not come along, so the session is not collected either.
            return
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop)
        if threading.current_thread() is not self._thread:  # the garbage collector may run this anywhere
            self._thread.join(_CLOSING)

    def _serve(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    async def _open_session(self) -> "aiohttp.ClientSession":
        import aiohttp

        headers = {"Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # callers bound their requests; waiting here would eat timeouts
            timeout=aiohttp.ClientTimeout(total=None),  # every request has its own
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
        )

    async def _shut_down(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._session.close()
        self._loop.stop()

    def _without_token(self, text: str) -> str:
        return text.replace(self._token, "***") if self._token else text


async def _read(response: "aiohttp.ClientResponse") -> bytes:
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > LARGEST_BODY:
            raise AnswerError(f"the answer is larger than {LARGEST_BODY} bytes")
    return b"".join(chunks)


async def _error_body(response: "aiohttp.ClientResponse") -> bytes:
    """The beginning of an error's body, or what there is of it if it ends early: the status tells the most."""
    import aiohttp

    body = b""
    try:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) >= _LARGEST_ERROR:
                break
    except aiohttp.ClientError:
        pass
    return body[:_LARGEST_ERROR]


def _reason(response: "aiohttp.ClientResponse", body: bytes) -> str:
    """Where a redirect leads, else the text of an error, else the status in words."""
    if 300 <= response.status < 400:
        target = response.headers.get("Location", "an address that it does not name")
        return f"redirects to {target[:100]}, which is not followed: change the URL in `urls`"
    return body.decode(errors="replace").strip() or response.reason or ""


def _in_short(text: str) -> str:
    """One printable line of at most 200 characters: what servers send goes to logs."""
    line = " ".join(text.split())[:200]
    return "".join(character if character.isprintable() else "?" for character in line)
