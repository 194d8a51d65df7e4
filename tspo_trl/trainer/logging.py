"""Logging of rollouts: metrics, tables of completions and turns, trajectory files.

[`LoggingTrainer`] corrects TRL's metrics of search rollouts and adds more. `log_completions` adds tables, which go to
the trackers of `report_to`. Unused trackers are not imported.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
import torch
from accelerate.utils import gather_object
from torch import Tensor
from transformers.integrations import TensorBoardCallback
from trl.trainer.utils import print_prompt_completions_sample

from ..search.statistics import SearchStatistics
from ..trajectory import Trajectory
from .config import TSPOConfig
from .metrics import credit_metrics, length_metrics, rollout_metrics, search_metrics
from .records import TrajectoryFiles, success_rewards, trajectory_records
from .steps import SteppingTrainer
from .tables import CONSOLE_COLUMNS, NUM_GROUPS, Record, TurnTables, markdown_table, newest_groups, plain_messages
from .validation import check_success_reward, named_datasets


class LoggingTrainer(SteppingTrainer):
    """
    [`~trl.GRPOTrainer`] that logs turns and their credit.

    It takes the arguments of [`~trl.GRPOTrainer`].
    """

    args: TSPOConfig
    model: Any
    _rewards_per_func: Any = None  # tensor of the current batch, all processes

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        settings: Any = self.args
        if kwargs.get("environment_factory"):
            datasets = [dataset for _, dataset in named_datasets(self.train_dataset, self.eval_dataset)]
            check_success_reward(settings, self.reward_func_names, datasets)
        self._trajectories: list[Trajectory] = []  # of the current batch, this process's part
        self._trajectory_files = TrajectoryFiles(str(settings.output_dir))
        # A plain `GRPOConfig` has no `success_threshold`, and nothing is credited.
        self._turn_tables = TurnTables(settings.generation_batch_size, getattr(settings, "success_threshold", 1.0))
        self._modes_to_log: set[str] = set()  # modes with turns that are not logged yet

    @property
    def _successes(self) -> Tensor | None:
        """Success rewards of the batch of all processes, `None` if no reward function is the success reward."""
        if self._rewards_per_func is None:
            return None
        return success_rewards(self._rewards_per_func, self.reward_func_names, self.args.success_reward)

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    def _tensor(self, values: list) -> Tensor:
        return torch.tensor(values, device=self.accelerator.device)

    # Metrics

    def _append_metrics(self, mode: str, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._metrics[mode][name].append(value)

    def _log_rollouts(self, statistics: SearchStatistics) -> None:
        mode, gather = self._mode, self.accelerator.gather
        per_rollout = rollout_metrics(self._trajectories)
        means = gather(torch.stack(list(per_rollout.values()), dim=1).to(self.accelerator.device)).mean(dim=0)
        self._append_metrics(mode, dict(zip(per_rollout, means.tolist(), strict=True)))
        self._append_metrics(mode, search_metrics(gather_object([statistics])))

    def _correct_length_metrics(self) -> None:
        """TRL counts completions without an end-of-sequence token as clipped. Count those that ran out of budget.

        Rollouts with a failed search are left out.
        """
        is_clipped = self._tensor([one.end_reason == "max_length" for one in self._trajectories])
        has_failed = self._tensor([one.end_reason == "search_failed" for one in self._trajectories])
        lengths = self._tensor([float(one.num_tokens) for one in self._trajectories])
        lengths, is_clipped, has_failed = self.accelerator.gather((lengths, is_clipped, has_failed))
        for name, value in length_metrics(lengths[~has_failed], is_clipped[~has_failed]).items():
            self._metrics[self._mode][name][-1] = value

    def _correct_logged_advantages(self, advantages: Tensor) -> None:
        """TRL logs one advantage per completion. Replace it by the mean over the turns."""
        logged: Any = self._logs["advantages"]
        for _ in range(min(len(logged), len(advantages))):
            logged.pop()
        logged.extend(advantages.tolist())

    def _local_rows(self, num_rollouts: int) -> slice:
        """Rows of this process in a batch of all processes."""
        first = self.accelerator.process_index * num_rollouts
        return slice(first, first + num_rollouts)

    def _log_credit(
        self,
        inputs: list[dict[str, Any]],
        outcomes: Tensor,
        num_turns: Tensor,
        first_hits: Tensor,
        advantages: Tensor,
        group_size: int,
    ) -> None:
        """Log the credit of a batch. `inputs` are rows of this process, the tensors cover all processes."""
        local = self._local_rows(len(inputs))
        successes = outcomes if self._successes is None else self._successes
        if "golden_answers" in inputs[0]:
            credit = (outcomes, num_turns, first_hits, advantages, group_size, self.args.success_threshold, successes)
            self._append_metrics(self._mode, credit_metrics(*credit))
        if self.args.log_trajectories or self.log_completions:
            groups = [row // group_size for row in range(local.start, local.stop)]
            tensors = (first_hits, outcomes, successes, advantages)
            hits, rewards, rights, credits = (values[local].tolist() for values in tensors)
            records = trajectory_records(self._trajectories, inputs, groups, hits, rewards, rights, credits, self.args)
            self._keep_records(gather_object(records))

    # Tables and files

    def _keep_records(self, records: list[Record | None]) -> None:
        """Keep a batch of all processes for the next log entry. A record is `None` for a rollout without credit."""
        if not self.accelerator.is_main_process:
            return
        credited = [record for record in records if record]
        if credited and self.args.log_trajectories:
            self._trajectory_files.keep(self._mode, credited)
        if self.log_completions:
            self._turn_tables.keep(self._mode, records)
            self._modes_to_log |= {self._mode} if credited else set()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        mode, step = self._mode, self.state.global_step
        columns = self._turn_tables.completion_columns()
        with self._more_columns(columns):
            super().log(logs, start_time)
        self._trajectory_files.write(mode, step, logs)
        if mode in self._modes_to_log:
            self._modes_to_log.remove(mode)
            self._log_turns(mode, columns)

    @contextmanager
    def _more_columns(self, columns: dict[str, pd.Series]) -> Iterator[None]:
        """Let TRL log its table of completions with all `columns`, and print it with a few of them."""
        if not columns:
            yield
            return
        own: Any = self._logs
        num_samples: Any = self.num_completions_to_print
        completions = [plain_messages(completion) for completion in own["completion"]]
        # If a reward function logs a column of the same name, the user's column wins.
        shown: Any = {**own, "completion": completions, "extra": {**columns, **own["extra"]}}
        self._logs, self.num_completions_to_print = shown, 0
        try:
            yield
        finally:
            self._logs, self.num_completions_to_print = own, num_samples
        extra = {**{name: columns[name] for name in CONSOLE_COLUMNS}, **own["extra"]}
        table = (own["prompt"], own["completion"], own["rewards"], own["advantages"])
        print_prompt_completions_sample(*table, self.state.global_step, num_samples, extra=extra)

    def _log_turns(self, mode: str, columns: dict[str, pd.Series]) -> None:
        """Log the table of turns to the trackers of TRL's table of completions, and both tables to TensorBoard."""
        turns = self._turn_tables.turns(mode, self.state.global_step)
        if turns.empty:
            return
        report_to = self.args.report_to or []
        if "wandb" in report_to:
            import wandb

            if wandb.run is not None:
                wandb.log({"turns": wandb.Table(dataframe=turns)})
        if "trackio" in report_to:
            import trackio

            trackio.log({"turns": trackio.Table(dataframe=turns)})
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
                self._write_texts(callback.tb_writer, mode, columns, turns)

    def _write_texts(self, writer: Any, mode: str, columns: dict[str, pd.Series], turns: pd.DataFrame) -> None:
        """Write a few groups of both tables as texts, because TensorBoard has no tables."""
        own: Any = self._logs
        completions = pd.DataFrame({**columns, **own["rewards"], **own["extra"], "advantage": own["advantages"]})
        num_groups = NUM_GROUPS if self.num_completions_to_print is None else self.num_completions_to_print
        shown = newest_groups(turns, num_groups)
        if not shown:
            return
        tables = {"completions": completions.loc[shown], "turns": turns[turns["rollout"].isin(shown)]}
        for name, table in tables.items():
            writer.add_text(f"{mode}/{name}", markdown_table(table), self.state.global_step)
        writer.flush()

    # Resuming

    def _rollout_state(self) -> dict[str, Any]:
        return {**super()._rollout_state(), "records": self._trajectory_files.records}

    def _load_rollout_state(self, state: dict[str, Any]) -> None:
        super()._load_rollout_state(state)
        self._trajectory_files.records = state["records"]
