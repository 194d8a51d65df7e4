"""Search-R1's `/retrieve` on the wire: the request that is sent, and the passages of an answer.

Servers differ, so much is accepted: documents with only `contents`, bare documents where `document` and `score` were
asked for, no identifier, no title, no score, more or fewer passages than asked for.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

from ..base import Passage, well_formed
from ..identity import RetrieverIdentity


def encode_request(queries: Sequence[str], k: int) -> bytes:
    """
    The body of a request.

    Args:
        queries (sequence of `str`):
            Any text. Lone surrogates, which UTF-8 cannot carry, are replaced.
        k (`int`):
            How many passages to ask for.

    Returns:
        `bytes`: JSON. It always asks for scores: without them the original server fails.
    """
    request = {"queries": [well_formed(query) for query in queries], "topk": k, "return_scores": True}
    return json.dumps(request, ensure_ascii=False).encode()


def parse_answer(body: bytes, num_queries: int, k: int) -> list[list[Passage] | None]:
    """
    Read the passages out of an answer.

    Args:
        body (`bytes`):
            The body of the answer.
        num_queries (`int`):
            How many queries were asked.
        k (`int`):
            How many passages to keep at most for each query.

    Returns:
        `list[list[Passage] | None]`: the passages of each query, `None` where the server gave `null`. An identifier
        or a title that the server does not give is `""`; a score that is no finite number is `None`.

    Raises:
        `ValueError`: if the body is no JSON or has another shape; the message says how.
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
    Read out of the answer with which a server fails a whole request which of its queries failed.

    Args:
        body (`bytes`):
            The body of the answer.
        num_queries (`int`):
            How many queries were asked.

    Returns:
        `list[int]`: positions in the request, ascending; empty where the answer does not tell.
    """
    try:
        failed = set(_parse_json(body)["failed"])
    except (ValueError, TypeError, KeyError):
        return []
    # Set and range compare by value, so 1.0 and true count as 1.
    return sorted(failed) if failed <= set(range(num_queries)) else []


def parse_identity(body: bytes) -> RetrieverIdentity | None:
    """
    Read out of the answer of `/healthz` which retriever is served.

    Args:
        body (`bytes`):
            The body of the answer.

    Returns:
        [`RetrieverIdentity`], *optional*: `None` where the answer does not tell.
    """
    try:
        return RetrieverIdentity.from_dict(_parse_json(body)["retriever"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _parse_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:  # a few kilobytes of brackets exhaust the stack
        raise ValueError(f"the answer is no JSON: {error}") from error


def _passages(items: Any, k: int) -> list[Passage]:
    if not isinstance(items, list):
        raise ValueError(f"the answer has {str(items)[:80]!r} in place of a list of passages")
    return [_passage(item) for item in items[:k]]


def _passage(item: Any) -> Passage:
    document = item.get("document", item) if isinstance(item, dict) else None
    if not isinstance(document, dict):
        raise ValueError(f"the answer has {str(item)[:80]!r} in place of a passage")
    try:
        title, text = _title_and_text({name: value for name, value in document.items() if value is not None})
    except ValueError as error:
        raise ValueError(f"a document of the answer {error}") from error
    return Passage(_id(document), well_formed(title), well_formed(text), _score(item.get("score")))


def _title_and_text(document: dict[str, Any]) -> tuple[str, str]:
    if document.keys() & {"contents", "title"} or not isinstance(document.get("text"), str):
        passage = Passage.from_document({**document, "id": "any"})  # which it demands, and servers need not give
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
