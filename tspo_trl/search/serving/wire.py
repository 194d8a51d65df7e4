"""Wire format of Search-R1's `/retrieve`: requests, answers and bearer tokens.

Servers differ, so the parser accepts documents with only `contents`, bare documents instead of `document` and `score`,
missing identifiers, titles and scores, and more or fewer passages than requested.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

from ..base import Passage, well_formed
from ..identity import RetrieverIdentity


def check_token(token: str, name: str = "token") -> None:
    """
    Check that a bearer token can be sent in an HTTP header.

    Args:
        token (`str`):
            The bearer token.
        name (`str`, *optional*, defaults to `"token"`):
            Name of the token in the error message.

    Raises:
        `ValueError`: if the token is empty or contains other characters than printable ASCII without spaces.
    """
    if not token:
        raise ValueError(f"{name} is empty. Set a token, or remove the setting to use none.")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ValueError(f"{name} has characters that a bearer token cannot have. Use printable ASCII without spaces.")


def encode_request(queries: Sequence[str], k: int) -> bytes:
    """
    Return the body of a request.

    Args:
        queries (sequence of `str`):
            Any text. Lone surrogates are replaced, because UTF-8 cannot encode them.
        k (`int`):
            Number of passages to request per query.

    Returns:
        `bytes`: JSON. It always requests scores, because Search-R1's server fails without them.
    """
    request = {"queries": [well_formed(query) for query in queries], "topk": k, "return_scores": True}
    return json.dumps(request, ensure_ascii=False).encode()


def parse_answer(body: bytes, num_queries: int, k: int) -> list[list[Passage] | None]:
    """
    Parse the passages in an answer.

    Args:
        body (`bytes`):
            Body of the answer.
        num_queries (`int`):
            Number of queries in the request.
        k (`int`):
            Maximum number of passages to keep per query.

    Returns:
        `list[list[Passage] | None]`: the passages of each query, or `None` if the server sent `null`. Missing
        identifiers and titles are `""`. Scores that are not finite numbers are `None`.

    Raises:
        `ValueError`: if the body is not JSON or has another shape.
    """
    answer = _parse_json(body)
    result = answer.get("result") if isinstance(answer, dict) else None
    if not isinstance(result, list):
        raise ValueError("the answer has no list 'result'")
    if len(result) != num_queries:
        raise ValueError(f"the answer has {len(result)} lists of passages for {num_queries} queries")
    return [None if items is None else _passages(items, k) for items in result]


def parse_failed(body: bytes, num_queries: int) -> list[int]:
    """
    Parse which queries of a failed request caused the failure.

    Args:
        body (`bytes`):
            Body of the answer.
        num_queries (`int`):
            Number of queries in the request.

    Returns:
        `list[int]`: positions in the request in ascending order, or an empty list if the answer does not say.
    """
    try:
        failed = set(_parse_json(body)["failed"])
    except (ValueError, TypeError, KeyError):
        return []
    # Set and range compare by value, so 1.0 and true count as 1.
    return sorted(failed) if failed <= set(range(num_queries)) else []


def parse_identity(body: bytes) -> RetrieverIdentity | None:
    """
    Parse the identity of the served retriever in an answer of `/healthz`.

    Args:
        body (`bytes`):
            Body of the answer.

    Returns:
        [`RetrieverIdentity`] or `None`: `None` if the answer does not say.
    """
    try:
        return RetrieverIdentity.from_dict(_parse_json(body)["retriever"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _parse_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:  # a few kilobytes of brackets exhaust the stack
        raise ValueError(f"the answer is not JSON: {error}") from error


def _passages(items: Any, k: int) -> list[Passage]:
    if not isinstance(items, list):
        raise ValueError(f"the answer has {str(items)[:80]!r} instead of a list of passages")
    return [_passage(item) for item in items[:k]]


def _passage(item: Any) -> Passage:
    document = item.get("document", item) if isinstance(item, dict) else None
    if not isinstance(document, dict):
        raise ValueError(f"the answer has {str(item)[:80]!r} instead of a passage")
    try:
        title, text = _title_and_text({name: value for name, value in document.items() if value is not None})
    except ValueError as error:
        raise ValueError(f"a document of the answer {error}") from error
    return Passage(_id(document), well_formed(title), well_formed(text), _score(item.get("score")))


def _title_and_text(document: dict[str, Any]) -> tuple[str, str]:
    if document.keys() & {"contents", "title"} or not isinstance(document.get("text"), str):
        passage = Passage.from_document({**document, "id": "any"})  # required there, optional on the wire
        return passage.title, passage.text
    return "", document["text"]


def _id(document: dict[str, Any]) -> str:
    id = document.get("id")
    return well_formed(str(id)) if isinstance(id, str | int) and not isinstance(id, bool) else ""


def _score(score: Any) -> float | None:
    if isinstance(score, bool) or not isinstance(score, int | float):
        return None
    try:
        number = float(score)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
