"""Callbacks of a training run: an alarm for a collapsing policy, and a record of the retriever.

[`CollapseAlarm`] reads only the log entries of training. Every checkpoint contains the log history, so a resumed run
raises the same alarms as an uninterrupted one. The metrics cover all processes, so all processes decide alike.
"""

import json
import logging
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..search.base import Retriever
from ..search.identity import RetrieverIdentity, identity_of

logger = logging.getLogger(__name__)

RETRIEVER_FILE = "retriever.json"

LogEntry = Mapping[str, Any]

_BAD_ENDS = ("max_turns", "max_length", "no_action", "search_failed")
_ORDINARY_ENTROPY = 1.0  # nats per token; no alarm for high entropy below it, however low the entropy began
_SEARCH_GROWTH = 1.2  # no alarm for most searches below this multiple of the run's first mean
_METRICS = {"most searches": "rollout/searches", "low entropy": "entropy", "high entropy": "entropy"}

_GO_BACK = "If training caused it, go back to an earlier checkpoint with a lower `learning_rate`, or with `beta`."
_NOT_LEARNED = "If the run began like this, the model does not follow the prompt. Try another model or protocol."
_INVALID = f"Turns are not in the protocol's format. {_NOT_LEARNED} Or reward the format. {_GO_BACK}"
_ADVICE = {
    "rollout/searches": f"Rollouts answer without a search. {_NOT_LEARNED} {_GO_BACK}",
    "most searches": "Rollouts search in all their turns before they answer. If they need more searches, raise "
    f"`max_turns`. {_GO_BACK}",
    "valid turns": _INVALID,
    "rollout/end/answered": f"Rollouts do not end with an answer. See the other `rollout/end/` metrics. {_GO_BACK}",
    "rollout/end/max_turns": f"Rollouts search in all their turns and do not answer. Raise `max_turns`. {_GO_BACK}",
    "rollout/end/max_length": "Rollouts run out of tokens. Raise `max_completion_length` or "
    f"`max_turn_length`. {_GO_BACK}",
    "rollout/end/no_action": _INVALID,
    "rollout/end/search_failed": "Searches fail, and their rollouts teach nothing. Check the retriever.",
    "duplicate queries": f"Rollouts repeat their queries. Check what the queries find. {_GO_BACK}",
    "low entropy": f"The rollouts of a group become equal. Set `entropy_coef` or raise `temperature`. {_GO_BACK}",
    "high entropy": f"The text becomes random. Check `grad_norm` and, with vLLM, `sampling/`. {_GO_BACK}",
    "tspo/groups_without_signal": "The policy learns nothing. If `reward` is high, nothing is left to learn. If it is "
    "low, check whether searches find the gold answers and whether rewards recognise right answers. Or try easier "
    "questions or more `num_generations`.",
}


@dataclass(frozen=True)
class Alarm:
    """
    Alarm of a training run.

    Args:
        name (`str`):
            Name of the watched value, such as `"rollout/searches"`, `"valid turns"` or `"low entropy"`.
        step (`int`):
            Step of the log entry that raised the alarm.
        value (`float`):
            Value in that log entry.
        threshold (`float`):
            Threshold that the value has passed.
    """

    name: str
    step: int
    value: float
    threshold: float


@dataclass
class _Watch:
    """One value of the log entries. `streak` counts the entries in a row past its threshold."""

    name: str
    threshold: float
    patience: int
    is_lowest: bool  # whether the threshold is a minimum or a maximum
    times_mean: float = 0.0
    streak: int = 0
    recent: deque[float] = field(default_factory=deque)

    def observe(self, entry: LogEntry) -> float | None:
        """Count a log entry and return its value, `None` if it has none."""
        value = _value(self.name, entry)
        if value is None or math.isnan(value):
            return None
        self._compare_with_the_run(value)
        is_past = value < self.threshold if self.is_lowest else value > self.threshold
        self.streak = self.streak + 1 if is_past else 0
        return value

    def _compare_with_the_run(self, value: float) -> None:
        """Raise the threshold to `times_mean` times the first mean of `patience` values, a minimum to the best."""
        is_first = len(self.recent) < self.patience
        if not is_first:
            self.recent.popleft()
        self.recent.append(value)
        if len(self.recent) == self.patience and (is_first or self.is_lowest):
            self.threshold = max(self.threshold, self.times_mean * fmean(self.recent))


@dataclass(eq=False, kw_only=True)
class CollapseAlarm(TrainerCallback):
    """
    Warns when a policy collapses, and can stop the run.

    An alarm means that a value was past its threshold for `patience` log entries in a row, even at the beginning of
    the run. It repeats only after the value has recovered. Missing values and NaN neither count nor interrupt.
    Evaluations do not count. A run without a retriever is watched by the few metrics that it logs.

    Example:

    ```python
    from tspo_trl.trainer.callbacks import CollapseAlarm

    trainer = TSPOTrainer(..., callbacks=[CollapseAlarm(stop=True)])
    ```

    Args:
        stop (`bool`, *optional*, defaults to `False`):
            If `True`, an alarm stops training. Checkpoints due at that step are saved. No other checkpoint is added,
            because it could push out the last good one.
        patience (`int`, *optional*, defaults to `10`):
            Number of log entries in a row.
        min_searches (`float`, *optional*, defaults to `0.1`):
            Minimum of the searches per rollout.
        max_searches (`float`, *optional*, defaults to `0.95`):
            Maximum of the searches per rollout, as a share of `max_turns`. It is higher for a run that began with
            nearly as many.
        min_valid (`float`, *optional*, defaults to `0.1`):
            Minimum share of turns with a valid action, and of rollouts that end with an answer.
        min_share_of_best (`float`, *optional*, defaults to `0.5`):
            Minimum of the same two shares, relative to the run's highest mean over `patience` entries.
        max_end (`float`, *optional*, defaults to `0.5`):
            Maximum share of rollouts that end with `max_turns`, and of those that end with `max_length`, `no_action`
            or `search_failed`.
        max_duplicate_queries (`float`, *optional*, defaults to `0.5`):
            Maximum share of queries that the same rollout repeats.
        min_entropy (`float`, *optional*, defaults to `0.01`):
            Minimum entropy in nats per token.
        max_entropy_growth (`float`, *optional*, defaults to `3.0`):
            Maximum entropy, relative to the mean of the first `patience` entries. An entropy of up to 1 nat per token
            never raises the alarm.
        max_groups_without_signal (`float`, *optional*, defaults to `0.95`):
            Maximum share of groups without signal.

    Attributes:
        alarms (`list[Alarm]`):
            All alarms of the run, also those before it was resumed.

    Raises:
        ValueError: `patience` or a threshold is not valid.
    """

    stop: bool = False
    patience: int = 10
    min_searches: float = 0.1
    max_searches: float = 0.95
    min_valid: float = 0.1
    min_share_of_best: float = 0.5
    max_end: float = 0.5
    max_duplicate_queries: float = 0.5
    min_entropy: float = 0.01
    max_entropy_growth: float = 3.0
    max_groups_without_signal: float = 0.95
    alarms: list[Alarm] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.patience, int) or self.patience < 1:
            raise ValueError(f"`patience` must be a whole number of at least 1, got {self.patience!r}.")
        for name, value in vars(self).items():
            if name.startswith(("min_", "max_")) and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"`{name}` must be a finite number of at least 0, got {value!r}.")
        self._watches = self._make_watches()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start to watch, with the log history of the resumed checkpoint if there is one."""
        self.alarms, self._watches = [], self._make_watches(getattr(args, "max_turns", None))
        for entry in state.log_history:
            self._observe(entry, entry["step"])

    def on_log(self, args: Any, state: Any, control: Any, logs: LogEntry | None = None, **kwargs: Any) -> None:
        """Raise the alarms of a log entry."""
        past = len(self.alarms)
        alarms = self._observe(logs or {}, state.global_step)
        if state.is_world_process_zero:
            # A run that is resumed after an alarm stops again and must say why.
            for alarm in alarms if self.stop else self.alarms[past:]:
                self._warn(alarm)
        if alarms and self.stop:
            control.should_training_stop = True

    def _observe(self, entry: LogEntry, step: int) -> list[Alarm]:
        """Return all current alarms at a log entry, and keep the new ones."""
        alarms = []
        for watch in self._watches:
            value = watch.observe(entry)
            if value is None or watch.streak < self.patience:
                continue
            alarms.append(Alarm(watch.name, step, value, watch.threshold))
            if watch.streak == self.patience:
                self.alarms.append(alarms[-1])
        return alarms

    def _warn(self, alarm: Alarm) -> None:
        logger.warning(
            "COLLAPSE at step %d: %s is %.3g, %s %.3g, for %d log entries. %s The rollouts are in "
            "`output_dir/trajectories`.%s",
            alarm.step,
            alarm.name,
            alarm.value,
            "below" if alarm.value < alarm.threshold else "above",
            alarm.threshold,
            self.patience,
            _ADVICE[alarm.name],
            " Training stops." if self.stop else "",
        )

    def _make_watches(self, max_turns: int | None = None) -> list[_Watch]:
        lowest = partial(_Watch, patience=self.patience, is_lowest=True)
        highest = partial(_Watch, patience=self.patience, is_lowest=False)
        share_of_best, growth = self.min_share_of_best, self.max_entropy_growth
        most_searches = math.inf if max_turns is None else self.max_searches * max_turns
        return [
            lowest("rollout/searches", self.min_searches),
            highest("most searches", most_searches, times_mean=_SEARCH_GROWTH),
            lowest("valid turns", self.min_valid, times_mean=share_of_best),
            lowest("rollout/end/answered", self.min_valid, times_mean=share_of_best),
            *(highest(f"rollout/end/{end}", self.max_end) for end in _BAD_ENDS),
            highest("duplicate queries", self.max_duplicate_queries),
            lowest("low entropy", self.min_entropy),
            highest("high entropy", _ORDINARY_ENTROPY, times_mean=growth),
            highest("tspo/groups_without_signal", self.max_groups_without_signal),
        ]


def _value(name: str, entry: LogEntry) -> float | None:
    """Value of a watch in a log entry, `None` if it is not logged."""
    if name == "valid turns":
        invalid = _ratio(entry, "rollout/invalid_actions", "rollout/turns")
        return None if invalid is None else 1 - invalid
    if name == "duplicate queries":
        return _ratio(entry, "rollout/duplicate_queries", "rollout/queries")
    return entry.get(_METRICS.get(name, name))


def _ratio(entry: LogEntry, part: str, whole: str) -> float | None:
    """Ratio of two means over the same rollouts, `None` if it is not defined."""
    if entry.get(part) is None or not entry.get(whole):
        return None
    return float(entry[part] / entry[whole])


class RetrieverRecord(TrainerCallback):
    """
    Writes the retriever's identity to `retriever.json` in `output_dir` and in every checkpoint.

    Args:
        retriever ([`~tspo_trl.search.Retriever`]):
            Retriever of the run.
    """

    def __init__(self, retriever: Retriever):
        self.retriever = retriever

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            identity = identity_of(self.retriever)
            logger.info("The run searches %s", identity)
            _write(Path(args.output_dir), identity)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        checkpoint = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        if state.is_world_process_zero and checkpoint.is_dir():
            _write(checkpoint, identity_of(self.retriever))


def warn_of_another_retriever(checkpoint: str, retriever: Retriever) -> None:
    """
    Warn if a checkpoint was made with a different retriever.

    Args:
        checkpoint (`str`):
            Folder of the checkpoint.
        retriever ([`~tspo_trl.search.Retriever`]):
            Retriever of the resumed run.
    """
    path = Path(checkpoint) / RETRIEVER_FILE
    try:
        recorded = RetrieverIdentity.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        logger.warning("Cannot tell whether %s was made with this retriever: %s", checkpoint, error)
        return
    recorded, identity = _searched(recorded), _searched(_through_json(identity_of(retriever)))
    if identity == recorded:
        return
    if identity.fingerprint is None or recorded.fingerprint is None:
        logger.warning(
            "Cannot tell whether %s was made with this retriever. It was %s and is %s, and the index of one of them "
            "is unknown. Start the server if it is down. Only servers of `tspo-trl serve` name their index.",
            checkpoint,
            recorded,
            identity,
        )
    else:
        logger.warning(
            "THE RETRIEVER HAS CHANGED since checkpoint %s was made: %s. Results before and after it are not "
            "comparable, unless the same corpus was indexed again with the same options. Pass the retriever of the "
            "checkpoint to continue without a change.",
            checkpoint,
            "; ".join(_differences(recorded, identity)),
        )


def _searched(identity: RetrieverIdentity) -> RetrieverIdentity:
    """Identity of the index that a server searches. An index is the same with and without a server."""
    served = identity.parameters.get("served")
    return RetrieverIdentity.from_dict(served) if served else identity


def _through_json(identity: RetrieverIdentity) -> RetrieverIdentity:
    """The identity as a file would give it back, with lists for tuples."""
    return RetrieverIdentity.from_dict(json.loads(json.dumps(identity.to_dict())))


def _differences(recorded: RetrieverIdentity, identity: RetrieverIdentity) -> list[str]:
    before, now = recorded.to_dict(), identity.to_dict()
    return [f"{name} was {before[name]!r} and is {now[name]!r}" for name in now if before[name] != now[name]]


def _write(folder: Path, identity: RetrieverIdentity) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RETRIEVER_FILE).write_text(json.dumps(identity.to_dict(), indent=2) + "\n", encoding="utf-8")
