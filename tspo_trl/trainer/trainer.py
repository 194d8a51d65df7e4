"""[`TSPOTrainer`]: TRL's `GRPOTrainer` with search rollouts and turn-level credit.

The trainer is glue. It overrides `_generate` (the turn loop of `rollout.py`), `_calculate_rewards` (a failed search is
no wrong answer) and `_generate_and_score_completions` (advantages of `credit.py`). What it logs is in
`trainer_logging.py`. The loss and all the rest is TRL's.
"""

import textwrap
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from accelerate.logging import get_logger
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput, has_length
from trl import GRPOConfig, GRPOTrainer

from ..credit import group_advantages
from ..protocols.base import SearchProtocol
from ..protocols.tags import TagProtocol
from ..rewards import exact_match_reward
from ..rollout.generation import TransformersTurns, context_length, is_generation_collective, trajectory_of_generation
from ..rollout.lockstep import most_rollouts
from ..rollout.loop import RolloutLoop
from ..rollout.prompts import row_prompt
from ..rollout.state import RolloutLimits
from ..rollout.vllm import VLLMTurns
from ..search.base import Retriever
from .callbacks import RetrieverRecord, warn_of_another_retriever
from .checkpoints import ResumableTrainer
from .config import TSPOConfig
from .evaluation import EvaluationScores, greedy_evaluation
from .logging import LoggingTrainer
from .metrics import credit_metrics
from .records import find_first_hit, gold_in_question, token_advantages, trajectory_records
from .validation import check_arguments, check_golden_answers, dataset_columns

logger = get_logger(__name__)


class TSPOTrainer(ResumableTrainer, LoggingTrainer):
    """
    Trainer for Turn-level Stage-aware Policy Optimization (TSPO).

    [TSPO](https://huggingface.co/papers/2601.22776) trains a language model to search. It is GRPO with two changes:
    rollouts are made in turns, with a search after each, and a wrong rollout is rewarded for the turn whose retrieved
    evidence first holds a gold answer, so that groups without a correct rollout are compared turn by turn.

    Without a `retriever` it generates as [`~trl.GRPOTrainer`] does and accepts all that it accepts.

    Example:

    ```python
    from datasets import Dataset
    from tspo_trl import TSPOConfig, TSPOTrainer
    from tspo_trl.search import BM25Retriever

    trainer = TSPOTrainer(
        model="Qwen/Qwen2.5-3B-Instruct",
        train_dataset=Dataset.from_list([{"question": "...", "golden_answers": ["..."]}]),
        retriever=BM25Retriever("indexes/wiki-18"),
        args=TSPOConfig(output_dir="out", use_vllm=True),
    )
    trainer.train()
    ```

    Args:
        model (`str`, [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            The policy, see [`~trl.GRPOTrainer`].
        reward_funcs (`RewardFunc` or `list[RewardFunc]`, *optional*):
            Outcome rewards, see [`~trl.GRPOTrainer`]. Defaults to [`~tspo_trl.rewards.exact_match_reward`] where the
            dataset has `golden_answers`. With a `retriever` they also get the column `trajectory`.
        args ([`TSPOConfig`], *optional*):
            Configuration. A plain [`~trl.GRPOConfig`] is accepted where the trainer has nothing to do but GRPO.
        train_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`], *optional*):
            Rows with `question` (from which the protocol writes the prompt) or `prompt`, and `golden_answers`, a list
            of `str`. Without `golden_answers` there is no latent reward and the advantages are GRPO's.
        eval_dataset (*optional*):
            As `train_dataset`, see [`~trl.GRPOTrainer`].
        retriever ([`~tspo_trl.search.Retriever`], *optional*):
            What the model searches.
        protocol ([`~tspo_trl.protocols.base.SearchProtocol`], *optional*):
            How model and search speak to each other: [`~tspo_trl.protocols.tags.TagProtocol`] (the default), Search-R1's
            tags, or [`~tspo_trl.protocols.chat.ChatToolProtocol`], the chat template's own tool calls.
        **kwargs:
            All other arguments of [`~trl.GRPOTrainer`], by name: `processing_class`, `peft_config`, `callbacks`,
            `tools`, ...

    Raises:
        ValueError: An argument, a budget or a dataset cannot work; raised before the model loads, but for a
            `max_feedback_length` that cannot hold the protocol's own text, which only the tokenizer tells.
        TypeError: `args` is a [`~trl.GRPOConfig`] where a [`TSPOConfig`] is needed, or `retriever` or `protocol` is
            none.
    """

    # TRL's own tests call methods of trainers whose `__init__` never ran: there, nothing is ours.
    retriever: Retriever | None = None
    _is_credited = False  # whether the batch in hand needs trajectories

    _tag_names = ["trl", "tspo"]  # noqa: RUF012
    _name = "TSPO"
    _paper = {  # noqa: RUF012
        "title": "TSPO: Breaking the Double Homogenization Dilemma in Multi-turn Search Policy Optimization",
        "id": "2601.22776",
        # docstyle-ignore
        "citation": textwrap.dedent("""\
            @inproceedings{ma2026tspo,
                title        = {{TSPO: Breaking the Double Homogenization Dilemma in Multi-turn Search Policy
                                 Optimization}},
                author       = {Ma and others},
                year         = 2026,
                booktitle    = {Findings of the Association for Computational Linguistics: ACL 2026},
                eprint       = {arXiv:2601.22776},
            }"""),
    }

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: GRPOConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        *,
        retriever: Retriever | None = None,
        protocol: SearchProtocol | None = None,
        **kwargs: Any,
    ):
        if args is None:
            model_name = model if isinstance(model, str) else model.config._name_or_path
            args = TSPOConfig(f"{model_name.split('/')[-1]}-TSPO")
        has_golden_answers = "golden_answers" in dataset_columns(train_dataset)
        wants_default_reward = reward_funcs is None and not kwargs.get("environment_factory")
        generation = {name: kwargs.get(name) for name in ("tools", "rollout_func", "environment_factory")}
        check_arguments(args, retriever, protocol, train_dataset, eval_dataset, wants_default_reward, generation)
        if isinstance(args, TSPOConfig) and args.tspo_enabled and not has_golden_answers:
            logger.warning(
                "`train_dataset` has no `golden_answers`: there is no latent reward, the advantages are GRPO's."
            )
        if wants_default_reward and has_golden_answers:
            reward_funcs = exact_match_reward

        super().__init__(model, reward_funcs, args, train_dataset, eval_dataset, **kwargs)

        self.retriever = retriever
        self.protocol: SearchProtocol = protocol or TagProtocol()
        self._rewards_per_func: Tensor | None = None  # of the batch in hand, all processes
        self._evaluation_scores = EvaluationScores()
        if retriever is not None:
            self._set_up_search(retriever)
            self.add_callback(RetrieverRecord(retriever))

    def _set_up_search(self, retriever: Retriever) -> None:
        """Prepare the turn loop, and have both generation backends end a turn at an action."""
        args = self.args
        limits = RolloutLimits(
            max_turns=args.max_turns,
            max_turn_length=args.max_turn_length,
            max_feedback_length=args.max_feedback_length,
            max_completion_length=args.max_completion_length,
            top_k=args.search_top_k,
            max_context_length=context_length(self),
        )
        self.rollout_loop = RolloutLoop(self._tokenizer, retriever, self.protocol, limits, self.eos_token_ids)
        self.rollout_func = self._run_rollouts
        # TRL takes a completion without an end-of-sequence token for truncated, but an answer needs none. Truncated
        # rollouts are masked in `_run_rollouts`.
        self._mask_truncated_rollouts = self.mask_truncated_completions
        self.mask_truncated_completions = False
        if self.protocol.chat_template is not None:
            self.chat_template = self.protocol.chat_template
        turns = VLLMTurns if self.use_vllm else TransformersTurns
        self._generate_turns = turns(self, list(self.protocol.stop_strings))
        # Processes that generate together keep step; others need not wait for each other.
        self._most_rollouts = partial(most_rollouts, self) if is_generation_collective(self) else int

    # Rollouts

    def _run_rollouts(self, prompts: list, trainer: GRPOTrainer) -> dict[str, Any]:
        """TRL's `rollout_func`: one search rollout per prompt."""
        prompt_ids = self._prompt_ids(prompts)
        rollouts, statistics = self.rollout_loop.run(prompt_ids, self._generate_turns, self._most_rollouts)
        self._trajectories = [rollout.trajectory for rollout in rollouts]
        self._log_rollouts(statistics)
        left_out = {"search_failed", "max_length"} if self._mask_truncated_rollouts else {"search_failed"}
        return {
            "prompt_ids": [rollout.prompt_ids for rollout in rollouts],
            "completion_ids": [rollout.completion_ids for rollout in rollouts],
            "logprobs": [rollout.logprobs for rollout in rollouts] if self.use_vllm else None,
            "env_mask": [
                [0] * len(rollout.completion_mask) if rollout.end_reason in left_out else rollout.completion_mask
                for rollout in rollouts
            ],
            "trajectory": self._trajectories,
        }

    def _prompt_ids(self, prompts: list) -> list[list[int]]:
        """TRL's own tokenization, with the protocol's tools in the prompt."""
        # Only here: with `tools` set, TRL would also run its own tool loop.
        own_tools: Any = self.tools
        self.tools = self.protocol.tools or []
        try:
            return self._tokenize_prompts(prompts)[0]
        finally:
            self.tools = own_tools

    def _generate(self, prompts: list) -> tuple:
        output = super()._generate(prompts)
        prompt_ids, completion_ids, tool_mask, completions, *rest = output
        if self.retriever is None and not self._is_credited:
            return output
        if self.retriever is None:
            masks = tool_mask or [[1] * len(ids) for ids in completion_ids]
            self._trajectories = [
                trajectory_of_generation(ids, mask, self._tokenizer)
                for ids, mask in zip(completion_ids, masks, strict=True)
            ]
            return output
        self._correct_length_metrics()
        if not isinstance(prompts[0], str):
            completions = [self.protocol.messages(trajectory) for trajectory in self._trajectories]
        return prompt_ids, completion_ids, tool_mask, completions, *rest

    # Rewards and credit

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list, completions: list, completion_ids_list: list[list[int]]
    ) -> Tensor:
        rewards_per_func = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self.retriever is not None:
            has_failed = self._tensor([one.end_reason == "search_failed" for one in self._trajectories])
            rewards_per_func[self.accelerator.gather(has_failed)] = torch.nan
        self._rewards_per_func = rewards_per_func
        return rewards_per_func

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if self.retriever is not None:
            inputs = [{**row, "prompt": row_prompt(row, self._tokenizer, self.protocol)} for row in inputs]
        has_trajectories = self.retriever is not None or "golden_answers" in inputs[0]
        self._is_credited = isinstance(self.args, TSPOConfig) and has_trajectories
        output = super()._generate_and_score_completions(inputs)
        if self._is_credited:
            self._assign_credit(inputs, output)
        else:
            self._keep_records([None] * len(inputs) * self.accelerator.num_processes)
        return output

    def _assign_credit(self, inputs: list[dict[str, Any]], output: dict[str, Any]) -> None:
        """Put TSPO's token advantages in place of GRPO's, and log what was learned from."""
        mode, args, gather = self._mode, self.args, self.accelerator.gather
        has_golden_answers = "golden_answers" in inputs[0]
        first_hits = [-1] * len(inputs)
        if has_golden_answers:
            check_golden_answers([row["golden_answers"] for row in inputs], f"{mode} batch")
            first_hits = [find_first_hit(*pair, args) for pair in zip(self._trajectories, inputs, strict=True)]
            in_question = gather(self._tensor([float(gold_in_question(row, args)) for row in inputs]))
            self._metrics[mode]["tspo/gold_in_question"].append(in_question.mean().item())
        num_turns = gather(self._tensor([len(one.turns) for one in self._trajectories]))
        all_first_hits = gather(self._tensor(first_hits))
        group_size: Any = self.num_generations if mode == "train" else self.num_generations_eval
        outcomes = self._outcomes()

        first = self.accelerator.process_index * len(inputs)
        local = slice(first, first + len(inputs))
        if has_golden_answers and args.tspo_enabled:
            advantages = self._turn_advantages(outcomes, num_turns, all_first_hits, group_size)
            output["advantages"] = token_advantages(
                self._trajectories, advantages[local], output["completion_ids"].size(1)
            )
            self._correct_logged_advantages(advantages.sum(dim=1) / num_turns)
        else:
            is_turn = torch.arange(int(num_turns.max()), device=num_turns.device) < num_turns.unsqueeze(1)
            advantages = gather(output["advantages"]).unsqueeze(1) * is_turn
        if has_golden_answers:
            values = credit_metrics(
                outcomes, num_turns, all_first_hits, advantages, group_size, args.success_threshold
            )
            self._append_metrics(mode, values)
            if mode == "eval" and self.retriever is not None:
                self._evaluation_scores.add(self._trajectories, inputs, first_hits)
        if args.log_trajectories or self.log_completions:
            groups = [(first + i) // group_size for i in range(len(inputs))]
            credit = (first_hits, outcomes[local].tolist(), advantages[local].tolist())
            self._keep_records(gather_object(trajectory_records(self._trajectories, inputs, groups, *credit, args)))

    def _turn_advantages(self, outcomes: Tensor, num_turns: Tensor, first_hits: Tensor, group_size: int) -> Tensor:
        """Advantage of every turn of all processes' rollouts; a subclass may assign credit in another way."""
        return group_advantages(outcomes, num_turns, first_hits, group_size, **self.args.credit_options)

    def _outcomes(self) -> Tensor:
        """Outcome reward of each rollout of all processes: TRL's weighted sum, NaN where no function scored it."""
        rewards: Any = self._rewards_per_func
        outcomes = (rewards * self.reward_weights.to(rewards.device).unsqueeze(0)).nansum(dim=1)
        return outcomes.masked_fill(rewards.isnan().all(dim=1), torch.nan)

    # Evaluation

    def evaluate(
        self,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """
        Evaluate, as [`~transformers.Trainer`] does; with a `retriever`, by default, greedily.

        Args:
            eval_dataset ([`~datasets.Dataset`] or `dict[str, Dataset]`, *optional*):
                What to evaluate on, `self.eval_dataset` by default. Rows with a `data_source` are also scored by it.
            ignore_keys, metric_key_prefix (*optional*):
                As in [`~transformers.Trainer.evaluate`].

        Returns:
            `dict[str, float]`: what [`~transformers.Trainer`] returns, and, with a `retriever` and `golden_answers`,
            means over the questions ([`~tspo_trl.trainer.metrics.mean_scores`]), such as `eval_exact_match`,
            `eval_nq/exact_match` and `eval_macro/exact_match`. A question whose search failed is in none of them.
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
        # An evaluation that was broken off, and `predict`, leave theirs.
        self._evaluation_scores, self._trajectory_files.records["eval"] = EvaluationScores(), []
        loop_args = (description, prediction_loss_only, ignore_keys, metric_key_prefix)
        output: Any = super().evaluation_loop(dataloader, *loop_args)
        group_size: Any = self.num_generations_eval  # the sampler repeats each row of the dataset
        num_rollouts = self.num_examples(dataloader) * group_size if has_length(dataloader) else None
        output.metrics.update(self._evaluation_scores.means(num_rollouts, metric_key_prefix))
        self._trajectory_files.records["eval"] = self._trajectory_files.records["eval"][:num_rollouts]
        return output

    # Resuming

    def _find_checkpoint(self, resume_from_checkpoint: str | bool | None) -> str | None:
        checkpoint = super()._find_checkpoint(resume_from_checkpoint)
        if self.retriever is not None and checkpoint and self.accelerator.is_main_process:
            warn_of_another_retriever(checkpoint, self.retriever)
        return checkpoint

    def _rollout_state(self) -> dict[str, Any]:
        return {**super()._rollout_state(), "records": self._trajectory_files.records}

    def _load_rollout_state(self, state: dict[str, Any]) -> None:
        super()._load_rollout_state(state)
        self._trajectory_files.records = state["records"]
