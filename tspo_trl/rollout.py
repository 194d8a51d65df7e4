"""The turn loop: every rollout of a process advances together, with one batched search a turn.

Token ids are only ever appended: what the model generated is never decoded and encoded again, a feedback is encoded
once, and the mask grows together with the ids. The loop knows no model: it asks a [`TurnGenerator`] for the tokens of
the next turn, a protocol for their meaning and a retriever for passages.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from .protocol import Feedback, TagProtocol
from .search.base import Passage, Retriever, counters_of
from .search.statistics import SearchStatistics
from .trajectory import EndReason, Trajectory, Turn

logger = logging.getLogger(__name__)


class TurnGenerator(Protocol):
    """Generates the next turn of several rollouts."""

    def __call__(
        self, prompt_ids: list[list[int]], max_new_tokens: list[int]
    ) -> tuple[list[list[int]], list[list[float]] | None]:
        """
        Args:
            prompt_ids (`list[list[int]]`):
                All token ids of each rollout so far: its prompt, its turns and feedbacks.
            max_new_tokens (`list[int]`):
                How many tokens each rollout has left for this turn, at least 1.

        Returns:
            `tuple`: the generated ids of each rollout, ended at an action's closing tag, an end-of-sequence token or
            the budget; and the log-probability of each (or `None` where the backend gives none).
        """
        ...


@dataclass(frozen=True)
class RolloutLimits:
    """
    Budgets of one rollout, see [`TSPOConfig`] for their meaning and defaults.

    Args:
        max_turns (`int`):
            Turns in which the model may search, before one last turn to answer.
        max_turn_length (`int`):
            Tokens that the model may generate in a turn.
        max_feedback_length (`int`):
            Tokens of a feedback, tags included; a longer one is cut.
        max_completion_length (`int`):
            Tokens of all turns and feedbacks together.
        top_k (`int`):
            Passages per search.
    """

    max_turns: int
    max_turn_length: int
    max_feedback_length: int
    max_completion_length: int
    top_k: int


@dataclass
class Rollout:
    """
    A rollout under way.

    Args:
        prompt_ids (`list[int]`):
            Token ids of the prompt.
        completion_ids (`list[int]`):
            Token ids of turns and feedbacks, in order.
        completion_mask (`list[int]`):
            For each completion token, 1 if the model generated it, 0 if it is feedback.
        logprobs (`list[float]`, *optional*):
            For each completion token, its log-probability when it was sampled, 0.0 for feedback; `None` where the
            generation backend gives none.
        turns (`list[Turn]`):
            The turns so far.
        end_reason (`str`, *optional*):
            Why the rollout ended, `None` while it goes on.
    """

    prompt_ids: list[int]
    completion_ids: list[int] = field(default_factory=list)
    completion_mask: list[int] = field(default_factory=list)
    logprobs: list[float] | None = None
    turns: list[Turn] = field(default_factory=list)
    end_reason: EndReason | None = None

    def append(self, ids: list[int], *, generated: bool, logprobs: list[float] | None) -> tuple[int, int]:
        """Append tokens with their mask and log-probabilities, and return the span that they take."""
        start = len(self.completion_ids)
        self.completion_ids += ids
        self.completion_mask += [int(generated)] * len(ids)
        if logprobs is not None:
            self.logprobs = (self.logprobs or []) + logprobs
        return start, len(self.completion_ids)

    @property
    def trajectory(self) -> Trajectory:
        """The finished rollout as data; `ValueError` while it goes on."""
        if self.end_reason is None:
            raise ValueError("The rollout goes on: it has no trajectory yet.")
        return Trajectory(turns=tuple(self.turns), end_reason=self.end_reason)


class RolloutLoop:
    """
    Generates rollouts that search.

    A turn ends at an action's closing tag, an end-of-sequence token or its budget. A search is answered with passages,
    an invalid action with the protocol's hint, an answer ends the rollout. After `max_turns` turns without an answer
    the model gets one last turn, in which nothing is searched (as in Search-R1).

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Encodes feedback and decodes turns.
        retriever ([`~tspo_trl.search.Retriever`]):
            Answers the queries. A query that it fails (it raises, or returns `None` for it) ends the rollouts that
            asked it with `"search_failed"`; the failure is logged and counted.
        protocol ([`TagProtocol`]):
            Reads actions and writes feedback.
        limits ([`RolloutLimits`]):
            Budgets.

    Raises:
        ValueError: `max_feedback_length` cannot hold the protocol's own tags and one token of a passage.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        retriever: Retriever,
        protocol: TagProtocol,
        limits: RolloutLimits,
    ):
        self.tokenizer = tokenizer
        self.retriever = retriever
        self.protocol = protocol
        self.limits = limits
        frame = protocol.render([])
        needed = len(self._encode(frame.opening)) + len(self._encode(frame.closing)) + 1
        if limits.max_feedback_length < needed:
            raise ValueError(
                f"`max_feedback_length` is {limits.max_feedback_length}, but the tags around a feedback and one token "
                f"of a passage take {needed} tokens with this tokenizer. Raise `max_feedback_length`."
            )

    def run(
        self, prompt_ids: Sequence[Sequence[int]], generate: TurnGenerator
    ) -> tuple[list[Rollout], SearchStatistics]:
        """
        Run one rollout for each prompt until all have ended.

        Args:
            prompt_ids (sequence of sequences of `int`):
                Token ids of the prompts; a prompt with several rollouts is repeated.
            generate ([`TurnGenerator`]):
                Generates turns.

        Returns:
            `tuple[list[Rollout], SearchStatistics]`: the rollouts in the order of the prompts, and what the searches
            cost.
        """
        rollouts = [Rollout(prompt_ids=list(ids)) for ids in prompt_ids]
        statistics = SearchStatistics()
        counted_before = counters_of(self.retriever)
        found: dict[str, list[Passage]] = {}
        for turn in range(self.limits.max_turns + 1):
            going = [rollout for rollout in rollouts if rollout.end_reason is None]
            if not going:
                break
            self._generate_turn(going, generate)
            self._end_finished(going, is_last_turn=turn == self.limits.max_turns)
            going = [rollout for rollout in going if rollout.end_reason is None]
            failed = self._search(going, found, statistics)
            for rollout in going:
                self._give_feedback(rollout, found, failed)
        counted = counters_of(self.retriever)
        statistics.counters = {name: count - counted_before.get(name, 0) for name, count in counted.items()}
        return rollouts, statistics

    def _generate_turn(self, rollouts: list[Rollout], generate: TurnGenerator) -> None:
        """Let the model write one turn of each rollout, and read its action."""
        limits = self.limits
        budgets = [min(limits.max_turn_length, limits.max_completion_length - len(r.completion_ids)) for r in rollouts]
        ids, logprobs = generate([r.prompt_ids + r.completion_ids for r in rollouts], budgets)
        if len(ids) != len(rollouts):
            raise ValueError(f"The generator returned {len(ids)} turns for {len(rollouts)} rollouts.")
        for i, (rollout, turn_ids, budget) in enumerate(zip(rollouts, ids, budgets, strict=True)):
            turn_ids = list(turn_ids[:budget])
            turn_logprobs = None if logprobs is None else list(logprobs[i][:budget])
            span = rollout.append(turn_ids, generated=True, logprobs=turn_logprobs)
            text = self._decode_turn(turn_ids)
            action, content = self.protocol.parse(text)
            rollout.turns.append(Turn(text=text, token_span=span, action=action, content=content))

    def _end_finished(self, rollouts: list[Rollout], is_last_turn: bool) -> None:
        """End the rollouts that answered, and all after the last turn."""
        for rollout in rollouts:
            action = rollout.turns[-1].action
            if action == "answer":
                rollout.end_reason = "answered"
            elif is_last_turn:
                rollout.end_reason = "max_turns" if action == "search" else "no_action"

    def _search(
        self, rollouts: list[Rollout], found: dict[str, list[Passage]], statistics: SearchStatistics
    ) -> set[str]:
        """Search what is not in `found` yet, in one call, add it there, and return the queries that failed."""
        asked = [query for rollout in rollouts if (query := rollout.turns[-1].query) is not None]
        queries = list(dict.fromkeys(query for query in asked if query not in found))
        if queries:
            start = time.perf_counter()
            found.update(self._ask_retriever(queries))
            statistics.calls += 1
            statistics.seconds += time.perf_counter() - start
        failed = {query for query in queries if query not in found}
        statistics.queries += len(asked)
        statistics.sent += len(queries)
        statistics.cached += len(asked) - len(queries)
        statistics.failed += sum(query in failed for query in asked)
        statistics.empty += sum(query in found and not found[query] for query in asked)
        return failed

    def _ask_retriever(self, queries: list[str]) -> dict[str, list[Passage]]:
        """The passages of each query that did not fail. A failing retriever costs rollouts, never the run."""
        try:
            results = self.retriever.search(queries, self.limits.top_k)
            return _found_passages(queries, results, self.limits.top_k)
        except Exception:
            logger.warning("A search of %d queries failed; their rollouts are left out.", len(queries), exc_info=True)
            return {}

    def _give_feedback(self, rollout: Rollout, found: dict[str, list[Passage]], failed: set[str]) -> None:
        """Append the feedback to the last turn, or end the rollout where there is none to give."""
        turn = rollout.turns[-1]
        if turn.query in failed:
            rollout.end_reason = "search_failed"
            return
        query = turn.query
        feedback = self.protocol.invalid_action() if query is None else self.protocol.render(found[query])
        ids, body = self._encode_feedback(feedback)
        # One token must be left for the next turn: a feedback that nobody reads teaches nothing.
        if len(rollout.completion_ids) + len(ids) >= self.limits.max_completion_length:
            rollout.end_reason = "max_length"
            return
        span = rollout.append(ids, generated=False, logprobs=None if rollout.logprobs is None else [0.0] * len(ids))
        rollout.turns[-1] = replace(
            turn,
            feedback=feedback.opening + body + feedback.closing,
            feedback_span=span,
            evidence=body if feedback.retrieved else None,
        )

    def _encode_feedback(self, feedback: Feedback) -> tuple[list[int], str]:
        """The feedback's ids, its body cut on the right to fit `max_feedback_length`, and the body as it was cut."""
        ids = self._encode(feedback.text)
        if len(ids) <= self.limits.max_feedback_length:
            return ids, feedback.body
        opening, body, closing = (self._encode(part) for part in (feedback.opening, feedback.body, feedback.closing))
        body = body[: self.limits.max_feedback_length - len(opening) - len(closing)]
        return opening + body + closing, self._decode(body)

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []

    def _decode(self, ids: list[int]) -> str:
        # Special tokens are kept: a tokenizer may have the protocol's tags among them.
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _decode_turn(self, ids: list[int]) -> str:
        has_end = bool(ids) and ids[-1] == self.tokenizer.eos_token_id
        return self._decode(ids[:-1] if has_end else ids)


def _found_passages(
    queries: list[str], results: Sequence[Sequence[Passage] | None], top_k: int
) -> dict[str, list[Passage]]:
    """The passages of each query that did not fail, checked: a retriever may be anyone's."""
    if len(results) != len(queries):
        raise ValueError(f"The retriever returned {len(results)} results for {len(queries)} queries.")
    found = {
        query: list(passages)[:top_k] for query, passages in zip(queries, results, strict=True) if passages is not None
    }
    for passage in (passage for passages in found.values() for passage in passages):
        if not isinstance(passage, Passage):
            raise TypeError(f"The retriever returned {passage!r} where a `Passage` is needed.")
    return found


def trajectory_of_generation(ids: list[int], mask: list[int], tokenizer: PreTrainedTokenizerBase) -> Trajectory:
    """
    The trajectory of a completion that TRL's own generation made (`tools`, environments, a `rollout_func`).

    Args:
        ids (`list[int]`):
            Token ids of the completion.
        mask (`list[int]`):
            For each, 1 if the model generated it, 0 if a tool returned it.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Decodes them.

    Returns:
        [`Trajectory`]: a turn for each run of generated tokens, with the run of tool tokens behind it as feedback.
    """
    changes = [i for i in range(1, len(mask)) if mask[i] != mask[i - 1]]
    spans = list(zip([0, *changes], [*changes, len(ids)], strict=True))
    turns: list[Turn] = []
    for start, end in spans:
        text = str(tokenizer.decode(ids[start:end], skip_special_tokens=True))
        if mask[start]:
            turns.append(Turn(text=text, token_span=(start, end)))
        else:
            turns[-1] = replace(turns[-1], feedback=text, feedback_span=(start, end), evidence=text)
    return Trajectory(turns=tuple(turns), end_reason="generated")
