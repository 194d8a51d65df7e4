"""Training in micro-batches on long rollouts with ten searches and sixteen thousand tokens."""

import pytest

from tspo_trl.search import Passage

SEARCHES, LENGTH = 10, 16_000


class LongPassages:
    """Retriever of passages of about 1,600 tokens. Only the last contains the gold answer."""

    def __init__(self):
        self.searches = 0

    def search(self, queries, k):
        self.searches += 1
        text = "".join(f"{number:05d} " for number in range(265))
        text += "Paris" if self.searches == SEARCHES else "Rome"
        return [[Passage(query, '"Long"', text)] for query in queries]


@pytest.fixture
def long_trainer(make_trainer):
    """Trainer whose model generates, but the text is replaced by ten searches and an answer."""
    trainer = make_trainer(
        trainer_kwargs={"retriever": LongPassages()},
        max_steps=1,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        num_generations=4,
        max_turns=SEARCHES,
        max_turn_length=40,
        max_feedback_length=1_700,
        max_completion_length=LENGTH + 2_000,
    )
    generate, contexts = trainer._generate_turns, []

    def scripted(prompt_ids, max_new_tokens):
        turn = len(contexts)
        contexts.append(max(len(ids) for ids in prompt_ids))
        generate(prompt_ids, [2] * len(prompt_ids))
        written = [f"<search> {turn} {row} </search>" for row in range(len(prompt_ids))]
        if turn == SEARCHES:
            written = [f"<answer> {'Paris' if row else 'Rome'} </answer>" for row in range(len(prompt_ids))]
        return [trainer._tokenizer(text)["input_ids"] for text in written], None

    trainer._generate_turns = scripted
    trainer.contexts = contexts
    return trainer


@pytest.mark.slow
def test_rollouts_of_ten_searches_and_sixteen_thousand_tokens_are_trained_on(long_trainer):
    before = {name: parameter.clone() for name, parameter in long_trainer.model.named_parameters()}
    long_trainer.train()
    assert max(long_trainer.contexts) > LENGTH
    logs = long_trainer.state.log_history[0]
    assert logs["rollout/turns"] == SEARCHES + 1
    assert logs["tspo/first_occurrence_turn"] == SEARCHES - 1
    assert logs["tspo/near_miss"] == 0.25
    assert all(not parameter.equal(before[name]) for name, parameter in long_trainer.model.named_parameters())


def test_log_probability_pass_holds_a_micro_batch_at_a_time(make_trainer):
    # Two optimizer steps for each generation, so that log-probabilities are taken before the first.
    trainer = make_trainer(
        max_steps=1, per_device_train_batch_size=2, gradient_accumulation_steps=2, steps_per_generation=4
    )
    score, passes, rows = trainer._get_per_token_logps_and_entropies, [], []
    trainer.model.model.register_forward_hook(lambda module, args, output: rows.append(len(output.last_hidden_state)))

    def watched(model, input_ids, *args, **kwargs):
        rows.clear()
        result = score(model, input_ids, *args, **kwargs)
        passes.append((len(input_ids), list(rows)))
        return result

    trainer._get_per_token_logps_and_entropies = watched
    trainer.train()
    assert passes == [(8, [2, 2, 2, 2]), (2, [2]), (2, [2])]  # the generation batch, then the two micro-batches
