"""TRL's own tool loop: only what a tool returned is credited."""

import pytest
from datasets import Dataset

from ..tiny_models import save, tiny_qwen2


def search(query: str) -> dict:
    """
    Search.

    Args:
        query: What to search.
    """
    if query == "fail":
        raise ValueError("Paris")
    return {"title": "France", "text": "Its capital is Paris." if query == "France" else "A passage."}


async def search_later(query: str) -> dict:
    """
    Search later.

    Args:
        query: What to search.
    """
    return search(query)


def call(arguments, name="search"):
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


FIRST_TURNS = [
    call('{"query": "France"}'),  # the only one that finds Paris
    call('{"query": "fail"}'),
    call('{"Paris": "x"}'),  # a wrong argument
    call('{"query": "x"}', name="Paris"),  # an unknown tool
    call('{"query": "fail"}', name="search_later"),
    call('{"query": "Paris"}'),  # the query alone names Paris
    call('{"query": "fail"}') + call('{"query": "France"}', name="search_later"),
    "Paris",
]
HITS = [0, -1, -1, -1, -1, -1, 0, -1]


@pytest.mark.parametrize("gold", ["Paris", "title"])
def test_only_what_a_tool_of_trl_returned_is_credited(make_trainer, chat_tokenizer, tmp_path, gold):
    prompt = [{"role": "user", "content": "What is the capital of France?"}]
    rows = Dataset.from_list([{"prompt": prompt, "golden_answers": [gold]}] * 8)
    tools = {"retriever": None, "tools": [search, search_later], "train_dataset": rows}
    model = save(tiny_qwen2(chat_tokenizer), chat_tokenizer, tmp_path / "model")
    sizes = {"per_device_train_batch_size": 8, "num_generations": 8, "max_completion_length": 700}
    trainer = make_trainer(model=model, trainer_kwargs=tools, **sizes)

    def generate(prompt_ids, *args, **kwargs):
        texts = FIRST_TURNS if len(prompt_ids) == 8 else ["London"] * len(prompt_ids)
        return [[*chat_tokenizer(text)["input_ids"], chat_tokenizer.eos_token_id] for text in texts], None

    trainer._generate_single_turn = generate
    trainer.model.train()
    output = trainer._generate_and_score_completions(list(rows))
    records = trainer._trajectory_files.records["train"]
    expected = HITS if gold == "Paris" else [-1] * 8
    assert [-1 if one["first_occurrence"] is None else one["first_occurrence"] for one in records] == expected
    assert all(turn["feedback"] for one in records[:7] for turn in one["turns"][:1])
    first_token = output["advantages"][:, 0]
    if gold == "Paris":  # FOLR compares the first turns: 6 of 8 found nothing
        assert (first_token > 0).tolist() == [hit == 0 for hit in HITS]
    else:
        assert not first_token.any()
