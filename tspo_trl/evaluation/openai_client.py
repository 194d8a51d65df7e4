"""Concurrent requests to an OpenAI-compatible endpoint, with answers in the order of the requests.

A request that the endpoint refuses for its content raises a [`RefusedRequestError`] and does not affect the others.
Other failures affect all requests and raise an [`EndpointError`]. No message contains the API key.
"""

import asyncio
import json
import math
import os
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from ..search.retrievers.http_client import in_short
from .openai_answers import Answer, FilteredError, ServedModel, read_answer, read_served_model

if TYPE_CHECKING:
    from openai import APIError, AsyncOpenAI

Result = TypeVar("Result")
API = Literal["completions", "chat"]

KEY_VARIABLE = "OPENAI_API_KEY"
_NO_KEY = "EMPTY"  # the client needs a key, local servers ignore it
_ROUTES: dict[API, str] = {"completions": "/completions", "chat": "/chat/completions"}
_SHORT_REQUESTS: dict[API, dict[str, Any]] = {
    "completions": {"prompt": "Hello", "max_tokens": 1},
    "chat": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1},
}
_REFUSED_STATUS = {400, 413, 422}
_MOST_REMEMBERED = 4096  # answers
_REMEDIES = {
    401: f"Set {KEY_VARIABLE} to a key that this endpoint accepts.",
    403: f"Set {KEY_VARIABLE} to a key that may use this model.",
    404: "Check the URL and the model's name. GET {url}/models lists the served models. Some endpoints serve only one "
    "of the two APIs, completions and chat.",
    429: "Lower `max_concurrency`, or check the limits of this key.",
}
_REMEDY_UNREACHABLE = "Start the server or correct the URL, then run again."
_REMEDY_TIMEOUT = "Raise `timeout`, or lower `max_concurrency`."
_REMEDY_SERVER = "See the log of the server, then run again."
_REMEDY_REFUSED = "Check the model's name, and that the endpoint accepts all fields of the request."
_REMEDY_ANSWER = "Check that the URL belongs to an OpenAI-compatible API, such as http://localhost:8000/v1."


class EndpointError(RuntimeError):
    """The endpoint is unusable: it is unreachable, refuses everything, fails, or gives unreadable answers."""


class RefusedRequestError(EndpointError):
    """The endpoint refused one request for its content: too long, invalid or filtered."""


class Endpoint:
    """
    Model served by an OpenAI-compatible API, such as that of vLLM, SGLang, llama.cpp or OpenAI.

    Requests are greedy: their `temperature` is 0, and with vLLM and SGLang they switch off the repetition penalty of
    the model's generation configuration. The `openai` package retries connection errors, timeouts and the statuses
    408, 409, 429 and from 500. Recent answers are remembered, so repeating a batch without a refused request costs
    nothing.

    Args:
        url (`str`):
            URL such as `"http://localhost:8000"` or `"https://api.openai.com/v1"`. `/v1` is added to a URL without a
            path.
        model (`str`):
            Name of the model at the endpoint.
        api_key (`str`, *optional*):
            API key. Defaults to the environment variable `OPENAI_API_KEY`, or a placeholder if that is not set.
        max_concurrency (`int`, *optional*, defaults to `32`):
            Maximum number of concurrent requests.
        timeout (`float`, *optional*, defaults to `600.0`):
            Seconds for one attempt of a request.
        max_retries (`int`, *optional*, defaults to `5`):
            Maximum number of retries of a request. Waits double from half a second to 8 seconds.
        seed (`int`, *optional*):
            Seed of each request. Not every endpoint accepts one, and greedy rollouts do not need it.
        extra_body (mapping, *optional*):
            Additional fields of each request.

    Raises:
        ValueError: The URL is not like `http://host:8000/v1`, a number is out of range, or the key is not printable.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        max_concurrency: int = 32,
        timeout: float = 600.0,
        max_retries: int = 5,
        seed: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ):
        if max_concurrency < 1:
            raise ValueError(f"`max_concurrency` is {max_concurrency}, but must be at least 1.")
        if max_retries < 0:
            raise ValueError(f"`max_retries` is {max_retries}, but must be at least 0.")
        if not 0 < timeout < math.inf:
            raise ValueError(f"`timeout` is {timeout}, but must be a finite number of seconds above 0.")
        self.url = _checked_url(url)
        self.model = model
        self.max_concurrency = max_concurrency
        self.timeout = timeout
        self.max_retries = max_retries
        self.seed = seed
        self.extra_body = dict(extra_body or {})
        self._key = _checked_key(os.environ.get(KEY_VARIABLE) if api_key is None else api_key)
        self._remembered: dict[str, Answer | RefusedRequestError] = {}
        self._has_answered = False
        self._served: ServedModel | None = None

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r}, {self.model!r})"

    def ask(
        self, api: API, requests: Sequence[Mapping[str, Any]], extra_body: Mapping[str, Any] | None = None
    ) -> list[Answer]:
        """
        Send requests and wait for all answers. This works in any thread and in notebooks.

        Args:
            api (`str`):
                `"completions"` or `"chat"`.
            requests (sequence of mappings):
                Fields of each request except `model`, `temperature` and `seed`.
            extra_body (mapping, *optional*):
                Fields that the `openai` package does not know. The endpoint's `extra_body` takes precedence.

        Returns:
            `list[Answer]`: answers in the order of the requests.

        Raises:
            [`RefusedRequestError`]: Some requests were refused, and all others were answered.
            [`EndpointError`]: The endpoint is unusable. If it has refused all requests so far, a short request tests
                it.
        """
        outcomes = _run(self._ask_all(api, requests, {**(extra_body or {}), **self.extra_body}))
        refused = [outcome for outcome in outcomes if isinstance(outcome, RefusedRequestError)]
        if refused:
            raise refused[0]
        return [outcome for outcome in outcomes if isinstance(outcome, Answer)]

    def context_length(self, api: API) -> int | None:
        """
        Look up the context length of the model.

        Args:
            api (`str`):
                `"completions"` or `"chat"`, for error messages.

        Returns:
            `int` or `None`: number of tokens, `None` if the endpoint does not name it.

        Raises:
            [`EndpointError`]: The endpoint is unreachable.
        """

        async def look_up() -> ServedModel:
            async with self._client() as client:
                return await self._look_up(client, api)

        return _run(look_up()).context_length

    def _client(self) -> "AsyncOpenAI":
        from openai import AsyncOpenAI

        return AsyncOpenAI(base_url=self.url, api_key=self._key, timeout=self.timeout, max_retries=self.max_retries)

    async def _look_up(self, client: "AsyncOpenAI", api: API) -> ServedModel:
        """Look up the model in the endpoint's list, once."""
        from openai import APIConnectionError, APIError

        if self._served is None:
            try:
                listed: Any = await client.get("/models", cast_to=object)
            except APIConnectionError as error:
                raise self._failure(api, error) from None
            except (APIError, ValueError):
                listed = None  # not every endpoint has a list
            self._served = read_served_model(listed, self.model)
        return self._served

    async def _ask_all(
        self, api: API, requests: Sequence[Mapping[str, Any]], extra_body: dict[str, Any]
    ) -> list[Answer | RefusedRequestError]:
        if len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.clear()
        slots = asyncio.Semaphore(self.max_concurrency)
        async with self._client() as client:
            if (await self._look_up(client, api)).has_penalty:
                extra_body = {"repetition_penalty": 1.0, **extra_body}

            async def ask(request: Mapping[str, Any]) -> Answer | RefusedRequestError:
                name = json.dumps([api, request, extra_body], sort_keys=True)
                async with slots:
                    outcome = self._remembered.get(name) or await self._ask(client, api, request, extra_body)
                self._remembered[name] = outcome
                return outcome

            outcomes = await asyncio.gather(*map(ask, requests))
            self._has_answered = self._has_answered or any(isinstance(outcome, Answer) for outcome in outcomes)
            if outcomes and not self._has_answered:
                await self._check_answers(client, api, requests[0], extra_body)
            return outcomes

    async def _check_answers(
        self, client: "AsyncOpenAI", api: API, request: Mapping[str, Any], extra_body: dict[str, Any]
    ) -> None:
        """Raise an error if a short version of a refused request is refused too."""
        outcome = await self._ask(client, api, {**request, **_SHORT_REQUESTS[api]}, extra_body)
        if isinstance(outcome, RefusedRequestError):
            raise EndpointError(f"Every request is refused: {outcome}. {_REMEDY_REFUSED}")
        self._has_answered = True

    async def _ask(
        self, client: "AsyncOpenAI", api: API, request: Mapping[str, Any], extra_body: dict[str, Any]
    ) -> Answer | RefusedRequestError:
        from openai import APIError

        create: Any = client.completions.create if api == "completions" else client.chat.completions.create
        seed = {} if self.seed is None else {"seed": self.seed}
        try:
            completion = await create(
                model=self.model, temperature=0, **seed, **request, extra_body=extra_body or None
            )
            return read_answer(completion)
        except FilteredError:
            return RefusedRequestError(f"{self._route(api)}: a content filter withheld the answer.")
        except (APIError, ValueError) as error:
            failure = self._failure(api, error)
            if isinstance(failure, RefusedRequestError):
                return failure
            raise failure from None  # the server's answer may contain the key

    def _failure(self, api: API, error: "APIError | ValueError") -> EndpointError:
        """Explain a failed request without showing the key."""
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        route, reason = self._route(api), self._in_short(str(error))
        if isinstance(error, APITimeoutError):
            return EndpointError(f"{route}: no answer within {self.timeout:g} s. {_REMEDY_TIMEOUT}")
        if isinstance(error, APIConnectionError):
            reason = self._in_short(str(error.__cause__ or error)) or reason
            return EndpointError(f"{route} cannot be reached: {reason}. {_REMEDY_UNREACHABLE}")
        if not isinstance(error, APIStatusError):
            return EndpointError(f"{route} gave an answer that cannot be read: {reason}. {_REMEDY_ANSWER}")
        status = error.status_code
        reason = self._in_short(_said(error.body) or error.response.reason_phrase)
        if status in _REFUSED_STATUS:
            return RefusedRequestError(f"{route} refused a request with HTTP {status}: {reason}")
        default = _REMEDY_SERVER if status >= 500 else _REMEDY_ANSWER
        remedy = _REMEDIES.get(status, default).replace("{url}", self.url)
        return EndpointError(f"{route} answered HTTP {status}: {reason}. {remedy}")

    def _route(self, api: API) -> str:
        return f"{self.url}{_ROUTES[api]} (model {self.model!r})"

    def _in_short(self, text: str) -> str:
        """Shorten a server's text to one printable line of at most 300 characters, without the key."""
        if self._key != _NO_KEY:
            text = text.replace(self._key, "***")
        return in_short(text, 300).rstrip(".")


def _said(body: object) -> str:
    """Return the message in an error's body, in the form of OpenAI and vLLM or of FastAPI, or the whole body."""
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body
    return "" if body is None else str(body)


def _run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine, in another thread if this one has a running event loop, as in notebooks."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def _checked_url(url: str) -> str:
    """Check the URL and return it without a trailing route."""
    shown = url.rpartition("@")[2].partition("?")[0]  # the rest may contain a secret
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or "@" in url or "?" in url or "#" in url or not url.isprintable() or " " in url:
        raise ValueError(
            f"The URL of the endpoint is {shown!r}, but must be like 'http://localhost:8000/v1'. Set "
            f"{KEY_VARIABLE} to the key."
        )
    url = url.rstrip("/")
    for route in (_ROUTES["chat"], _ROUTES["completions"]):
        url = url.removesuffix(route)
    return url if urlsplit(url).path else f"{url}/v1"


def _checked_key(key: str | None) -> str:
    key = (key or "").strip() or _NO_KEY
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ValueError(
            f"The API key ({KEY_VARIABLE}) has characters that HTTP headers cannot contain. Use printable ASCII."
        )
    return key
