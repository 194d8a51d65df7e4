"""Fixtures of the tests with a real vLLM engine. `make test-vllm` runs them in a separate environment."""

import copy
import os

import pytest

from ..tiny_models import TAG_ACTIONS, TAG_ENDINGS, save, teach_to_call, tiny_qwen2
from .vllm_server import free_port, serving_vllm

# The smallest width of heads that vLLM supports on a CPU is 32.
FOR_VLLM = {"num_attention_heads": 1, "num_key_value_heads": 1, "max_position_embeddings": 2048}

# One gigabyte is more than these models need for keys and values. By default vLLM takes half of the memory.
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")


@pytest.fixture(scope="session")
def tokenizer(tokenizer):
    """The tokenizer of the other tests, with `</answer>` as a special token, as in some models."""
    special = copy.deepcopy(tokenizer)
    special.add_special_tokens({"additional_special_tokens": ["</answer>"]})
    return special


@pytest.fixture(scope="session")
def searching_model_path(tmp_path_factory, tokenizer):
    """The model of the other tests for vLLM. It has wider heads, and also learns after the text of prompts."""
    import torch

    from tspo_trl.protocols.tags import TagProtocol

    model = tiny_qwen2(tokenizer, **FOR_VLLM)
    texts = [ending + action for ending in TAG_ENDINGS for action in TAG_ACTIONS]
    batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    prompt = tokenizer(TagProtocol().prompt("What is the capital of France?"), return_tensors="pt")["input_ids"]
    length, shape = 64, (len(texts), 64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        # The text before and the positions differ at every step, because rollouts act at any position.
        start = int(torch.randint(0, prompt.shape[1] - length, ()))
        before = prompt[:, start : start + length].expand(shape)
        positions = torch.arange(length + labels.shape[1]) + torch.randint(0, 400, (len(texts), 1))
        model(
            input_ids=torch.cat([before, batch["input_ids"]], dim=1),
            attention_mask=torch.cat([torch.ones(shape, dtype=torch.long), batch["attention_mask"]], dim=1),
            labels=torch.cat([torch.full(shape, -100), labels], dim=1),
            position_ids=positions,
        ).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return save(model, tokenizer, tmp_path_factory.mktemp("model") / "searching-qwen2")


@pytest.fixture(scope="session")
def chat_model_path(tmp_path_factory, chat_tokenizer):
    """The chat model of the other tests, with heads for vLLM."""
    model = tiny_qwen2(chat_tokenizer, **FOR_VLLM)
    teach_to_call(model, chat_tokenizer)
    return save(model, chat_tokenizer, tmp_path_factory.mktemp("model") / "chat-qwen2")


@pytest.fixture(scope="session")
def one_engine():
    """
    Let all trainers in colocate mode share one engine, because each engine takes long to load and a gigabyte.

    Every trainer sends its weights before it first generates. Options that TRL does not offer: eager mode saves the
    compilation, and in float32 rounding does not hide stale weights (vLLM would make bfloat16 of it). All others are
    TRL's.
    """
    from trl.generation import vllm_generation
    from vllm import LLM

    engines = {}

    def load(model, **options):
        if model not in engines:
            engines[model] = LLM(model=model, **options, enforce_eager=True, dtype="float32")
        return engines[model]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vllm_generation, "LLM", load)
        yield


@pytest.fixture(scope="session")
def server_url(tmp_path_factory, searching_model_path):
    """A vLLM server of the searching model, started as TRL documents it, with our weight transfer."""
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with serving_vllm(searching_model_path, log) as url:
        yield url


@pytest.fixture
def make_colocate_trainer(make_trainer, one_engine):
    """`make_trainer` with vLLM in the same process."""

    def make(**changes):
        return make_trainer(use_vllm=True, vllm_mode="colocate", **changes)

    return make


@pytest.fixture
def make_server_trainer(make_trainer, server_url, monkeypatch):
    """`make_trainer` with the vLLM server, which receives its weights."""
    from trl.generation import vllm_generation
    from vllm_on_cpu.sender import StoreVLLMClient

    monkeypatch.setattr(vllm_generation, "VLLMClient", StoreVLLMClient)

    def make(**changes):
        options = {"vllm_server_base_url": server_url, "vllm_group_port": free_port()}
        return make_trainer(use_vllm=True, vllm_mode="server", **options, **changes)

    return make


@pytest.fixture(params=["colocate", "server"])
def make_vllm_trainer(request):
    """`make_trainer` with vLLM in either mode."""
    return request.getfixturevalue(f"make_{request.param}_trainer")
