"""Real parts for the tests, made on the spot: a tokenizer, tiny Qwen2 models and a small Lucene index."""

import json
import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

PASSAGES = [
    ('"Paris"', "Paris is the capital of France. It lies on the Seine."),
    ('"Berlin"', "Berlin is the capital of Germany. It lies on the Spree."),
    ('"Madrid"', "Madrid is the capital of Spain. It lies on the Manzanares."),
    ('"Rome"', "Rome is the capital of Italy. It lies on the Tiber."),
    ('"Seine"', "The Seine is a river in France. It rises at Source-Seine."),
    ('"Tiber"', "The Tiber is a river in Italy. It rises at Mount Fumaiolo."),
]


@pytest.fixture(scope="session")
def tokenizer():
    """Byte-level BPE whose merges split the tags: it loses nothing, and pad is not eos."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_end|>"],
    )
    text = ["<search> capital of France </search>", "<answer> Paris </answer>", *(text for _, text in PASSAGES)]
    backend.train_from_iterator(text * 2, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def tiny_qwen2(tokenizer):
    """A Qwen2 model with random weights: two layers of width 32."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)


@pytest.fixture(scope="session")
def tiny_model_path(tmp_path_factory, tokenizer):
    """Folder of a tiny Qwen2 model with random weights and its tokenizer."""
    return save(tiny_qwen2(tokenizer), tokenizer, tmp_path_factory.mktemp("model") / "tiny-qwen2")


def teach(model, tokenizer, endings, actions, with_endings=True):
    """Have the model write each of the actions behind each of the endings, at any position."""
    import torch

    texts = [ending + action for ending in endings for action in actions]
    batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    if not with_endings:
        for row, text in zip(labels, texts, strict=True):
            row[: max(len(tokenizer(ending)["input_ids"]) for ending in endings if text.startswith(ending))] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        # Positions differ at every step, because rollouts act at any position.
        positions = torch.arange(labels.shape[1]) + torch.randint(0, 400, (len(texts), 1))
        model(**batch, position_ids=positions, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def save(model, tokenizer, path):
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="session")
def searching_model_path(tmp_path_factory, tokenizer):
    """Folder of a tiny Qwen2 model that has learned to search, to answer well and badly, and to do neither."""
    model = tiny_qwen2(tokenizer)
    actions = ["<search> France </search>", "<search> Rome </search>", "<answer> Paris </answer>"]
    actions += ["<answer> Rome </answer>", "hm<|im_end|>"]
    teach(model, tokenizer, ["?\n", "</information>\n\n", "try again.\n"], actions)
    return save(model, tokenizer, tmp_path_factory.mktemp("model") / "searching-qwen2")


@pytest.fixture(scope="session")
def chat_tokenizer():
    """Byte-level BPE with Qwen2.5's chat template."""
    from .chat_tokenizer import make_chat_tokenizer

    return make_chat_tokenizer()


@pytest.fixture(scope="session")
def chat_model_path(tmp_path_factory, chat_tokenizer):
    """Folder of a tiny Qwen2 model that has learned to call the search well and badly, and to answer."""
    from tspo_trl.chat_protocol import ChatToolProtocol

    model = tiny_qwen2(chat_tokenizer)
    call = '<tool_call>\n{{"name": "{}", "arguments": {}}}\n</tool_call>'
    france, rome = call.format("search", '{"query": "France"}'), call.format("search", '{"query": "Rome"}')
    actions = [france, f"{france}\n{rome}", call.format("browse", "{}"), call.format("search", "Rome"), ""]
    actions += ["<answer> Paris </answer>", "<answer> Rome </answer>"]
    protocol = ChatToolProtocol(chat_tokenizer)
    prompt = chat_tokenizer.apply_chat_template(
        protocol.prompt("What is the capital of France?"),
        tools=protocol.tools,
        add_generation_prompt=True,
        tokenize=False,
    )
    endings = ["</tool_response><|im_end|>\n", "</answer>.<|im_end|>\n"]
    endings = [prompt, *(f"{prompt}{ending}<|im_start|>assistant\n" for ending in endings)]
    teach(model, chat_tokenizer, endings, [f"{action}<|im_end|>" for action in actions], False)
    return save(model, chat_tokenizer, tmp_path_factory.mktemp("model") / "chat-qwen2")


@pytest.fixture(scope="session")
def index_path(tmp_path_factory):
    """A Lucene index over six passages."""
    from tspo_trl.search import build_index

    folder = tmp_path_factory.mktemp("index")
    corpus = folder / "corpus.jsonl"
    rows = [{"id": str(i), "contents": f"{title}\n{text}"} for i, (title, text) in enumerate(PASSAGES)]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    build_index(corpus, folder / "lucene")
    return folder / "lucene"


@pytest.fixture(scope="session")
def retriever(index_path):
    """BM25 over the six passages."""
    from tspo_trl.search import BM25Retriever

    return BM25Retriever(index_path)


@pytest.fixture
def dataset():
    from datasets import Dataset

    return Dataset.from_list([{"question": "What is the capital of France?", "golden_answers": ["Paris"]}] * 4)


@pytest.fixture
def make_trainer(tmp_path, searching_model_path, retriever, dataset):
    """Builds a trainer for short rollouts; `changes` go to the configuration, `trainer_kwargs` to the trainer."""
    from tspo_trl import TSPOConfig, TSPOTrainer

    def make(trainer_class=TSPOTrainer, model=searching_model_path, trainer_kwargs=None, **changes):
        args = TSPOConfig(
            **{
                "output_dir": str(tmp_path / "out"),
                "max_steps": 2,
                "logging_steps": 1,
                "learning_rate": 1e-3,
                "per_device_train_batch_size": 16,
                "num_generations": 4,
                "max_turns": 2,
                "max_turn_length": 24,
                "max_feedback_length": 60,
                "max_completion_length": 200,
                "search_top_k": 1,
                "report_to": "none",
                "save_strategy": "no",
                "use_cpu": True,
                "bf16": False,
                "gradient_checkpointing": False,
                "disable_tqdm": True,
                **changes,
            }
        )
        kwargs = {"train_dataset": dataset, "retriever": retriever, **(trainer_kwargs or {})}
        return trainer_class(model=model, args=args, **{k: v for k, v in kwargs.items() if v is not None})

    return make
