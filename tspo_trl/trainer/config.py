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

    It adds the parameters below to those of [`~trl.GRPOConfig`]. The method is that of
    [TSPO](https://huggingface.co/papers/2601.22776). Choices on which its abstract is silent are marked "(ours)". With
    `alpha=0.0` and `turn_level_groups="never"` TSPO is off and the trainer computes GRPO.

    Parameters:
        > Parameters that control the First-Occurrence Latent Reward

        alpha (`float`, *optional*, defaults to `0.5`):
            Latent reward of a wrong rollout for the turn whose retrieved evidence first contains a gold answer (the
            value is ours). Set it to 0 to turn the latent reward off. In all-wrong groups of equal outcomes it cancels
            if advantages are divided by the group's standard deviation.
        credit (`str`, *optional*, defaults to `"first_occurrence"`):
            Turns that get `alpha`: `"first_occurrence"`, only the turn of the first occurrence (TSPO), or `"prefix"`,
            that turn and all turns before it (ours). Choose `"prefix"` to credit the searches that led to the
            evidence, too.
        success_reward (`str`, *optional*):
            Name of the reward function that says which rollouts are correct, without its weight (ours). Defaults to
            `"exact_match_reward"` if it is among `reward_funcs`, and to the only function if there is one. Set it if
            there are several others. The names are those of TRL's metrics `rewards/<name>/mean`.
        success_threshold (`float`, *optional*, defaults to `1.0`):
            Success reward from which a rollout is correct, with a tolerance of 1e-6 (ours). Set it to the success
            reward of a correct answer. The outcome reward plus the latent reward of a wrong rollout stays at least
            0.01 below it.
        match (`str`, *optional*, defaults to `"token"`):
            How the evidence is searched for a gold answer: `"token"` matches normalised text at token boundaries
            (ours), `"substring"` matches normalised text anywhere. Choose `"substring"` for languages that write no
            spaces between words.
        match_boolean_answers (`bool`, *optional*, defaults to `False`):
            If `True`, gold answers that are only yes, no or "no answer" count as evidence (ours). Turn it on if these
            words in a passage do answer your questions.
        skip_gold_in_question (`bool`, *optional*, defaults to `False`):
            If `True`, questions that already contain a gold answer get no latent reward (ours). Turn it on if many of
            your questions name their answer, as comparisons do.

        > Parameters that control the group-relative advantages

        turn_level_groups (`str`, *optional*, defaults to `"all_wrong"`):
            Groups whose advantages are computed turn by turn: `"all_wrong"`, those without a correct rollout (ours:
            TSPO says only that the group's composition decides), `"always"` or `"never"`. Choose `"never"` to compute
            all advantages at trajectory level, as GRPO does.
        turn_baseline (`str`, *optional*, defaults to `"same_turn"`):
            Rewards that a turn is compared with at turn level: `"same_turn"`, those of the same turn in the group, or
            `"all_turns"`, those of all turns in the group (ours). Choose `"all_turns"` if few rollouts of a group
            reach the later turns.
        absent_turns (`str`, *optional*, defaults to `"skip"`):
            How rollouts that ended earlier enter the statistics of a later turn under `turn_baseline="same_turn"`:
            `"skip"` leaves them out, `"zero"` counts them with their outcome reward, as turns without latent reward
            (ours). Choose `"zero"` to compare a turn with
            all rollouts of the group. With `"skip"` the baseline depends on when rollouts stop, so that extra turns
            can pay or cost. The metrics `tspo/advantage/early_stopping` and `tspo/advantage/late_stopping` show it.
        latent_in_mixed_groups (`bool`, *optional*, defaults to `False`):
            If `True`, near misses get `alpha` at trajectory level, too (ours). Turn it on to reward evidence in groups
            with a correct rollout. It then also pays for the wrong answer, and kept policies from learning to answer
            in `benchmarks/reproduction`. [`~tspo_trl.credit.group_advantages`] has it on by default.
        additive_credit (`bool`, *optional*, defaults to `False`):
            If `True`, the advantages of every group are GRPO's plus `alpha` times turn-level advantages of the
            evidence, with reward 1 in the turns that `credit` names (ours). Turn it on to credit evidence in mixed
            groups and in correct rollouts. The answer after the evidence is judged by its outcome only. `alpha` does
            not cancel, `turn_level_groups` and `latent_in_mixed_groups` have no effect, and `alpha=0.0` is GRPO. The
            rewards in trajectory files do not change.

        > Parameters that control search rollouts (used with a `retriever`)

        max_turns (`int`, *optional*, defaults to `4`):
            Turns in which the model may search. Raise it if questions need more searches. A rollout that has not
            answered by then gets one last turn without a search, as in Search-R1.
        max_turn_length (`int`, *optional*, defaults to `500`):
            Maximum number of tokens generated in a turn (Search-R1). Raise it if turns are cut off before their
            action.
        max_feedback_length (`int`, *optional*, defaults to `500`):
            Maximum number of tokens of a feedback, tags included (Search-R1). Raise it if passages are cut. A feedback
            that is cut keeps its closing tag.
        search_top_k (`int`, *optional*, defaults to `3`):
            Passages per search (Search-R1). Raise it if the evidence is often ranked lower, together with
            `max_feedback_length`. `top_k` is a different parameter, of sampling.

        > Parameters that control the optimizer

        skip_steps_without_signal (`bool`, *optional*, defaults to `False`):
            If `True`, steps in which no rollout has an advantage leave weights and optimizer as they are (ours). Turn
            it on if many steps have no signal or searches fail, because such steps still move the weights by momentum
            and weight decay. Steps with a KL term, an entropy bonus or an auxiliary loss are never skipped. The metric
            `tspo/skipped_steps` counts the skipped steps of the run.

        > Parameters that control the evaluation

        greedy_evaluation (`bool`, *optional*, defaults to `True`):
            If `True`, [`TSPOTrainer.evaluate`] answers each question once with the most probable tokens, without
            penalties, as `tspo-trl evaluate` does (ours, used with a `retriever`). Turn it off to sample
            `num_generations_eval` rollouts per question, as [`~trl.GRPOTrainer`] does. [`~trl.GRPOConfig`] checks the
            evaluation batch size against `num_generations_eval` in either case, so set that to 1.

        > Parameters that control the logging

        log_trajectories (`bool`, *optional*, defaults to `True`):
            If `True`, the trajectories of every logging step are written to
            `output_dir/trajectories/step_XXXXXX.jsonl`. Turn it off to save disk space.

    > [!NOTE]
    > One default value differs from [`~trl.GRPOConfig`]: `max_completion_length` is `4096` instead of `512`. It is the
    > budget of all turns and feedbacks of a rollout together.
    """

    max_completion_length: int = field(
        default=4096,
        metadata={
            "help": "Maximum number of tokens of all turns and feedbacks of a rollout together. Raise it with "
            "`max_turns`, `max_turn_length` and `max_feedback_length`."
        },
    )

    # Parameters that control the First-Occurrence Latent Reward
    alpha: float = field(
        default=0.5,
        metadata={
            "help": "Latent reward of a wrong rollout for the turn whose retrieved evidence first contains a gold "
            "answer. Set it to 0 to turn the latent reward off."
        },
    )
    credit: Credit = field(
        default="first_occurrence",
        metadata={
            "help": "Turns that get `alpha`: 'first_occurrence' (only that turn) or 'prefix' (that turn and all turns "
            "before it). Choose 'prefix' to credit the searches that led to the evidence, too."
        },
    )
    success_reward: str | None = field(
        default=None,
        metadata={
            "help": "Name of the reward function that says which rollouts are correct, without its weight. Set it if "
            "there are several reward functions and none of them is `exact_match_reward`."
        },
    )
    success_threshold: float = field(
        default=1.0,
        metadata={
            "help": "Outcome reward from which a rollout is correct. Set it to the outcome reward of a correct answer."
        },
    )
    match: Match = field(
        default="token",
        metadata={
            "help": "How the evidence is searched for a gold answer: 'token' (at token boundaries) or 'substring' "
            "(anywhere). Choose 'substring' for languages that write no spaces between words."
        },
    )
    match_boolean_answers: bool = field(
        default=False,
        metadata={
            "help": "If `True`, gold answers that are only yes, no or 'no answer' count as evidence. Turn it on if "
            "these words in a passage do answer your questions."
        },
    )
    skip_gold_in_question: bool = field(
        default=False,
        metadata={
            "help": "If `True`, questions that already contain a gold answer get no latent reward. Turn it on if many "
            "of your questions name their answer, as comparisons do."
        },
    )

    # Parameters that control the group-relative advantages
    turn_level_groups: TurnLevelGroups = field(
        default="all_wrong",
        metadata={
            "help": "Groups whose advantages are computed turn by turn: 'all_wrong', 'always' or 'never'. Choose "
            "'never' to compute all advantages at trajectory level, as GRPO does."
        },
    )
    turn_baseline: TurnBaseline = field(
        default="same_turn",
        metadata={
            "help": "Rewards that a turn is compared with at turn level: 'same_turn' or 'all_turns' of the group. "
            "Choose 'all_turns' if few rollouts of a group reach the later turns."
        },
    )
    absent_turns: AbsentTurns = field(
        default="skip",
        metadata={
            "help": "How rollouts that ended earlier enter the statistics of a later turn: 'skip' (not at all) or "
            "'zero' (with their outcome reward). Choose 'zero' to compare a turn with all rollouts of the group."
        },
    )
    latent_in_mixed_groups: bool = field(
        default=False,
        metadata={
            "help": "If `True`, near misses get `alpha` at trajectory level, too. Turn it on to reward evidence in "
            "groups with a correct rollout."
        },
    )
    additive_credit: bool = field(
        default=False,
        metadata={
            "help": "If `True`, the advantages of every group are GRPO's plus `alpha` times turn-level advantages of "
            "the evidence. Turn it on to credit evidence in mixed groups and in correct rollouts. "
            "`turn_level_groups` and `latent_in_mixed_groups` then have no effect."
        },
    )

    # Parameters that control search rollouts
    max_turns: int = field(
        default=4,
        metadata={
            "help": "Turns in which the model may search. Raise it if questions need more searches. A rollout that "
            "has not answered by then gets one last turn without a search."
        },
    )
    max_turn_length: int = field(
        default=500,
        metadata={
            "help": "Maximum number of tokens generated in a turn. Raise it if turns are cut off before their action."
        },
    )
    max_feedback_length: int = field(
        default=500,
        metadata={"help": "Maximum number of tokens of a feedback, tags included. Raise it if passages are cut."},
    )
    search_top_k: int = field(
        default=3,
        metadata={
            "help": "Passages per search. Raise it if the evidence is often ranked lower, together with "
            "`max_feedback_length`. `top_k` is a different parameter, of sampling."
        },
    )

    # Parameters that control the optimizer
    skip_steps_without_signal: bool = field(
        default=False,
        metadata={
            "help": "If `True`, steps in which no rollout has an advantage leave weights and optimizer as they are. "
            "Turn it on if many steps have no signal or searches fail."
        },
    )

    # Parameters that control the evaluation
    greedy_evaluation: bool = field(
        default=True,
        metadata={
            "help": "If `True`, evaluation answers each question once with the most probable tokens. Turn it off to "
            "sample `num_generations_eval` rollouts per question."
        },
    )

    # Parameters that control the logging
    log_trajectories: bool = field(
        default=True,
        metadata={
            "help": "If `True`, the trajectories of every logging step are written to "
            "`output_dir/trajectories/step_XXXXXX.jsonl`. Turn it off to save disk space."
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
                f"`num_generations` must be at least 2, got {self.num_generations}. An advantage compares a rollout "
                "with the others of its group. Set it to 4 or more."
            )
        super().__post_init__()

    @property
    def tspo_enabled(self) -> bool:
        """Whether the advantages are TSPO's. With `alpha=0.0` and no group at turn level they are GRPO's."""
        has_turn_level = self.turn_level_groups != "never" and not self.additive_credit
        return self.alpha > 0 or has_turn_level

    @property
    def credit_options(self) -> dict[str, Any]:
        """Keyword arguments of [`~tspo_trl.credit.group_advantages`]."""
        names = ["alpha", "credit", "turn_level_groups", "turn_baseline", "absent_turns", "latent_in_mixed_groups"]
        names += ["additive_credit", "scale_rewards", "success_threshold"]
        return {name: getattr(self, name) for name in names}
