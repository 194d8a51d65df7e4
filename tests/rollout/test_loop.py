"""The turn loop, driven by a model that follows a script, over a real index."""

import pytest

from tspo_trl.protocols.tags import TagProtocol
from tspo_trl.rollout.generation import trajectory_of_generation
from tspo_trl.rollout.loop import RolloutLoop, least_feedback_length
from tspo_trl.rollout.state import RolloutLimits

QUESTION = "capital of France"


class Script:
    """Generator of fixed texts, one list of turns per rollout. It records its requests."""

    def __init__(self, tokenizer, *scripts):
        self.tokenizer = tokenizer
        self.scripts = {self.encode(f"{i}:")[0]: [self.encode(text) for text in s] for i, s in enumerate(scripts)}
        self.prompts = [self.encode(f"{i}:") for i in range(len(scripts))]
        self.budgets = []

    def encode(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def __call__(self, prompt_ids, max_new_tokens):
        self.budgets.append(max_new_tokens)
        return [self.scripts[ids[0]].pop(0) for ids in prompt_ids], None


class Recorder:
    """Retriever that passes the queries to a real one, and records them."""

    def __init__(self, retriever):
        self.retriever = retriever
        self.calls = []

    def search(self, queries, k):
        self.calls.append(list(queries))
        return self.retriever.search(queries, k)


def limits(**changes):
    values = {"max_turns": 2, "max_turn_length": 60, "max_feedback_length": 120, "max_completion_length": 600}
    return RolloutLimits(**{**values, "top_k": 1, **changes})


def run(tokenizer, retriever, *scripts, **changes):
    script = Script(tokenizer, *scripts)
    loop = RolloutLoop(tokenizer, retriever, TagProtocol(), limits(**changes))
    return loop.run(script.prompts, script)


def test_search_is_answered_with_passages_and_an_answer_ends_the_rollout(tokenizer, retriever):
    script = [f"<search> {QUESTION} </search>", "<answer> Paris </answer>"]
    (rollout,), _ = run(tokenizer, retriever, script)
    passage = "Paris is the capital of France. It lies on the Seine."
    first, second = rollout.trajectory.turns
    assert first.evidence == f'Doc 1(Title: "Paris") {passage}'
    assert first.feedback == f"\n\n<information>{first.evidence}</information>\n\n"
    assert (first.action, first.content) == ("search", QUESTION)
    assert (second.action, second.content, second.feedback) == ("answer", "Paris", None)
    assert rollout.end_reason == "answered"


def test_model_reads_its_own_tokens_and_the_feedback(tokenizer, retriever):
    script = ["<search> Tiber </search>", "<answer> x </answer>"]
    (rollout,), _ = run(tokenizer, retriever, script)
    assert tokenizer.decode(rollout.completion_ids) == script[0] + rollout.turns[0].feedback + script[1]


def test_action_that_is_neither_search_nor_answer_gets_the_hint_and_no_evidence(tokenizer, retriever):
    (rollout,), _ = run(tokenizer, retriever, ["hm", "<answer> Paris </answer>"], max_feedback_length=250)
    assert rollout.turns[0].feedback == TagProtocol().invalid_action().text
    assert rollout.turns[0].evidence is None
    assert rollout.end_reason == "answered"


def test_rollout_gets_one_last_turn_without_search(tokenizer, retriever):
    search = f"<search> {QUESTION} </search>"
    recorder = Recorder(retriever)
    rollouts, _ = run(
        tokenizer, recorder, [search] * 3, [search, search, "<answer> A </answer>"], [search, search, "?"]
    )
    assert [rollout.end_reason for rollout in rollouts] == ["max_turns", "answered", "no_action"]
    assert [len(rollout.turns) for rollout in rollouts] == [3, 3, 3]
    assert [rollout.turns[-1].feedback for rollout in rollouts] == [None, None, None]


def test_each_turn_makes_one_search_without_repeated_queries(tokenizer, retriever):
    recorder = Recorder(retriever)
    paris, rome = "<search> Paris </search>", "<search> Rome </search>"
    answer = "<answer> A </answer>"
    _, statistics = run(tokenizer, recorder, [paris, rome, answer], [paris, paris, answer], [rome, "?", answer])
    assert recorder.calls == [["Paris", "Rome"]]  # the second turn asks nothing new
    assert (statistics.queries, statistics.sent, statistics.cached, statistics.calls) == (5, 2, 3, 1)


def test_rollouts_that_ended_do_not_generate_again(tokenizer, retriever):
    script = Script(tokenizer, ["<answer> A </answer>"], ["?", "<answer> A </answer>"])
    RolloutLoop(tokenizer, retriever, TagProtocol(), limits()).run(script.prompts, script)
    assert [len(budgets) for budgets in script.budgets] == [2, 1]


def test_long_feedback_is_cut_and_keeps_its_closing_tag(tokenizer, retriever):
    script = [f"<search> {QUESTION} </search>", "<answer> Paris </answer>"]
    (rollout,), _ = run(tokenizer, retriever, script, max_feedback_length=50)
    turn = rollout.turns[0]
    start, end = turn.feedback_span
    assert end - start == 50
    assert turn.feedback == tokenizer.decode(rollout.completion_ids[start:end])
    assert turn.feedback.endswith("</information>\n\n")
    # The evidence is what the policy read. Text that was cut off does not count.
    assert turn.evidence.startswith('Doc 1(Title: "Paris") Paris is')
    assert "Seine" not in turn.evidence


def test_rollout_ends_where_the_next_feedback_and_one_token_do_not_fit(tokenizer, retriever):
    script = [f"<search> {QUESTION} </search>", "<answer> Paris </answer>"]
    (roomy,), _ = run(tokenizer, retriever, script)
    needed = roomy.turns[0].feedback_span[1] + 1
    for room, num_turns in [(needed, 2), (needed - 1, 1)]:
        (rollout,), _ = run(tokenizer, retriever, script, max_completion_length=room)
        assert (len(rollout.turns), rollout.end_reason) == (num_turns, "max_length")
        assert len(rollout.completion_ids) <= room


def test_turn_asks_only_for_what_is_left(tokenizer, retriever):
    script = Script(tokenizer, ["?", "<answer> Paris </answer>"])
    loop = RolloutLoop(tokenizer, retriever, TagProtocol(), limits(max_completion_length=170))
    (rollout,), _ = loop.run(script.prompts, script)
    left = 170 - rollout.turns[0].feedback_span[1]
    assert left < 60
    assert script.budgets == [[60], [left]]


def test_completion_ends_at_the_context_of_the_model(tokenizer, retriever):
    script = Script(tokenizer, ["?", "<answer> Paris </answer>"])
    loop = RolloutLoop(tokenizer, retriever, TagProtocol(), limits(max_context_length=170))
    (rollout,), _ = loop.run(script.prompts, script)
    used = len(rollout.prompt_ids) + rollout.turns[0].feedback_span[1]
    assert script.budgets == [[60], [170 - used]]
    assert len(rollout.prompt_ids) + len(rollout.completion_ids) <= 170


def test_prompt_that_fills_the_context_is_refused(tokenizer, retriever):
    loop = RolloutLoop(tokenizer, retriever, TagProtocol(), limits(max_context_length=3))
    with pytest.raises(ValueError, match="A prompt of 3 tokens leaves no room in a context of 3 tokens"):
        loop.run([[5, 6], [5, 6, 7]], None)


def test_failed_search_ends_only_the_rollouts_that_asked(tokenizer, retriever):
    class HalfBroken(Recorder):
        def search(self, queries, k):
            found = super().search(queries, k)
            return [None if query == "Rome" else passages for query, passages in zip(queries, found, strict=True)]

    answer = "<answer> A </answer>"
    scripts = [["<search> Rome </search>"], ["<search> Paris </search>", answer], ["<search> Rome </search>"]]
    rollouts, statistics = run(tokenizer, HalfBroken(retriever), *scripts)
    assert [rollout.end_reason for rollout in rollouts] == ["search_failed", "answered", "search_failed"]
    assert (statistics.failed, statistics.empty) == (2, 0)


@pytest.mark.parametrize(
    "results", [ConnectionError("server gone"), [], [[], []], None, [3], [["text"]], [[{"contents": "text"}]]]
)
def test_broken_retriever_costs_rollouts_and_never_the_run(tokenizer, results, caplog):
    class Broken:
        def search(self, queries, k):
            if isinstance(results, Exception):
                raise results
            return results

    rollouts, statistics = run(tokenizer, Broken(), ["<search> Rome </search>"], ["<answer> A </answer>"])
    assert [rollout.end_reason for rollout in rollouts] == ["search_failed", "answered"]
    assert statistics.failed == 1
    assert "A search of 1 queries failed" in caplog.text


def test_search_without_hits_is_no_failure(tokenizer, retriever):
    (rollout,), statistics = run(tokenizer, retriever, ["<search> zzzz </search>", "<answer> A </answer>"])
    assert rollout.turns[0].feedback == "\n\n<information></information>\n\n"
    assert (statistics.empty, statistics.failed) == (1, 0)


def test_end_of_sequence_token_is_kept_in_the_ids_and_not_in_the_text(tokenizer, retriever):
    (rollout,), _ = run(tokenizer, retriever, ["<answer> A </answer><|im_end|>"])
    assert rollout.completion_ids[-1] == tokenizer.eos_token_id
    assert rollout.turns[0].text == "<answer> A </answer>"


@pytest.mark.parametrize("end", ["<|im_end|>", ""])
def test_end_of_sequence_token_of_an_invalid_action_stays_in_the_context_before_the_hint(tokenizer, retriever, end):
    """Search-R1 drops it. Here ids are only appended, and the model is trained on the context that it read."""
    script, contexts = Script(tokenizer, [f"hm{end}", "<answer> A </answer>"]), []

    def generate(prompt_ids, max_new_tokens):
        contexts.append(prompt_ids[0])
        return script(prompt_ids, max_new_tokens)

    loop = RolloutLoop(tokenizer, retriever, TagProtocol(), limits(max_feedback_length=250))
    (rollout,), _ = loop.run(script.prompts, generate)
    hint = TagProtocol().invalid_action().text
    assert hint.startswith("\nMy previous action is invalid.")
    assert tokenizer.decode(contexts[1]) == f"0:hm{end}{hint}"
    assert contexts[1] == rollout.prompt_ids + rollout.completion_ids[: rollout.turns[1].token_span[0]]
    first = slice(*rollout.turns[0].token_span)
    assert rollout.completion_ids[first] == tokenizer(f"hm{end}")["input_ids"]
    assert all(rollout.completion_mask[first])
    assert rollout.turns[0].text == "hm"


def test_turn_may_end_with_any_of_several_end_of_sequence_tokens(tokenizer, retriever):
    script = Script(tokenizer, ["<answer> A </answer><|endoftext|>"])
    loop = RolloutLoop(tokenizer, retriever, TagProtocol(), limits(), [tokenizer.pad_token_id, tokenizer.eos_token_id])
    (rollout,), _ = loop.run(script.prompts, script)
    assert rollout.completion_ids[-1] == tokenizer.pad_token_id
    assert rollout.turns[0].text == "<answer> A </answer>"


def test_what_a_generator_returns_beyond_the_budget_is_dropped(tokenizer, retriever):
    loop = RolloutLoop(tokenizer, retriever, TagProtocol(), limits(max_turn_length=2, max_turns=1))
    (rollout,), _ = loop.run([[5]], lambda prompts, budgets: ([[7, 8, 9]], [[-1.0, -2.0, -3.0]]))
    first = rollout.turns[0]
    assert rollout.completion_ids[slice(*first.token_span)] == [7, 8]
    assert rollout.logprobs[slice(*first.token_span)] == [-1.0, -2.0]


def test_passages_beyond_top_k_are_not_shown(tokenizer, retriever):
    class Generous(Recorder):
        def search(self, queries, k):
            return super().search(queries, k + 1)

    script = ["<search> France </search>", "<answer> A </answer>"]
    (rollout,), _ = run(tokenizer, Generous(retriever), script)
    assert rollout.turns[0].evidence.count("Doc ") == 1


def test_least_feedback_budget_holds_one_token_of_a_passage(tokenizer, retriever):
    least = least_feedback_length(TagProtocol(), tokenizer)
    script = ["<search> France </search>", "<answer> A </answer>"]
    (rollout,), _ = run(tokenizer, retriever, script, max_feedback_length=least)
    assert len(tokenizer(rollout.turns[0].evidence)["input_ids"]) == 1


def test_log_probabilities_stay_aligned_with_the_ids(tokenizer, retriever):
    script = Script(tokenizer, [f"<search> {QUESTION} </search>", "<answer> Paris </answer>"])

    def generate(prompt_ids, max_new_tokens):
        ids, _ = script(prompt_ids, max_new_tokens)
        return ids, [[-float(token) for token in turn] for turn in ids]

    (rollout,), _ = RolloutLoop(tokenizer, retriever, TagProtocol(), limits()).run(script.prompts, generate)
    expected = [-float(i) * m for i, m in zip(rollout.completion_ids, rollout.completion_mask, strict=True)]
    assert rollout.logprobs == expected


def test_feedback_budget_that_cannot_hold_its_tags_is_refused(tokenizer, retriever):
    with pytest.raises(ValueError, match=r"`max_feedback_length` is 10, .* take \d+ tokens"):
        RolloutLoop(tokenizer, retriever, TagProtocol(), limits(max_feedback_length=10))


def test_generation_with_tools_becomes_turns_and_evidence(tokenizer):
    texts, generated = ["call", "Paris is nice", "done"], [1, 0, 1]
    ids = [tokenizer(text)["input_ids"] for text in texts]
    mask = [bit for part, bit in zip(ids, generated, strict=True) for _ in part]
    trajectory = trajectory_of_generation([token for part in ids for token in part], mask, tokenizer)
    assert [(turn.text, turn.evidence) for turn in trajectory.turns] == [("call", "Paris is nice"), ("done", None)]
    assert trajectory.turns[1].token_span == (len(ids[0]) + len(ids[1]), len(mask))
