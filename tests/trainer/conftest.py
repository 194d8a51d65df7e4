"""Fixtures that make training cheap: a model of one layer, and garbage collections that skip imported objects."""

import gc

import pytest

from ..tiny_models import TAG_ACTIONS, TAG_ENDINGS, save, teach, tiny_qwen2


@pytest.fixture(scope="module", autouse=True)
def frozen_imports():
    """Every training ends with a full collection, which then skips the objects of torch and transformers."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def searching_model_path(tmp_path_factory, tokenizer):
    """Folder of a tiny Qwen2 model of one layer that searches, answers correctly and wrongly, or does neither."""
    model = tiny_qwen2(tokenizer, num_hidden_layers=1)
    teach(model, tokenizer, TAG_ENDINGS, TAG_ACTIONS)
    return save(model, tokenizer, tmp_path_factory.mktemp("model") / "searching-qwen2-one-layer")
