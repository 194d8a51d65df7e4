"""Fixtures of all tests: a tokenizer, tiny Qwen2 models, a small Lucene index and trainers."""

import os

import pytest

from tspo_trl.trajectory import write_json_lines

from .tiny_models import TAG_ACTIONS, TAG_ENDINGS, save, teach, teach_to_call, tiny_qwen2, train_tokenizer

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
    """Byte-level BPE with merges that split the tags. The padding token is not the end-of-sequence token."""
    texts = ["<search> capital of France </search>", "<answer> Paris </answer>", *(text for _, text in PASSAGES)]
    return train_tokenizer(texts, 400, ["<|endoftext|>", "<|im_end|>"], eos_token="<|im_end|>")


@pytest.fixture(scope="session")
def tiny_model_path(tmp_path_factory, tokenizer):
    """Folder of a tiny Qwen2 model with random weights and its tokenizer."""
    return save(tiny_qwen2(tokenizer), tokenizer, tmp_path_factory.mktemp("model") / "tiny-qwen2")


@pytest.fixture(scope="session")
def searching_model_path(tmp_path_factory, tokenizer):
    """Folder of a tiny Qwen2 model that searches, answers correctly and wrongly, or does neither."""
    model = tiny_qwen2(tokenizer)
    teach(model, tokenizer, TAG_ENDINGS, TAG_ACTIONS)
    return save(model, tokenizer, tmp_path_factory.mktemp("model") / "searching-qwen2")


@pytest.fixture(scope="session")
def chat_tokenizer():
    """Byte-level BPE with Qwen2.5's chat template."""
    from .chat_tokenizer import make_chat_tokenizer

    return make_chat_tokenizer()


@pytest.fixture(scope="session")
def chat_protocol(chat_tokenizer):
    """Tool calls in the template of `chat_tokenizer`."""
    from tspo_trl.protocols.chat import ChatToolProtocol

    return ChatToolProtocol(chat_tokenizer)


@pytest.fixture(scope="session")
def chat_model_path(tmp_path_factory, chat_tokenizer):
    """Folder of a tiny Qwen2 model that makes valid and invalid calls, and answers."""
    model = tiny_qwen2(chat_tokenizer)
    teach_to_call(model, chat_tokenizer)
    return save(model, chat_tokenizer, tmp_path_factory.mktemp("model") / "chat-qwen2")


@pytest.fixture(scope="session")
def index_path(tmp_path_factory):
    """A Lucene index over six passages."""
    from tspo_trl.search import build_index

    folder = tmp_path_factory.mktemp("index")
    rows = [{"id": str(i), "contents": f"{title}\n{text}"} for i, (title, text) in enumerate(PASSAGES)]
    write_json_lines(folder / "corpus.jsonl", rows)
    build_index(folder / "corpus.jsonl", folder / "lucene")
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
    """Create a trainer for short rollouts. `changes` go to the configuration, `trainer_kwargs` to the trainer."""
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


@pytest.fixture
def make_run(make_trainer, tmp_path):
    """Create a trainer of six steps that writes to the given folder."""
    from .training_runs.killable_run import QUESTIONS, length_reward

    def make(folder, **changes):
        settings = {
            "max_steps": 6,
            "per_device_train_batch_size": 8,
            "save_strategy": "steps",
            "save_steps": 1,
            "output_dir": str(tmp_path / folder),
        }
        kwargs = {"train_dataset": QUESTIONS, "reward_funcs": length_reward}
        return make_trainer(trainer_kwargs=kwargs, **{**settings, **changes})

    return make
