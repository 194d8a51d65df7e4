"""Alarms when a policy collapses while it is trained.

[`CollapseAlarm`] reads the log entries of training and nothing else. What it knows follows from the trainer's log
history, which every checkpoint holds: a resumed run is watched as if it had not been interrupted. The metrics it reads
are those of all processes, so that all decide alike.
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
_ORDINARY_ENTROPY = 1.0  # nats a token: up to it nothing explodes, however low the entropy was in the beginning
_SEARCH_GROWTH = 1.2  # up to it, searches that were near the maximum from the beginning do not go there
_METRICS = {"most searches": "rollout/searches", "low entropy": "entropy", "high entropy": "entropy"}

_GO_BACK = "If it came with training, go back to an earlier checkpoint with a lower `learning_rate`, or with `beta`."
_NOT_LEARNED = "If it was so from the beginning, the model does not follow the prompt: try another model or protocol."
_INVALID = f"Turns are not in the protocol's format. {_NOT_LEARNED} Or reward the format. {_GO_BACK}"
_ADVICE = {
    "rollout/searches": f"Rollouts answer without a search. {_NOT_LEARNED} {_GO_BACK}",
    "most searches": "Rollouts search in all their turns before they answer. Look at whether they need to, or would "
    f"search on: then try more `max_turns`. {_GO_BACK}",
    "valid turns": _INVALID,
    "rollout/end/answered": f"Rollouts do not end with an answer; the other `rollout/end/` tell how. {_GO_BACK}",
    "rollout/end/max_turns": f"Rollouts search in all their turns and do not answer. Try more `max_turns`. {_GO_BACK}",
    "rollout/end/max_length": f"Rollouts run out of tokens. Try more `max_completion_length`. {_GO_BACK}",
    "rollout/end/no_action": _INVALID,
    "rollout/end/search_failed": "Rollouts whose search failed teach nothing. Look at the retriever.",
    "duplicate queries": f"Rollouts ask again what they asked before. Look at what the queries find. {_GO_BACK}",
    "low entropy": f"The rollouts of a group become equal. Try `entropy_coef` or more `temperature`. {_GO_BACK}",
    "high entropy": f"The text becomes random. Look at `grad_norm` and, with vLLM, `sampling/`. {_GO_BACK}",
    "tspo/groups_without_signal": "Nothing is learned. If `reward` is high, there is nothing left to learn. If it is "
    "low, look at whether gold answers are found and right answers recognised; try easier questions or more "
    "`num_generations`.",
}


@dataclass(frozen=True)
class Alarm:
    """
    An alarm that was raised.

    Args:
        name (`str`):
            What was watched, such as `"rollout/searches"`, `"valid turns"` or `"low entropy"`.
        step (`int`):
            Step of the log entry that raised it.
        value (`float`):
            The value there.
        threshold (`float`):
            What the value has passed.
    """

    name: str
    step: int
    value: float
    threshold: float


@dataclass
class _Watch:
    """One value of the log entries, and for how many of them in a row it has been past its threshold."""

    name: str
    threshold: float
    patience: int
    is_lowest: bool  # whether the threshold is the lowest value or the highest
    times_mean: float = 0.0
    streak: int = 0
    recent: deque[float] = field(default_factory=deque)

    def observe(self, entry: LogEntry) -> float | None:
        """Count a log entry, and return its value; entries without one are passed over."""
        value = _value(self.name, entry)
        if value is None or math.isnan(value):
            return None
        self._compare_with_the_run(value)
        is_past = value < self.threshold if self.is_lowest else value > self.threshold
        self.streak = self.streak + 1 if is_past else 0
        return value

    def _compare_with_the_run(self, value: float) -> None:
        """Raise the threshold to `times_mean` times the first mean of `patience` values, a lowest one to the best."""
        is_first = len(self.recent) < self.patience
        if not is_first:
            self.recent.popleft()
        self.recent.append(value)
        if len(self.recent) == self.patience and (is_first or self.is_lowest):
            self.threshold = max(self.threshold, self.times_mean * fmean(self.recent))


@dataclass(eq=False, kw_only=True)
class CollapseAlarm(TrainerCallback):
    """
    Warns when a policy that learns to search collapses, and stops the run if wanted.

    An alarm is raised when a value has been past its threshold for `patience` log entries in a row, and again only
    after the value has recovered. A policy that was so from the beginning is told, too. Entries without the value, and
    NaN, neither count nor interrupt; evaluations are not looked at. A run without a retriever does not log most of the
    metrics, and is watched by the others.

    Example:

    ```python
    from tspo_trl.trainer.callbacks import CollapseAlarm

    trainer = TSPOTrainer(..., callbacks=[CollapseAlarm(stop=True)])
    ```

    Args:
        stop (`bool`, *optional*, defaults to `False`):
            Whether to stop training with an alarm. What is due at that step is still saved, but no checkpoint is added
            for it: it could push out the last good one.
        patience (`int`, *optional*, defaults to `10`):
            Number of log entries in a row. This and all thresholds are ours.
        min_searches (`float`, *optional*, defaults to `0.1`):
            Lowest number of searches a rollout.
        max_searches (`float`, *optional*, defaults to `0.95`):
            Highest number of searches a rollout, as a share of `max_turns`; a run that searched about as much from its
            beginning may go on so.
        min_valid (`float`, *optional*, defaults to `0.1`):
            Lowest share of turns with a valid action, and of rollouts that end with an answer.
        min_share_of_best (`float`, *optional*, defaults to `0.5`):
            What must be left of the run's own best for the same two: of the highest mean over `patience` entries.
        max_end (`float`, *optional*, defaults to `0.5`):
            Highest share of rollouts with the same end other than an answer: `max_turns` (they search until they may
            not any more), `max_length`, `no_action` or `search_failed`.
        max_duplicate_queries (`float`, *optional*, defaults to `0.5`):
            Highest share of queries that the same rollout had asked before.
        min_entropy (`float`, *optional*, defaults to `0.01`):
            Lowest entropy, in nats a token.
        max_entropy_growth (`float`, *optional*, defaults to `3.0`):
            How many times its mean over the first `patience` entries the entropy may reach; up to 1 nat a token, it
            may grow as it likes.
        max_groups_without_signal (`float`, *optional*, defaults to `0.95`):
            Highest share of groups without signal.

    Attributes:
        alarms (`list[Alarm]`):
            All alarms of the run so far, those before it was resumed included.

    Raises:
        ValueError: `patience` or a threshold cannot work.
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
        """Begin anew, or with what was logged before the checkpoint that is resumed."""
        self.alarms, self._watches = [], self._make_watches(getattr(args, "max_turns", None))
        for entry in state.log_history:
            self._observe(entry, entry["step"])

    def on_log(self, args: Any, state: Any, control: Any, logs: LogEntry | None = None, **kwargs: Any) -> None:
        """Raise the alarms of a log entry."""
        past = len(self.alarms)
        alarms = self._observe(logs or {}, state.global_step)
        if state.is_world_process_zero:
            # A run that was resumed after an alarm stops again, and says why.
            for alarm in alarms if self.stop else self.alarms[past:]:
                self._warn(alarm)
        if alarms and self.stop:
            control.should_training_stop = True

    def _observe(self, entry: LogEntry, step: int) -> list[Alarm]:
        """All alarms that hold at a log entry; those that are new are kept."""
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
    """What is watched under a name, in a log entry; `None` where it is not logged."""
    if name == "valid turns":
        invalid = _ratio(entry, "rollout/invalid_actions", "rollout/turns")
        return None if invalid is None else 1 - invalid
    if name == "duplicate queries":
        return _ratio(entry, "rollout/duplicate_queries", "rollout/queries")
    return entry.get(_METRICS.get(name, name))


def _ratio(entry: LogEntry, part: str, whole: str) -> float | None:
    """Of two means over the same rollouts."""
    if entry.get(part) is None or not entry.get(whole):
        return None
    return float(entry[part] / entry[whole])


class RetrieverRecord(TrainerCallback):
    """
    Writes the retriever's identity to `retriever.json`, in `output_dir` when training begins and in every checkpoint.

    Args:
        retriever ([`~tspo_trl.search.Retriever`]):
            What the run searches.
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
    Warn if a checkpoint was made with another retriever than the one that is to be searched now.

    Args:
        checkpoint (`str`):
            Folder of the checkpoint.
        retriever ([`~tspo_trl.search.Retriever`]):
            What the resumed run searches.
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
            "Cannot tell whether %s was made with this retriever: it was %s and is %s, and which index one of them "
            "searches is not known. A server has to be up, and to be one of `tspo-trl serve`.",
            checkpoint,
            recorded,
            identity,
        )
    else:
        logger.warning(
            "THE RETRIEVER HAS CHANGED since checkpoint %s was made: %s. Results before and after it are not "
            "comparable. This is harmless only if the same corpus was indexed anew with the same options. "
            "To go on as before, pass the retriever of the checkpoint.",
            checkpoint,
            "; ".join(_differences(recorded, identity)),
        )


def _searched(identity: RetrieverIdentity) -> RetrieverIdentity:
    """What a server searches, in place of the server: an index is the same one wherever it is searched."""
    served = identity.parameters.get("served")
    return RetrieverIdentity.from_dict(served) if served else identity


def _through_json(identity: RetrieverIdentity) -> RetrieverIdentity:
    return RetrieverIdentity.from_dict(json.loads(json.dumps(identity.to_dict())))


def _differences(recorded: RetrieverIdentity, identity: RetrieverIdentity) -> list[str]:
    before, now = recorded.to_dict(), identity.to_dict()
    return [f"{name} was {before[name]!r} and is {now[name]!r}" for name in now if before[name] != now[name]]


def _write(folder: Path, identity: RetrieverIdentity) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RETRIEVER_FILE).write_text(json.dumps(identity.to_dict(), indent=2) + "\n", encoding="utf-8")
