"""State of a rollout, and its budgets."""

from dataclasses import dataclass, field
from typing import Any, Self

from ..protocols.base import ParsedAction
from ..trajectory import EndReason, Trajectory, Turn

_NOTHING = ParsedAction(None, None)


@dataclass(frozen=True)
class RolloutLimits:
    """
    Budgets of one rollout. See [`TSPOConfig`] for the defaults.

    Args:
        max_turns (`int`):
            Turns in which the model may search, before one last turn to answer.
        max_turn_length (`int`):
            Tokens that the model may generate in a turn.
        max_feedback_length (`int`):
            Tokens of a feedback, tags included. A longer feedback is cut.
        max_completion_length (`int`):
            Tokens of all turns and feedbacks together.
        top_k (`int`):
            Passages per search.
        max_context_length (`int`, *optional*):
            Tokens of prompt and completion together, the model's context.
    """

    max_turns: int
    max_turn_length: int
    max_feedback_length: int
    max_completion_length: int
    top_k: int
    max_context_length: int | None = None

    @classmethod
    def from_arguments(cls, args: Any, max_context_length: int | None = None) -> Self:
        """
        Take the budgets from a configuration.

        Args:
            args ([`TSPOConfig`] or [`~tspo_trl.evaluation.arguments.AgentArguments`]):
                Configuration with `max_turns`, `max_turn_length`, `max_feedback_length`, `max_completion_length` and
                `search_top_k`.
            max_context_length (`int`, *optional*):
                Context of the model in tokens.

        Returns:
            [`RolloutLimits`]
        """
        return cls(
            max_turns=args.max_turns,
            max_turn_length=args.max_turn_length,
            max_feedback_length=args.max_feedback_length,
            max_completion_length=args.max_completion_length,
            top_k=args.search_top_k,
            max_context_length=max_context_length,
        )

    def completion_length(self, prompt_length: int) -> int:
        """Return the maximum number of tokens of a completion, given the number of tokens of the prompt."""
        if self.max_context_length is None:
            return self.max_completion_length
        return min(self.max_completion_length, self.max_context_length - prompt_length)


@dataclass
class Rollout:
    """
    Rollout, unfinished or finished.

    Args:
        prompt_ids (`list[int]`):
            Token ids of the prompt.
        max_length (`int`):
            Maximum number of tokens of turns and feedbacks together.
        completion_ids (`list[int]`):
            Token ids of turns and feedbacks, in order.
        completion_mask (`list[int]`):
            For each completion token, 1 if the model generated it, 0 if it is feedback.
        logprobs (`list[float]`, *optional*):
            For each completion token, its log-probability when it was sampled, 0.0 for feedback. `None` if the
            generation backend gives none.
        turns (`list[Turn]`):
            The turns so far.
        action ([`~tspo_trl.protocols.base.ParsedAction`]):
            Action of the last turn.
        end_reason (`str`, *optional*):
            Why the rollout ended, `None` while it is unfinished.
    """

    prompt_ids: list[int]
    max_length: int
    completion_ids: list[int] = field(default_factory=list)
    completion_mask: list[int] = field(default_factory=list)
    logprobs: list[float] | None = None
    turns: list[Turn] = field(default_factory=list)
    action: ParsedAction = _NOTHING
    end_reason: EndReason | None = None

    def append(self, ids: list[int], *, generated: bool, logprobs: list[float] | None) -> tuple[int, int]:
        """Append tokens with their mask and log-probabilities, and return their span."""
        start = len(self.completion_ids)
        self.completion_ids += ids
        self.completion_mask += [int(generated)] * len(ids)
        if logprobs is not None:
            self.logprobs = (self.logprobs or []) + logprobs
        return start, len(self.completion_ids)

    @property
    def trajectory(self) -> Trajectory:
        """The finished rollout as data. Raises `ValueError` while it is unfinished."""
        if self.end_reason is None:
            raise ValueError("The rollout is unfinished and has no trajectory yet.")
        return Trajectory(turns=tuple(self.turns), end_reason=self.end_reason)
