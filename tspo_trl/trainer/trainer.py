"""[`TSPOTrainer`]: TRL's `GRPOTrainer` with search rollouts and turn-level credit.

The trainer is thin. It overrides three methods of TRL:

1. `_generate` runs the turn loop of `rollout/loop.py`.
2. `_calculate_rewards` marks rollouts whose search failed as unscorable.
3. `_generate_and_score_completions` replaces GRPO's advantages by those of `credit/advantages.py`.

Its base classes in `checkpoints.py`, `logging.py` and `evaluation.py` add the rest. The loss is TRL's.
"""

import textwrap
from functools import partial
from typing import Any

import torch
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

from ..credit import group_advantages
from ..protocols.base import SearchProtocol
from ..protocols.tags import TagProtocol
from ..rewards import exact_match_reward
from ..rollout import generation
from ..rollout.lockstep import most_rollouts
from ..rollout.loop import RolloutLoop
from ..rollout.prompts import row_prompt
from ..rollout.state import RolloutLimits
from ..rollout.vllm import VLLMTurns
from ..search.base import Retriever
from .callbacks import RetrieverRecord
from .config import TSPOConfig
from .evaluation import EvaluatingTrainer
from .records import find_first_hit, gold_in_question, token_advantages, weighted_outcomes
from .validation import check_arguments, check_golden_answers, dataset_columns


class TSPOTrainer(EvaluatingTrainer):
    """
    Trainer for Turn-level Stage-aware Policy Optimization (TSPO).

    [TSPO](https://huggingface.co/papers/2601.22776) trains a language model to search. It changes GRPO in two ways.
    The model generates in turns and may search after each turn. A wrong rollout gets partial credit for the turn whose
    retrieved evidence first contains a gold answer, and groups without a correct rollout are compared turn by turn.

    Without a `retriever` the trainer generates as [`~trl.GRPOTrainer`] does and accepts the same arguments.

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
            Policy to train, see [`~trl.GRPOTrainer`].
        reward_funcs (`RewardFunc` or `list[RewardFunc]`, *optional*):
            Outcome rewards, see [`~trl.GRPOTrainer`]. Defaults to [`~tspo_trl.rewards.exact_match_reward`] if the
            dataset has `golden_answers`. With a `retriever`, reward functions also receive the column `trajectory`.
        args ([`TSPOConfig`], *optional*):
            Configuration. A plain [`~trl.GRPOConfig`] works if neither `retriever` nor `golden_answers` is used.
        train_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`], *optional*):
            Rows with `golden_answers` (a list of `str`) and either `question` or `prompt`. The protocol writes the
            prompt for a `question`. Without `golden_answers` the advantages are GRPO's.
        eval_dataset (*optional*):
            Evaluation data in the same form, see [`~trl.GRPOTrainer`].
        retriever ([`~tspo_trl.search.Retriever`], *optional*):
            Search engine that answers the model's queries.
        protocol ([`~tspo_trl.SearchProtocol`], *optional*):
            Format of searches, feedback and answers: [`~tspo_trl.TagProtocol`] (the default), Search-R1's tags, or
            [`~tspo_trl.ChatToolProtocol`], the tool calls of the model's chat template.
        **kwargs:
            All other arguments of [`~trl.GRPOTrainer`], by name: `processing_class`, `peft_config`, `callbacks`,
            `tools`, ...

    Raises:
        ValueError: An argument, a budget or a dataset cannot work. The trainer checks them before it loads the model.
            Only a `max_feedback_length` that is too short for the protocol's tags is found later, with the tokenizer.
        TypeError: `args` is a [`~trl.GRPOConfig`] but a [`TSPOConfig`] is needed, `retriever` is not a retriever, or
            `protocol` is not a protocol.
    """

    _is_credited = False  # whether the current batch needs trajectories

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
        of_trl = {name: kwargs.get(name) for name in ("tools", "rollout_func", "environment_factory")}
        check_arguments(args, retriever, protocol, train_dataset, eval_dataset, reward_funcs, of_trl)
        if reward_funcs is None and has_golden_answers and not of_trl["environment_factory"]:
            reward_funcs = exact_match_reward

        super().__init__(model, reward_funcs, args, train_dataset, eval_dataset, **kwargs)

        self.retriever = retriever
        self.protocol: SearchProtocol = protocol or TagProtocol()
        if retriever is not None:
            self._set_up_search(retriever)
            self.add_callback(RetrieverRecord(retriever))

    def _set_up_search(self, retriever: Retriever) -> None:
        """Make the turn loop, and let the generation backend end a turn at an action."""
        limits = RolloutLimits.from_arguments(self.args, generation.context_length(self))
        self.rollout_loop = RolloutLoop(self._tokenizer, retriever, self.protocol, limits, self.eos_token_ids)
        self.rollout_func = self._run_rollouts
        # TRL masks completions without an end-of-sequence token as truncated, but an answer needs none.
        # `_run_rollouts` masks the truncated rollouts instead.
        self._mask_truncated_rollouts = self.mask_truncated_completions
        self.mask_truncated_completions = False
        if self.protocol.chat_template is not None:
            self.chat_template = self.protocol.chat_template
        turns = VLLMTurns if self.use_vllm else generation.TransformersTurns
        self._generate_turns = turns(self, list(self.protocol.stop_strings))
        # Processes that generate together must generate the same number of turns. Others need not wait.
        self._most_rollouts = partial(most_rollouts, self) if generation.is_generation_collective(self) else int

    # Hook 1: rollouts

    def _run_rollouts(self, prompts: list, trainer: GRPOTrainer) -> dict[str, Any]:
        """TRL's `rollout_func`: one search rollout per prompt."""
        prompt_ids = generation.tokenize_prompts(self, prompts, self.protocol.tools)
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

    def _generate(self, prompts: list) -> tuple:
        output = super()._generate(prompts)
        prompt_ids, completion_ids, tool_mask, completions, *rest = output
        if self.retriever is not None:
            self._correct_length_metrics()
            if not isinstance(prompts[0], str):
                completions = [self.protocol.messages(trajectory) for trajectory in self._trajectories]
            return prompt_ids, completion_ids, tool_mask, completions, *rest
        if self._is_credited:
            masks = tool_mask or [[]] * len(completion_ids)
            rows = zip(completion_ids, masks, completions, strict=True)
            self._trajectories = [
                generation.trajectory_of_generation(ids, mask, self._tokenizer, one) for ids, mask, one in rows
            ]
        return output

    # Hook 2: rewards

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list, completions: list, completion_ids_list: list[list[int]]
    ) -> Tensor:
        rewards_per_func = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self.retriever is not None:
            has_failed = self._tensor([one.end_reason == "search_failed" for one in self._trajectories])
            rewards_per_func[self.accelerator.gather(has_failed)] = torch.nan
        self._rewards_per_func = rewards_per_func
        return rewards_per_func

    # Hook 3: credit

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
        """Replace GRPO's advantages by TSPO's token advantages, and log the batch."""
        mode, args, gather = self._mode, self.args, self.accelerator.gather
        has_golden_answers = "golden_answers" in inputs[0]
        first_hits = [-1] * len(inputs)
        if has_golden_answers:
            check_golden_answers([row["golden_answers"] for row in inputs], f"{mode} batch")
            first_hits = [find_first_hit(*pair, args) for pair in zip(self._trajectories, inputs, strict=True)]
            in_question = gather(self._tensor([float(gold_in_question(row, args)) for row in inputs]))
            self._append_metrics(mode, {"tspo/gold_in_question": in_question.mean().item()})
        num_turns = gather(self._tensor([len(one.turns) for one in self._trajectories]))
        all_first_hits = gather(self._tensor(first_hits))
        group_size: Any = self.num_generations if mode == "train" else self.num_generations_eval
        outcomes = weighted_outcomes(self._rewards_per_func, self.reward_weights)

        if has_golden_answers and args.tspo_enabled:
            advantages = self._turn_advantages(outcomes, num_turns, all_first_hits, group_size)
            output["advantages"] = token_advantages(
                self._trajectories, advantages[self._local_rows(len(inputs))], output["completion_ids"].size(1)
            )
            self._correct_logged_advantages(advantages.sum(dim=1) / num_turns)
        else:
            is_turn = torch.arange(int(num_turns.max()), device=num_turns.device) < num_turns.unsqueeze(1)
            advantages = gather(output["advantages"]).unsqueeze(1) * is_turn
        self._log_credit(inputs, outcomes, num_turns, all_first_hits, advantages, group_size)

    def _turn_advantages(self, outcomes: Tensor, num_turns: Tensor, first_hits: Tensor, group_size: int) -> Tensor:
        """Advantage of every turn of all processes' rollouts. Override this method to assign credit differently."""
        options = self.args.credit_options
        return group_advantages(outcomes, num_turns, first_hits, group_size, **options, successes=self._successes)
