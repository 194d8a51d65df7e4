"""Configuration of [`TSPOTrainer`]."""

import math
from dataclasses import dataclass, field
from typing import Any, get_args

from trl import GRPOConfig

from ..answers import Match
from ..credit import AbsentTurns, Credit, TurnBaseline, TurnLevelGroups

_OPTIONS = {
    "credit": Credit,
    "turn_level_groups": TurnLevelGroups,
    "turn_baseline": TurnBaseline,
    "absent_turns": AbsentTurns,
    "match": Match,
}


@dataclass
class TSPOConfig(GRPOConfig):
    r"""
    Configuration class for the [`TSPOTrainer`].

    [`TSPOConfig`] inherits every parameter from [`~trl.GRPOConfig`]; only the parameters of search rollouts and of
    credit assignment are added. The method is that of [TSPO](https://huggingface.co/papers/2601.22776). Where its
    abstract is silent the choice is ours, and marked "(ours)" here. With `alpha=0.0` and `turn_level_groups="never"`
    TSPO is off and the trainer computes GRPO.

    Parameters:
        > Parameters that control the First-Occurrence Latent Reward

        alpha (`float`, *optional*, defaults to `0.5`):
            Partial credit of a wrong rollout for the turn whose retrieved evidence first contains a gold answer. The
            default is ours. Where advantages are divided by the group's standard deviation, it cancels in all-wrong
            groups.
        credit (`str`, *optional*, defaults to `"first_occurrence"`):
            Turns that get `alpha`: `"first_occurrence"`, the turn of the first occurrence only (TSPO), or `"prefix"`,
            that turn and all before it (ours).
        success_threshold (`float`, *optional*, defaults to `1.0`):
            A rollout is correct when its outcome reward, the weighted sum of `reward_funcs`, reaches this value
            (ours).
        match (`str`, *optional*, defaults to `"token"`):
            How a gold answer is looked for in the evidence: `"token"`, normalised and at token boundaries (ours), or
            `"substring"`, normalised and anywhere.
        match_boolean_answers (`bool`, *optional*, defaults to `False`):
            Whether gold answers that are only yes, no or "no answer" count as evidence (ours).
        skip_gold_in_question (`bool`, *optional*, defaults to `False`):
            Whether to give no latent reward where a gold answer already stands in the question (ours).

        > Parameters that control the group-relative advantages

        turn_level_groups (`str`, *optional*, defaults to `"all_wrong"`):
            Groups whose advantages are computed turn by turn: `"all_wrong"`, those without a correct rollout (ours:
            TSPO says only that it depends on the group's composition), `"always"` or `"never"`.
        turn_baseline (`str`, *optional*, defaults to `"same_turn"`):
            What a turn is compared with at turn level: `"same_turn"`, the same turn of the group's other rollouts, or
            `"all_turns"`, all turns of the group (ours).
        absent_turns (`str`, *optional*, defaults to `"skip"`):
            How rollouts that ended earlier enter the statistics of a later turn under `turn_baseline="same_turn"`:
            `"skip"`, not at all, or `"zero"`, with reward 0 (ours). Skipping makes the baseline depend on the
            rollouts' own stopping, which can pay or cost extra turns; the metrics
            `tspo/advantage/early_stopping` and `tspo/advantage/late_stopping` show it.
        latent_in_mixed_groups (`bool`, *optional*, defaults to `False`):
            Whether the reward of a wrong rollout holds `alpha` at trajectory level, too (ours). It then pays for all
            that a near miss did, its wrong answer included, and kept policies from learning to answer in
            `benchmarks/reproduction`. [`~tspo_trl.credit.group_advantages`] has it on unless told otherwise.
        additive_credit (`bool`, *optional*, defaults to `False`):
            Whether every group has GRPO's advantages of the outcome plus `alpha` times the group advantages of the
            evidence, turn by turn (ours): the turns that `credit` names are compared with the group's other turns, in
            correct rollouts, too, and the answer of a rollout that has found its evidence is judged by its outcome
            only. `alpha` does not cancel then, and `turn_level_groups` and `latent_in_mixed_groups` have no effect;
            `alpha=0.0` is GRPO. The rewards in trajectory files stay the outcome plus the latent reward of a wrong
            rollout.

        > Parameters that control search rollouts (used with a `retriever`)

        max_turns (`int`, *optional*, defaults to `4`):
            Number of turns in which the model may search. A rollout that has not answered by then gets one last turn
            in which nothing is searched, as in Search-R1.
        max_turn_length (`int`, *optional*, defaults to `500`):
            Maximum number of tokens generated in a turn (Search-R1).
        max_feedback_length (`int`, *optional*, defaults to `500`):
            Maximum number of tokens of a feedback, tags included (Search-R1). Longer feedback is cut and keeps its
            closing tag.
        search_top_k (`int`, *optional*, defaults to `3`):
            Number of passages per search (Search-R1). Not to be confused with `top_k`, which belongs to sampling.

        > Parameters that control the evaluation

        greedy_evaluation (`bool`, *optional*, defaults to `True`):
            Whether [`TSPOTrainer.evaluate`] answers each question once, with the most probable tokens, as
            `tspo-trl evaluate` does (ours). With `False` it samples `num_generations_eval` rollouts, as
            [`~trl.GRPOTrainer`] does. Used with a `retriever` only. [`~trl.GRPOConfig`] checks the size of evaluation
            batches against `num_generations_eval` all the same: set it to 1.

        > Parameters that control the logging

        log_trajectories (`bool`, *optional*, defaults to `True`):
            Whether to write the trajectories of every logging step to
            `output_dir/trajectories/step_XXXXXX.jsonl`.

    > [!NOTE]
    > These parameters have default values different from [`~trl.GRPOConfig`]:
    > - `max_completion_length`: Defaults to `4096` instead of `512`. It is the budget of all turns and feedbacks of a
    >   rollout together.
    """

    max_completion_length: int = field(
        default=4096,
        metadata={"help": "Maximum number of tokens of a completion: of all its turns and feedbacks together."},
    )

    # Parameters that control the First-Occurrence Latent Reward
    alpha: float = field(
        default=0.5,
        metadata={
            "help": "Partial credit of a wrong rollout for the turn whose retrieved evidence first contains a gold "
            "answer."
        },
    )
    credit: Credit = field(
        default="first_occurrence",
        metadata={
            "help": "Turns that get `alpha`: 'first_occurrence' (that turn only) or 'prefix' (that turn and all "
            "before it)."
        },
    )
    success_threshold: float = field(
        default=1.0,
        metadata={"help": "A rollout is correct when its outcome reward reaches this value."},
    )
    match: Match = field(
        default="token",
        metadata={
            "help": "How a gold answer is looked for in the evidence: 'token' (at token boundaries) or 'substring'."
        },
    )
    match_boolean_answers: bool = field(
        default=False,
        metadata={"help": "Whether gold answers that are only yes, no or 'no answer' count as evidence."},
    )
    skip_gold_in_question: bool = field(
        default=False,
        metadata={"help": "Whether to give no latent reward where a gold answer already stands in the question."},
    )

    # Parameters that control the group-relative advantages
    turn_level_groups: TurnLevelGroups = field(
        default="all_wrong",
        metadata={"help": "Groups whose advantages are computed turn by turn: 'all_wrong', 'always' or 'never'."},
    )
    turn_baseline: TurnBaseline = field(
        default="same_turn",
        metadata={
            "help": "What a turn is compared with at turn level: 'same_turn' (of the group's other rollouts) or "
            "'all_turns' (of the group)."
        },
    )
    absent_turns: AbsentTurns = field(
        default="skip",
        metadata={
            "help": "How rollouts that ended earlier enter the statistics of a later turn: 'skip' (not at all) or "
            "'zero' (with reward 0)."
        },
    )
    latent_in_mixed_groups: bool = field(
        default=False,
        metadata={"help": "Whether the reward of a wrong rollout holds `alpha` at trajectory level, too."},
    )
    additive_credit: bool = field(
        default=False,
        metadata={
            "help": "Whether every group has GRPO's advantages of the outcome plus `alpha` times the group advantages "
            "of the evidence, turn by turn. `turn_level_groups` and `latent_in_mixed_groups` have no effect then."
        },
    )

    # Parameters that control search rollouts
    max_turns: int = field(
        default=4,
        metadata={
            "help": "Number of turns in which the model may search. A rollout that has not answered by then gets one "
            "last turn in which nothing is searched."
        },
    )
    max_turn_length: int = field(
        default=500,
        metadata={"help": "Maximum number of tokens generated in a turn."},
    )
    max_feedback_length: int = field(
        default=500,
        metadata={"help": "Maximum number of tokens of a feedback, tags included."},
    )
    search_top_k: int = field(
        default=3,
        metadata={
            "help": "Number of passages per search. Not to be confused with `top_k`, which belongs to sampling."
        },
    )

    # Parameters that control the evaluation
    greedy_evaluation: bool = field(
        default=True,
        metadata={
            "help": "Whether evaluation answers each question once, with the most probable tokens, or samples "
            "`num_generations_eval` rollouts."
        },
    )

    # Parameters that control the logging
    log_trajectories: bool = field(
        default=True,
        metadata={
            "help": "Whether to write the trajectories of every logging step to "
            "`output_dir/trajectories/step_XXXXXX.jsonl`."
        },
    )

    def __post_init__(self) -> None:
        for name, choices in _OPTIONS.items():
            if getattr(self, name) not in get_args(choices):
                raise ValueError(f"`{name}` must be one of {get_args(choices)}, got {getattr(self, name)!r}.")
        if not (math.isfinite(self.alpha) and self.alpha >= 0):
            raise ValueError(f"`alpha` must be a finite number of at least 0, got {self.alpha}.")
        if not math.isfinite(self.success_threshold):
            raise ValueError(f"`success_threshold` must be a finite number, got {self.success_threshold}.")
        for name in ("max_turns", "max_turn_length", "max_feedback_length", "search_top_k"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be a whole number of at least 1, got {getattr(self, name)!r}.")
        if self.num_generations is not None and self.num_generations < 2:
            raise ValueError(
                f"`num_generations` must be at least 2, got {self.num_generations}: an advantage compares a rollout "
                "with the others of its group. Set it to 4 or more."
            )
        super().__post_init__()

    @property
    def tspo_enabled(self) -> bool:
        """Whether the advantages are TSPO's; with `alpha=0.0` and no group at turn level they are GRPO's."""
        has_turn_level = self.turn_level_groups != "never" and not self.additive_credit
        return self.alpha > 0 or has_turn_level

    @property
    def credit_options(self) -> dict[str, Any]:
        """The keyword arguments of [`~tspo_trl.credit.group_advantages`]."""
        names = ["alpha", "credit", "turn_level_groups", "turn_baseline", "absent_turns", "latent_in_mixed_groups"]
        names += ["additive_credit", "scale_rewards", "success_threshold"]
        return {name: getattr(self, name) for name in names}
