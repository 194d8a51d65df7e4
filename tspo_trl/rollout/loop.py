"""The turn loop: all rollouts of a process advance together, with one batched search per turn.

Token ids are only appended. Generated ids are never decoded and encoded again, a feedback is encoded once, and the
mask grows with the ids. The loop knows no model: a [`TurnGenerator`] generates the tokens of a turn, a protocol
interprets them, and a retriever returns passages.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from ..protocols.base import Call, Feedback, ParsedAction, SearchProtocol
from ..search.base import Passage, Retriever, counters_of
from ..search.statistics import SearchStatistics
from ..trajectory import Turn
from .feedback import decode, encode, encode_feedbacks, frame_length
from .queries import ask
from .state import Rollout, RolloutLimits


class TurnGenerator(Protocol):
    """
    Callable that generates the next turn of several rollouts.

    If its turns may be cut below their budget, it sets `marks_ends = True` and ends each other turn with a closing tag
    or an end-of-sequence token.
    """

    def __call__(
        self, prompt_ids: list[list[int]], max_new_tokens: list[int]
    ) -> tuple[list[list[int]], list[list[float]] | None]:
        """
        Args:
            prompt_ids (`list[list[int]]`):
                Token ids of each rollout so far: its prompt, turns and feedbacks.
            max_new_tokens (`list[int]`):
                Maximum number of tokens of each rollout in this turn, at least 1.

        Returns:
            `tuple`: the generated ids of each rollout, up to an action's closing tag, an end-of-sequence token or the
            budget, and their log-probabilities (`None` if the backend gives none).
        """
        ...


class RolloutLoop:
    """
    Generates rollouts that search.

    A turn ends at an action's closing tag, an end-of-sequence token or its budget. The feedback to a search contains
    passages, the feedback to an invalid action contains the protocol's hint. An answer ends the rollout. After
    `max_turns` turns without an answer the model gets one last turn without a search, as in Search-R1. The feedback
    before it is cut so that `max_turn_length` tokens are left.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Encodes feedback and decodes turns.
        retriever ([`~tspo_trl.search.Retriever`]):
            Search engine that answers the queries. If it raises or returns `None` for a query, the failure is logged
            and counted, and the rollouts with that query end with `"search_failed"`. Queries are sent as
            [`~tspo_trl.rollout.queries.ask`] describes, so that no query makes its search fail.
        protocol ([`~tspo_trl.protocols.base.SearchProtocol`]):
            Reads actions and writes feedback.
        limits ([`RolloutLimits`]):
            Budgets.
        eos_token_ids (collection of `int`, *optional*):
            Tokens that end a turn. Defaults to the tokenizer's end-of-sequence token.

    Raises:
        ValueError: `max_feedback_length` is too short for the protocol's tags and one token of a passage.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        retriever: Retriever,
        protocol: SearchProtocol,
        limits: RolloutLimits,
        eos_token_ids: Collection[int] | None = None,
    ):
        self.tokenizer = tokenizer
        self.retriever = retriever
        self.protocol = protocol
        self.limits = limits
        self.eos_token_ids = [tokenizer.eos_token_id] if eos_token_ids is None else eos_token_ids
        needed = least_feedback_length(protocol, tokenizer)
        if limits.max_feedback_length < needed:
            raise ValueError(
                f"`max_feedback_length` is {limits.max_feedback_length}, but the tags around a feedback and one token "
                f"of a passage take {needed} tokens with this tokenizer. Raise `max_feedback_length`."
            )

    def run(
        self, prompt_ids: Sequence[Sequence[int]], generate: TurnGenerator, most_rollouts: Callable[[int], int] = int
    ) -> tuple[list[Rollout], SearchStatistics]:
        """
        Run one rollout per prompt until all have ended.

        Args:
            prompt_ids (sequence of sequences of `int`):
                Token ids of the prompts, at least one. Repeat a prompt to get several rollouts.
            generate ([`TurnGenerator`]):
                Generates turns.
            most_rollouts (`Callable[[int], int]`, *optional*):
                Returns the largest number of active rollouts in any process, given the number in this process. With
                collective generation all processes must generate equally many turns. A process with fewer active
                rollouts then repeats its first prompt with a budget of one token, and drops the result. By default
                there is no other process.

        Returns:
            `tuple[list[Rollout], SearchStatistics]`: the rollouts in the order of the prompts, and the cost of the
            searches.

        Raises:
            ValueError: A prompt leaves no room for a completion.
        """
        rollouts = [self._start(list(ids)) for ids in prompt_ids]
        statistics = SearchStatistics()
        counted_before = counters_of(self.retriever)
        found: dict[str, list[Passage]] = {}
        for turn in range(self.limits.max_turns + 1):
            going = [rollout for rollout in rollouts if rollout.end_reason is None]
            num_generated = most_rollouts(len(going))
            if not num_generated:
                break
            self._generate_turn(going, generate, inert=[rollouts[0].prompt_ids] * (num_generated - len(going)))
            self._end_finished(going, is_last_turn=turn == self.limits.max_turns)
            going = [rollout for rollout in going if rollout.end_reason is None]
            failed = self._search(going, found, statistics)
            self._give_feedback(going, found, failed, is_before_last_turn=turn == self.limits.max_turns - 1)
        counted = counters_of(self.retriever)
        statistics.counters = {name: count - counted_before.get(name, 0) for name, count in counted.items()}
        return rollouts, statistics

    def _start(self, prompt_ids: list[int]) -> Rollout:
        max_length = self.limits.completion_length(len(prompt_ids))
        if max_length < 1:
            raise ValueError(
                f"A prompt of {len(prompt_ids)} tokens leaves no room in a context of "
                f"{self.limits.max_context_length} tokens. Shorten or drop that row, or use a model with a longer "
                "context (with vLLM, raise `vllm_max_model_length`)."
            )
        return Rollout(prompt_ids=prompt_ids, max_length=max_length)

    def _generate_turn(self, rollouts: list[Rollout], generate: TurnGenerator, inert: list[list[int]]) -> None:
        """Generate one turn of each rollout, and parse its action."""
        budgets = [min(self.limits.max_turn_length, r.max_length - len(r.completion_ids)) for r in rollouts]
        ids, logprobs = self._sample(rollouts, budgets, generate, inert)
        if len(ids) != len(rollouts) + len(inert):
            raise ValueError(f"The generator returned {len(ids)} turns for {len(rollouts) + len(inert)} prompts.")
        for i, (rollout, budget) in enumerate(zip(rollouts, budgets, strict=True)):
            turn_ids = list(ids[i][:budget])
            turn_logprobs = None if logprobs is None else list(logprobs[i][:budget])
            span = rollout.append(turn_ids, generated=True, logprobs=turn_logprobs)
            text = self._decode_turn(turn_ids)
            may_be_cut = len(turn_ids) == budget or getattr(generate, "marks_ends", False)
            is_complete = not may_be_cut or self._has_end(turn_ids)
            rollout.action = self.protocol.parse(text, is_complete=is_complete)
            action, content, _ = rollout.action
            is_cut = action is None and not is_complete
            queries = rollout.action.queries
            turn = Turn(text=text, token_span=span, action=action, content=content, queries=queries, is_cut=is_cut)
            rollout.turns.append(turn)

    def _sample(
        self, rollouts: list[Rollout], budgets: list[int], generate: TurnGenerator, inert: list[list[int]]
    ) -> tuple[list[list[int]], list[list[float]] | None]:
        """Generate for the rollouts, followed by the inert prompts."""
        prompts = [rollout.prompt_ids + rollout.completion_ids for rollout in rollouts]
        return generate(prompts + inert, budgets + [1] * len(inert))

    def _end_finished(self, rollouts: list[Rollout], is_last_turn: bool) -> None:
        """End the rollouts that answered, and all rollouts after the last turn."""
        for rollout in rollouts:
            if rollout.action.action == "answer":
                rollout.end_reason = "answered"
            elif is_last_turn and rollout.turns[-1].is_cut:
                rollout.end_reason = "max_length"
            elif is_last_turn:
                rollout.end_reason = "max_turns" if rollout.action.action == "search" else "no_action"

    def _search(
        self, rollouts: list[Rollout], found: dict[str, list[Passage]], statistics: SearchStatistics
    ) -> set[str]:
        """Search the queries that are not in `found` yet in one call, add the results, return the failed queries."""
        asked = [query for rollout in rollouts for query in rollout.action.queries]
        queries = list(dict.fromkeys(query for query in asked if query not in found))
        if queries:
            start = time.perf_counter()
            found.update(ask(self.retriever, queries, self.limits.top_k))
            statistics.calls += 1
            statistics.seconds += time.perf_counter() - start
        failed = {query for query in queries if query not in found}
        statistics.queries += len(asked)
        statistics.sent += len(queries)
        statistics.cached += len(asked) - len(queries)
        statistics.failed += sum(query in failed for query in asked)
        statistics.empty += sum(query in found and not found[query] for query in asked)
        return failed

    def _give_feedback(
        self, rollouts: list[Rollout], found: dict[str, list[Passage]], failed: set[str], is_before_last_turn: bool
    ) -> None:
        """Append feedback to the last turns. End the rollouts with a failed search or without room for feedback."""
        for rollout in rollouts:
            if failed.intersection(rollout.action.queries):
                rollout.end_reason = "search_failed"
        going = [rollout for rollout in rollouts if rollout.end_reason is None]
        feedbacks = [self._feedback(rollout, found) for rollout in going]
        encoded = encode_feedbacks(feedbacks, self.tokenizer, self.limits.max_feedback_length)
        for rollout, feedback, (ids, parts) in zip(going, feedbacks, encoded, strict=True):
            limit = self._length_before_last_turn(rollout, feedback) if is_before_last_turn else len(ids)
            if len(ids) > limit:
                ((ids, parts),) = encode_feedbacks([feedback], self.tokenizer, limit)
            self._append_feedback(rollout, ids, parts)

    def _length_before_last_turn(self, rollout: Rollout, feedback: list[Feedback]) -> int:
        """Length of a feedback that leaves a whole last turn. The tags and one token of each passage text stay."""
        room = rollout.max_length - len(rollout.completion_ids)
        return max(room - self.limits.max_turn_length, frame_length(feedback, self.tokenizer) + len(feedback))

    def _feedback(self, rollout: Rollout, found: dict[str, list[Passage]]) -> list[Feedback]:
        """Feedback to the last turn. If the model left out the end of its turn, the feedback begins with it."""
        parts = self.protocol.feedback(rollout.action, found)
        if not self._has_end(rollout.completion_ids):
            parts[0] = replace(parts[0], opening=self.protocol.turn_ending + parts[0].opening)
        return parts

    def _append_feedback(self, rollout: Rollout, ids: list[int], parts: list[Feedback]) -> None:
        # One token must be left for the next turn. Feedback that the model never reads teaches nothing.
        if not ids or len(rollout.completion_ids) + len(ids) >= rollout.max_length:
            rollout.end_reason = "max_length"
            return
        span = rollout.append(ids, generated=False, logprobs=None if rollout.logprobs is None else [0.0] * len(ids))
        retrieved = [part.body for part in parts if part.retrieved]
        rollout.turns[-1] = replace(
            rollout.turns[-1],
            feedback="".join(part.text for part in parts),
            feedback_span=span,
            evidence="\n".join(retrieved) if retrieved else None,
        )

    def _has_end(self, ids: list[int]) -> bool:
        return bool(ids) and ids[-1] in self.eos_token_ids

    def _decode_turn(self, ids: list[int]) -> str:
        return decode(self.tokenizer, ids[:-1] if self._has_end(ids) else ids)


def least_feedback_length(protocol: SearchProtocol, tokenizer: PreTrainedTokenizerBase) -> int:
    """
    Count the tokens of the shortest feedback with one token of a passage.

    Args:
        protocol ([`~tspo_trl.protocols.base.SearchProtocol`]):
            Writes feedback.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Encodes feedback.

    Returns:
        `int`: includes the end of the turn, which the model may have left out.
    """
    parts = protocol.feedback(ParsedAction("search", "", (Call(""),)), {"": []})
    return len(encode(tokenizer, protocol.turn_ending)) + frame_length(parts, tokenizer) + 1
