"""Invariants of every rollout, for any generator and any protocol."""

from tspo_trl.rollout.generation import tokenize_prompts
from tspo_trl.rollout.prompts import row_prompt

END_REASONS = {"answered", "max_turns", "max_length", "no_action", "search_failed"}


class Exchange:
    """Generator that passes requests to another one, and records them with the answers."""

    def __init__(self, generate):
        self.generate = generate
        self.exchanges = []

    def __call__(self, prompt_ids, max_new_tokens):
        ids, logprobs = self.generate(prompt_ids, max_new_tokens)
        for asked, budget, turn in zip(prompt_ids, max_new_tokens, ids, strict=True):
            assert len(turn) <= budget
            self.exchanges.append((asked, turn))
        return ids, logprobs


def assert_ids_are_only_appended_and_are_those_sampled(rollout, exchanges):
    """The prompt of the rollout must not be a prefix of another prompt."""
    start = len(rollout.prompt_ids)
    own = [(asked, turn) for asked, turn in exchanges if asked[:start] == rollout.prompt_ids]
    seen, sampled = rollout.prompt_ids, []
    for asked, turn in own:
        assert asked[: len(seen)] == seen
        seen, sampled = asked + turn, sampled + turn
    assert (rollout.prompt_ids + rollout.completion_ids)[: len(seen)] == seen
    masked = zip(rollout.completion_ids, rollout.completion_mask, strict=True)
    assert [token for token, bit in masked if bit] == sampled


def assert_log_probabilities_are_aligned(rollout):
    assert len(rollout.logprobs) == len(rollout.completion_mask) == len(rollout.completion_ids)
    for logprob, bit in zip(rollout.logprobs, rollout.completion_mask, strict=True):
        assert logprob <= 0 if bit else logprob == 0


def assert_spans_tile_the_completion_within_every_budget(rollout, limits):
    position = 0
    for turn in rollout.turns:
        spans = [(turn.token_span, 1, limits.max_turn_length), (turn.feedback_span, 0, limits.max_feedback_length)]
        for span, bit, budget in spans:
            if span is not None:
                assert span[0] == position
                assert set(rollout.completion_mask[slice(*span)]) <= {bit}
                assert span[1] - span[0] <= budget
                position = span[1]
    assert position == len(rollout.completion_ids) <= limits.max_completion_length
    assert rollout.end_reason in END_REASONS
    assert 1 <= len(rollout.turns) <= limits.max_turns + 1


def assert_feedback_is_the_text_of_its_tokens(rollout, tokenizer):
    for turn in rollout.turns:
        if turn.feedback is not None:
            assert tokenizer.decode(rollout.completion_ids[slice(*turn.feedback_span)]) == turn.feedback


def assert_only_answered_searches_have_evidence(rollout):
    for turn in rollout.turns:
        searched = bool(turn.queries) and turn.feedback is not None
        assert (turn.evidence is not None) == searched
        assert (turn.action == "search") == bool(turn.queries)
        assert (turn.evidence or "") in (turn.feedback or "") or len(turn.queries) > 1


def assert_counts_of_searches_add_up(rollouts, statistics):
    assert statistics.queries == statistics.sent + statistics.cached
    assert statistics.failed == 0
    searched = sum(len(turn.queries) for rollout in rollouts for turn in rollout.turns)
    unsearched = sum(len(rollout.turns[-1].queries) for rollout in rollouts if rollout.end_reason == "max_turns")
    assert statistics.queries == searched - unsearched


def check_sampled_rollouts(trainer, count):
    """Sample `count` rollouts with the trainer's model and backend, check each and return them."""
    # No prompt is a prefix of another.
    questions = [f"Number {number:04d}, what is the capital of France?" for number in range(count)]
    prompts = [row_prompt({"question": question}, trainer._tokenizer, trainer.protocol) for question in questions]
    prompt_ids = tokenize_prompts(trainer, prompts, trainer.protocol.tools)
    exchange = Exchange(trainer._generate_turns)
    rollouts, statistics = trainer.rollout_loop.run(prompt_ids, exchange)
    assert_counts_of_searches_add_up(rollouts, statistics)
    for rollout in rollouts:
        assert_ids_are_only_appended_and_are_those_sampled(rollout, exchange.exchanges)
        assert_spans_tile_the_completion_within_every_budget(rollout, trainer.rollout_loop.limits)
        assert_feedback_is_the_text_of_its_tokens(rollout, trainer._tokenizer)
        assert_only_answered_searches_have_evidence(rollout)
        if rollout.logprobs is not None:
            assert_log_probabilities_are_aligned(rollout)
    return rollouts
