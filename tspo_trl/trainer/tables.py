"""Tables of rollouts and of turns: what TSPO adds to TRL's `log_completions`.

The tables are made from the records of trajectory files. The columns for TRL's table of completions have one value per
rollout. The table of turns has one row per turn.
"""

import html
import json
import math
import re
from collections import deque
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
import torch

from ..credit import names_of_kinds

Record = dict[str, Any]

CONSOLE_COLUMNS = ("golden_answers", "kind", "turn_advantages")  # more do not fit beside prompt and completion
EVIDENCE_LENGTH = 500  # characters of evidence in a table
NUM_GROUPS = 2  # groups in a text for TensorBoard if `num_completions_to_print` is not set

_MARKDOWN = re.compile(r"[\\`*_\[\]!|]")  # characters with a meaning in a table cell


class TurnTables:
    """
    Records of the rollouts in TRL's table of completions, in the same order.

    Args:
        num_rollouts (`int`):
            Number of rollouts in TRL's table, the newest ones.
        success_threshold (`float`):
            Success reward from which a rollout is correct.
    """

    def __init__(self, num_rollouts: int, success_threshold: float):
        self._records: deque[Record | None] = deque(maxlen=num_rollouts)
        self._success_threshold = success_threshold

    def keep(self, mode: str, records: Sequence[Record | None]) -> None:
        """
        Keep the rollouts of a batch of all processes.

        Args:
            mode (`str`):
                `"train"` or `"eval"`.
            records (sequence of `dict` or `None`):
                Lines of the trajectory file ([`~tspo_trl.trainer.records.trajectory_records`]), `None` for a rollout
                without credit.
        """
        self._records += [record and {"mode": mode, **record} for record in records]

    def completion_columns(self) -> dict[str, pd.Series]:
        """
        Return the columns for the table of completions.

        Returns:
            `dict[str, pandas.Series]`: one value per rollout, `None` if it is unknown. Empty if no rollout has credit.
            Turns count from 0.
        """
        if not any(self._records):
            return {}
        rows = [self._completion_row(record) if record else {} for record in self._records]
        names = next(row for row in rows if row)
        # Without `dtype=object`, pandas turns None into NaN, which JSON does not have.
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
        success = record.get("success", record["outcome"])
        success = math.nan if success is None else success
        first_hit = -1 if record["first_occurrence"] is None else record["first_occurrence"]
        return names_of_kinds(torch.tensor([success]), torch.tensor([first_hit]), self._success_threshold)[0]

    def turns(self, mode: str, step: int) -> pd.DataFrame:
        """
        Return the table of turns.

        Args:
            mode (`str`):
                `"train"` or `"eval"`. The table of completions has the newest rollouts of both.
            step (`int`):
                Number of the step, for every row.

        Returns:
            `pandas.DataFrame`: one row per turn. `rollout` is the row in the table of completions, `group` is that of
            the trajectory file. Turns count from 0.
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
    Return the rollouts of the last groups in a table of turns.

    Args:
        turns (`pandas.DataFrame`):
            Table of [`TurnTables.turns`].
        num_groups (`int`):
            Number of groups.

    Returns:
        `list[int]`: rollouts in the order of the table.
    """
    first_turns = turns.drop_duplicates("rollout")
    rollouts = zip(first_turns["group"], first_turns["question"], first_turns["rollout"], strict=True)
    # The question is needed because each batch of an evaluation numbers its groups from 0.
    groups = [list(group) for _, group in groupby(rollouts, key=lambda rollout: rollout[:2])]
    return [rollout for group in groups[max(0, len(groups) - num_groups) :] for _, _, rollout in group]


def plain_messages(completion: str | list[dict[str, Any]]) -> str | list[dict[str, str]]:
    """
    Give all messages of a completion the same form.

    Weights & Biases refuses a table with messages that differ in their keys. A parquet file refuses tool arguments of
    different types. Both occur as soon as the model calls tools.

    Args:
        completion (`str` or `list[dict]`):
            Completion as TRL logs it.

    Returns:
        `str` or `list[dict]`: a text unchanged, or messages with `role` and `content` only. The content ends with the
        tool calls as JSON.
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
    Write a table in Markdown.

    Args:
        table (`pandas.DataFrame`):
            The table.

    Returns:
        `str`: Markdown and HTML in a value are escaped, white space in it becomes one space.
    """
    lines = [list(table.columns), *([_markdown_cell(value) for value in row] for row in table.itertuples(index=False))]
    header, *rows = ["| " + " | ".join(cells) + " |" for cells in lines]
    return "\n".join([header, "|" + "---|" * len(table.columns), *rows])


def _markdown_cell(value: Any) -> str:
    if isinstance(value, float):
        value = _rounded(value)
    text = " ".join(str("" if value is None else value).split())
    return _MARKDOWN.sub(lambda match: f"&#{ord(match[0])};", html.escape(text, quote=False))


def _rounded(value: float | None) -> float | None:
    """Round a reward or advantage for a table. Trajectory files keep all digits."""
    return None if value is None else round(value, 4)


def _shortened(evidence: str | None) -> str | None:
    if evidence is None or len(evidence) <= EVIDENCE_LENGTH:
        return evidence
    return evidence[:EVIDENCE_LENGTH] + " ..."
