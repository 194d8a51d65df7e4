"""Evaluation of the trainer: greedy decoding, and scores over questions instead of batches."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput, has_length
from trl import GRPOTrainer

from ..rollout.greedy import greedy_config, greedy_sampling
from ..search.base import Retriever
from ..trajectory import Trajectory
from .callbacks import warn_of_another_retriever
from .logging import LoggingTrainer
from .scores import mean_scores, score_rollout


@contextmanager
def greedy_evaluation(trainer: GRPOTrainer) -> Iterator[None]:
    """
    Let a trainer evaluate each question with one rollout of the most probable tokens, as `tspo-trl evaluate` does.

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            Initialised trainer with either backend.
    """
    own: Any = trainer
    sampler: Any = own
    greedy: dict[str, Any]
    if own.use_vllm:
        sampler = own.vllm_generation
        # `generation_kwargs` override the trainer's temperature and penalties.
        greedy = {"generation_kwargs": greedy_sampling(sampler.generation_kwargs), "structured_outputs_regex": None}
    else:
        execution = {"cache_implementation": own.args.cache_implementation, "disable_compile": True}
        config = greedy_config(own.eos_token_ids, own._tokenizer.pad_token_id, **execution)
        greedy = {"generation_config": config, "is_greedy": True}
    kept = own.num_generations_eval, {name: getattr(sampler, name) for name in greedy}
    own.num_generations_eval = 1
    vars(sampler).update(greedy)
    try:
        yield
    finally:
        own.num_generations_eval = kept[0]
        vars(sampler).update(kept[1])


class EvaluationScores:
    """Scores of one evaluation over all processes."""

    def __init__(self) -> None:
        self._scores: list[tuple[str | None, dict[str, float] | None]] = []

    def add(
        self, trajectories: Sequence[Trajectory], rows: Sequence[Mapping[str, Any]], first_hits: Sequence[int]
    ) -> None:
        """
        Score this process's part of a batch. This is a collective operation.

        Args:
            trajectories (sequence of [`~tspo_trl.trajectory.Trajectory`]):
                The rollouts.
            rows (sequence of mappings):
                Their dataset rows, with `golden_answers`.
            first_hits (sequence of `int`):
                Turn of the first occurrence, from 0. -1 if there is none.
        """
        own = [
            (row.get("data_source"), None)
            if trajectory.end_reason == "search_failed"
            else (
                row.get("data_source"),
                score_rollout(trajectory, row["golden_answers"], None if first_hit < 0 else first_hit),
            )
            for trajectory, row, first_hit in zip(trajectories, rows, first_hits, strict=True)
        ]
        self._scores += gather_object(own)

    def means(self, num_rollouts: int | None, prefix: str) -> dict[str, float]:
        """
        Return the mean scores ([`~tspo_trl.trainer.scores.mean_scores`]).

        Args:
            num_rollouts (`int`, *optional*):
                Number of rollouts of the evaluation, if it is known. Further rollouts only filled up the last batches
                of the processes.
            prefix (`str`):
                Prefix of the names, such as `"eval"`.

        Returns:
            `dict[str, float]`: empty if nothing was added.
        """
        counted = self._scores[:num_rollouts]
        if not counted:
            return {}
        means = mean_scores([scores for _, scores in counted], [source for source, _ in counted])
        return {f"{prefix}_{name}": value for name, value in means.items()}


class EvaluatingTrainer(LoggingTrainer):
    """
    [`~trl.GRPOTrainer`] that evaluates search rollouts greedily and scores them question by question.

    It takes the arguments of [`~trl.GRPOTrainer`].
    """

    # TRL's own tests call methods of trainers without `__init__`. Those have no retriever.
    retriever: Retriever | None = None
    is_greedy = False  # whether `TransformersTurns` ignores the model's generation configuration

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._evaluation_scores = EvaluationScores()

    def evaluate(
        self,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """
        Evaluate as [`~transformers.Trainer`] does. With a `retriever`, decoding is greedy by default.

        Args:
            eval_dataset ([`~datasets.Dataset`] or `dict[str, Dataset]`, *optional*):
                Evaluation data, `self.eval_dataset` by default. Rows with a `data_source` are also scored by it.
            ignore_keys, metric_key_prefix (*optional*):
                As in [`~transformers.Trainer.evaluate`].

        Returns:
            `dict[str, float]`: the metrics of [`~transformers.Trainer`]. With a `retriever` and `golden_answers`, also
            means over the questions ([`~tspo_trl.trainer.scores.mean_scores`]), such as `eval_exact_match`,
            `eval_nq/exact_match` and `eval_macro/exact_match`. They leave out questions with a failed search.
        """
        is_greedy = self.retriever is not None and self.args.greedy_evaluation
        with greedy_evaluation(self) if is_greedy else nullcontext():
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        # An interrupted evaluation and `predict` leave scores and records.
        self._evaluation_scores, self._trajectory_files.records["eval"] = EvaluationScores(), []
        loop_args = (description, prediction_loss_only, ignore_keys, metric_key_prefix)
        output: Any = super().evaluation_loop(dataloader, *loop_args)
        group_size: Any = self.num_generations_eval  # the sampler repeats each row
        num_rollouts = self.num_examples(dataloader) * group_size if has_length(dataloader) else None
        output.metrics.update(self._evaluation_scores.means(num_rollouts, metric_key_prefix))
        self._trajectory_files.records["eval"] = self._trajectory_files.records["eval"][:num_rollouts]
        return output

    def _log_credit(
        self,
        inputs: list[dict[str, Any]],
        outcomes: Tensor,
        num_turns: Tensor,
        first_hits: Tensor,
        *others: Any,
    ) -> None:
        super()._log_credit(inputs, outcomes, num_turns, first_hits, *others)
        if self._mode == "eval" and self.retriever is not None and "golden_answers" in inputs[0]:
            own_hits = first_hits[self._local_rows(len(inputs))].tolist()
            self._evaluation_scores.add(self._trajectories, inputs, own_hits)

    # Resuming

    def _find_checkpoint(self, resume_from_checkpoint: str | bool | None) -> str | None:
        checkpoint = super()._find_checkpoint(resume_from_checkpoint)
        if self.retriever is not None and checkpoint and self.accelerator.is_main_process:
            warn_of_another_retriever(checkpoint, self.retriever)
        return checkpoint
