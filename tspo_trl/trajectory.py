"""A rollout as data: its turns, the tokens that each turn and each feedback covers, and why it ended.

Spans are half-open `(start, end)` positions in the completion, without the prompt. The spans
`turn, feedback, turn, feedback, ..., turn` tile the completion without gap or overlap. Only a user's `rollout_func`
can put other tokens before the first turn.
"""

import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

logger = logging.getLogger(__name__)

EndReason = Literal["answered", "max_turns", "max_length", "no_action", "search_failed", "generated", "unknown"]
Action = Literal["search", "answer"]
Span = tuple[int, int]


@dataclass(frozen=True)
class Turn:
    """
    One block of tokens that the model generated, with the feedback that followed it.

    Args:
        text (`str`):
            Decoded text of the turn, without the end-of-sequence token.
        token_span (`tuple[int, int]`):
            Half-open span of the generated tokens in the completion.
        action (`str`, *optional*):
            `"search"`, `"answer"`, or `None` if the text contains neither.
        content (`str`, *optional*):
            Text of an answer, or query of a search. Several queries are separated by line breaks.
        queries (`tuple[str, ...]`):
            Queries of a search, in order. A turn with several tool calls has several.
        feedback (`str`, *optional*):
            Text appended after the turn, as the policy saw it, after any truncation. `None` after the last turn.
        feedback_span (`tuple[int, int]`, *optional*):
            Half-open span of the feedback's tokens in the completion.
        evidence (`str`, *optional*):
            Part of `feedback` that the search returned, without the protocol's tags. `None` if nothing was retrieved.
            The first-occurrence latent reward looks only at this text.
        reward (`float`, *optional*):
            Turn reward, if computed.
        advantage (`float`, *optional*):
            Advantage of the turn's tokens, if computed.
        is_cut (`bool`, *optional*, defaults to `False`):
            Whether the turn's budget ended it before an action.
    """

    text: str
    token_span: Span
    action: Action | None = None
    content: str | None = None
    queries: tuple[str, ...] = ()
    feedback: str | None = None
    feedback_span: Span | None = None
    evidence: str | None = None
    reward: float | None = None
    advantage: float | None = None
    is_cut: bool = False


@dataclass(frozen=True)
class Trajectory:
    """
    The turns of one rollout, in order.

    Args:
        turns (`tuple[Turn, ...]`):
            At least one turn.
        end_reason (`str`):
            Why the rollout ended: `"answered"`, `"max_turns"` (it asked for another search in its last turn),
            `"no_action"` (its last turn contained neither a search nor an answer), `"max_length"` (its budget cut the
            last turn, or left no room for the next feedback and one more token), `"search_failed"`, `"generated"`
            (TRL's own generation made the completion) or `"unknown"` (a file from another project does not say).
    """

    turns: tuple[Turn, ...]
    end_reason: EndReason

    @property
    def prediction(self) -> str | None:
        """Answer of the model, `None` if it gave none."""
        return next((turn.content for turn in reversed(self.turns) if turn.action == "answer"), None)

    @property
    def num_searches(self) -> int:
        """Number of turns that searched."""
        return sum(turn.action == "search" for turn in self.turns)

    @property
    def num_tokens(self) -> int:
        """Number of tokens that the model generated."""
        return sum(turn.token_span[1] - turn.token_span[0] for turn in self.turns)

    @property
    def num_duplicate_queries(self) -> int:
        """Number of queries that repeat an earlier one of the rollout, ignoring case and white space."""
        queries = [" ".join(query.lower().split()) for turn in self.turns for query in turn.queries]
        return len(queries) - len(set(queries))

    @property
    def evidence(self) -> list[str | None]:
        """Evidence of each turn, the input of [`~tspo_trl.credit.first_occurrence`]."""
        return [turn.evidence for turn in self.turns]


def trajectory_to_dict(trajectory: Trajectory, **record: Any) -> dict[str, Any]:
    """
    Convert a trajectory to a JSON object.

    Args:
        trajectory ([`Trajectory`]):
            Trajectory to convert.
        **record:
            Further JSON values to put first, such as `step`, `question` or `golden_answers`.

    Returns:
        `dict`: `record`, then `prediction`, `end_reason` and `turns`.
    """
    return {
        **record,
        "prediction": trajectory.prediction,
        "end_reason": trajectory.end_reason,
        "turns": [asdict(turn) for turn in trajectory.turns],
    }


def trajectory_from_dict(record: dict[str, Any]) -> Trajectory:
    """
    Invert [`trajectory_to_dict`]. Further keys of `record` are ignored.

    Args:
        record (`dict`):
            A JSON object with `turns` and `end_reason`.

    Returns:
        [`Trajectory`]
    """
    turns = []
    for turn in record["turns"]:
        spans = {key: None if turn[key] is None else tuple(turn[key]) for key in ("token_span", "feedback_span")}
        turns.append(Turn(**{**turn, **spans, "queries": tuple(turn.get("queries", ()))}))
    return Trajectory(turns=tuple(turns), end_reason=record["end_reason"])


def write_json_lines(path: str | os.PathLike, records: Iterable[dict[str, Any]]) -> None:
    """
    Write one JSON object per line. The file appears complete or not at all.

    Args:
        path (`str` or `os.PathLike`):
            File to write. Its folder is created if it is missing.
        records (iterable of `dict`):
            JSON objects.

    Raises:
        `ValueError`: If a record contains NaN or infinity, which are not JSON.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
    unfinished.replace(path)


def read_json_lines(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """
    Read a file with one JSON object per line.

    Args:
        path (`str` or `os.PathLike`):
            File to read.

    Returns:
        iterator of `dict`

    Raises:
        `ValueError`: If a line is not a JSON object. The message names the file and the line number.
    """
    return (record for _, record in numbered_json_lines(path))


def numbered_json_lines(
    path: str | os.PathLike, *, may_be_cut_off: bool = False
) -> Iterator[tuple[int, dict[str, Any]]]:
    """
    Read a file with one JSON object per line, with line numbers. Blank lines and a byte order mark are skipped.

    Args:
        path (`str` or `os.PathLike`):
            File to read.
        may_be_cut_off (`bool`, *optional*, defaults to `False`):
            If `True`, a last line that is not valid JSON and has no newline is skipped with a warning. A run is
            writing this line, or was killed while writing it.

    Returns:
        iterator of `tuple[int, dict]`: line number, from 1, and object.

    Raises:
        `ValueError`: If a line is not a JSON object. The message names the file and the line number.
    """
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
                if may_be_cut_off and not line.endswith(b"\n"):
                    logger.warning("%s, line %d is cut off, as after a kill. It is skipped.", path, number)
                    return
                raise ValueError(
                    f"{path}, line {number}: not valid JSON ({error}). Each line must be one JSON object: fix or "
                    "remove that line."
                ) from error
            if not isinstance(record, dict):
                raise ValueError(
                    f"{path}, line {number}: expected a JSON object, got {type(record).__name__}. Write one object "
                    "per line."
                )
            yield number, record
