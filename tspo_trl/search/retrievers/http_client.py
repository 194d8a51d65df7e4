"""HTTP client for synchronous callers: one aiohttp session on an event loop in its own thread.

It therefore works in notebooks, in which another event loop runs, and in several Python threads. Every failure is a
[`RequestError`]. aiohttp is imported when a client is created.
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
_LARGEST_ERROR = 16 * 2**10  # bytes read from the body of an error
_CLOSING = 5.0  # seconds to wait for the thread to end


class RequestError(Exception):
    """The request got no usable answer."""


class UnreachableError(RequestError):
    """The connection failed, or the answer was not complete in time."""


class AnswerError(RequestError):
    """The server sent an unreadable answer."""


class StatusError(RequestError):
    """
    The server answered with an error status or a redirect.

    Args:
        status (`int`):
            HTTP status.
        reason (`str`):
            Reason that the server gives. It may be empty.
        body (`bytes`, *optional*, defaults to `b""`):
            First 16 KiB of the answer.
    """

    def __init__(self, status: int, reason: str, body: bytes = b""):
        super().__init__(f"HTTP {status} {reason}".strip())
        self.status = status
        self.body = body


class ClosedError(RequestError):
    """The client was closed before the answer came."""


class HTTPClient:
    """
    Pool of keep-alive connections. It works until it is closed, and only in the process that created it.

    Args:
        token (`str`, *optional*):
            Bearer token to send.
    """

    def __init__(self, token: str | None = None):
        import aiohttp  # noqa: F401 (if it is missing, fail here and not in the thread)

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
        """Whether this process was forked from the process that created the client."""
        return self._pid != os.getpid()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """
        Run a coroutine on the event loop of the client and wait for it.

        Args:
            coroutine (`Coroutine`):
                Coroutine that may await [`HTTPClient.request`]. Ctrl-C cancels it.

        Returns:
            The return value of the coroutine.

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
            raise ClosedError("the client was closed") from None
        finally:
            future.cancel()

    async def request(self, method: str, url: str, timeout: float, body: bytes | None = None) -> bytes:
        """
        Send one request and read the whole answer, up to 256 MiB.

        Args:
            method (`str`):
                `"GET"` or `"POST"`.
            url (`str`):
                Where to send it. Redirects are not followed, because they would turn a POST into a GET.
            timeout (`float`):
                Time limit in seconds, from connecting to the last byte.
            body (`bytes`, *optional*):
                JSON to send.

        Returns:
            `bytes`: body of the answer.

        Raises:
            [`UnreachableError`], [`StatusError`] or [`AnswerError`]: depending on the failure.
        """
        import aiohttp

        try:
            async with (
                asyncio.timeout(timeout),
                self._session.request(method, url, data=body, allow_redirects=False) as response,
            ):
                if not 200 <= response.status < 300:
                    body = await _error_body(response)
                    reason = in_short(self._without_token(_reason(response, body)))
                    raise StatusError(response.status, reason, body)
                return await _read(response)
        except TimeoutError as error:
            raise UnreachableError(f"no complete answer within {timeout:g} s") from error
        except (aiohttp.ClientConnectionError, OSError) as error:
            raise UnreachableError(in_short(str(error)) or type(error).__name__) from error
        except aiohttp.ClientError as error:
            raise AnswerError(f"the answer is broken: {in_short(self._without_token(str(error)))}") from error

    def close(self) -> None:
        """Cancel all requests and close all connections. In a forked process, do nothing."""
        if self.is_foreign:
            # The event loop shares its selector with the parent, so closing would disturb the parent. The session is
            # not collected either, because CPython keeps the objects on the stack of the thread that was not forked.
            return
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop)
        if threading.current_thread() is not self._thread:  # the garbage collector may call this in any thread
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
            connector=aiohttp.TCPConnector(limit=0),  # callers limit their requests; waiting here would use their time
            timeout=aiohttp.ClientTimeout(total=None),  # each request has its own
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
    """Read the beginning of the body of an error. A body that ends early is no failure: the status matters most."""
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
    """Return the target of a redirect, or the text of an error, or else the status in words."""
    if 300 <= response.status < 400:
        target = response.headers.get("Location", "an unknown address")
        return f"redirects to {target[:100]}, which is not followed. Change the URL in `urls`"
    return body.decode(errors="replace").strip() or response.reason or ""


def in_short(text: str, length: int = 200) -> str:
    """Shorten a text from a server to one printable line of at most `length` characters."""
    line = " ".join(text.split())[:length]
    return "".join(character if character.isprintable() else "?" for character in line)
