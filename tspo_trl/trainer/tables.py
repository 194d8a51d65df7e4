"""Tables of rollouts and of their turns: what TRL's `log_completions` shows of a batch, with what TSPO knows of it.

They are made of the records of trajectory files. The columns for TRL's table of completions have one value for each of
its rows; the table of turns has one row for each turn.
"""

import html
import json
import math
import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
import torch

from ..credit import names_of_kinds

Record = dict[str, Any]

CONSOLE_COLUMNS = ("golden_answers", "kind", "turn_advantages")  # more do not fit beside prompt and completion
EVIDENCE_LENGTH = 500  # characters of an evidence that a table shows
NUM_GROUPS = 2  # in a text for TensorBoard, where `num_completions_to_print` does not tell

_MARKDOWN = re.compile(r"[\\`*_\[\]!|]")  # what means something in the cell of a table


class TurnTables:
    """
    Keeps the records of the rollouts that TRL's table of completions holds, in its order.

    Args:
        num_rollouts (`int`):
            How many rollouts that table holds: the newest ones.
        success_threshold (`float`):
            Outcome from which a rollout is correct.
    """

    def __init__(self, num_rollouts: int, success_threshold: float):
        self._records: deque[Record | None] = deque(maxlen=num_rollouts)
        self._success_threshold = success_threshold

    def keep(self, mode: str, records: Sequence[Record | None]) -> None:
        """
        Take the rollouts of a batch, of all processes.

        Args:
            mode (`str`):
                `"train"` or `"eval"`.
            records (sequence of `dict`, *optional* each):
                Lines of the trajectory file, see [`~tspo_trl.trainer.records.trajectory_records`]; `None` for a rollout that
                is not credited.
        """
        self._records += [record and {"mode": mode, **record} for record in records]

    def completion_columns(self) -> dict[str, pd.Series]:
        """
        The columns that the table of completions gets.

        Returns:
            `dict[str, pandas.Series]`: one value for each rollout, `None` where it is not known; empty where no
            rollout is credited. Numbers of turns count from 0.
        """
        if not any(self._records):
            return {}
        rows = [self._completion_row(record) if record else {} for record in self._records]
        names = next(row for row in rows if row)
        # As objects: pandas would make NaN of None, and JSON cannot hold it.
        return {name: pd.Series([row.get(name) for row in rows], dtype=object) for name in names}

    def _completion_row(self, record: Record) -> dict[str, Any]:
        return {
            "mode": record["mode"],
            "question": record["question"],
            "golden_answers": record["golden_answers"],
            "prediction": record["prediction"],
            "kind": self._kind(record),
            "first_occurrence": record["first_occurrence"],
            "end_reason": record["end_reason"],
            "queries": [query for turn in record["turns"] for query in turn["queries"]],
            "turn_rewards": [_rounded(turn["reward"]) for turn in record["turns"]],
            "turn_advantages": [_rounded(turn["advantage"]) for turn in record["turns"]],
        }

    def _kind(self, record: Record) -> str | None:
        if record["golden_answers"] is None:
            return None
        outcome = math.nan if record["outcome"] is None else record["outcome"]
        first_hit = -1 if record["first_occurrence"] is None else record["first_occurrence"]
        return names_of_kinds(torch.tensor([outcome]), torch.tensor([first_hit]), self._success_threshold)[0]

    def turns(self, mode: str, step: int) -> pd.DataFrame:
        """
        The table of turns.

        Args:
            mode (`str`):
                `"train"` or `"eval"`: the table of completions has the newest rollouts of both.
            step (`int`):
                Number of the step, for every row.

        Returns:
            `pandas.DataFrame`: one row a turn. `rollout` is the row of the table of completions, `group` that of the
            trajectory file; turns, too, count from 0.
        """
        rows = [
            {
                "step": step,
                "mode": record["mode"],
                "group": record["group"],
                "rollout": rollout,
                "question": record["question"],
                "golden_answers": record["golden_answers"],
                "turn": number,
                "text": turn["text"],
                "queries": list(turn["queries"]),
                "evidence": _shortened(turn["evidence"]),
                "first_occurrence": number == record["first_occurrence"],
                "reward": _rounded(turn["reward"]),
                "advantage": _rounded(turn["advantage"]),
            }
            for rollout, record in enumerate(self._records)
            if record and record["mode"] == mode
            for number, turn in enumerate(record["turns"])
        ]
        return pd.DataFrame(rows, dtype=object)


def newest_groups(turns: pd.DataFrame, num_groups: int) -> list[int]:
    """
    Choose the last groups of a table of turns.

    Args:
        turns (`pandas.DataFrame`):
            The table, see [`TurnTables.turns`].
        num_groups (`int`):
            How many groups.

    Returns:
        `list[int]`: rollouts of these groups, in the table's order.
    """
    first_turns = turns.drop_duplicates("rollout")
    rollouts = zip(first_turns["group"], first_turns["question"], first_turns["rollout"], strict=True)
    # By the question, too: each batch of an evaluation counts its groups anew.
    groups = [list(group) for _, group in groupby(rollouts, key=lambda rollout: rollout[:2])]
    return [rollout for group in groups[max(0, len(groups) - num_groups) :] for _, _, rollout in group]


def plain_messages(completion: str | list[dict[str, Any]]) -> str | list[dict[str, str]]:
    """
    A completion whose messages are all of one form.

    Weights & Biases refuses a table in which messages differ in their keys, and a parquet file one in which the model
    gave arguments of different types; both as soon as tools are called.

    Args:
        completion (`str` or `list[dict]`):
            A completion as TRL logs it.

    Returns:
        `str` or `list[dict]`: a text as it is; of messages, `role` and `content`, with tool calls as JSON at its end.
    """
    if isinstance(completion, str):
        return completion
    return [{"role": message["role"], "content": _message_text(message)} for message in completion]


def _message_text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if not isinstance(content, str):
        content = "".join(part.get("text", "") for part in content)
    calls = [json.dumps(call, ensure_ascii=False) for call in message.get("tool_calls") or []]
    return "\n".join([content, *calls] if content else calls)


def markdown_table(table: pd.DataFrame) -> str:
    """
    A table in Markdown that shows each value as it is.

    Args:
        table (`pandas.DataFrame`):
            The table.

    Returns:
        `str`: nothing in a value is read as Markdown or HTML; white space in it is one space.
    """
    return "\n".join(_markdown_lines(table))


def _markdown_lines(table: pd.DataFrame) -> Iterator[str]:
    yield "| " + " | ".join(table.columns) + " |"
    yield "|" + "---|" * len(table.columns)
    for row in table.itertuples(index=False):
        yield "| " + " | ".join(_markdown_cell(value) for value in row) + " |"


def _markdown_cell(value: Any) -> str:
    if isinstance(value, float):
        value = _rounded(value)
    text = " ".join(str("" if value is None else value).split())
    return _MARKDOWN.sub(lambda match: f"&#{ord(match[0])};", html.escape(text, quote=False))


def _rounded(value: float | None) -> float | None:
    """Rewards and advantages as a table shows them; trajectory files hold all digits."""
    return None if value is None else round(value, 4)


def _shortened(evidence: str | None) -> str | None:
    if evidence is None or len(evidence) <= EVIDENCE_LENGTH:
        return evidence
    return evidence[:EVIDENCE_LENGTH] + " ..."
