"""What makes training cheap here: a model of one layer, and garbage collections that skip what imports left."""

import gc

import pytest

from ..tiny_models import TAG_ACTIONS, TAG_ENDINGS, save, teach, tiny_qwen2


@pytest.fixture(scope="module", autouse=True)
def frozen_imports():
    """Every training ends with a full collection, which would visit all objects of torch and transformers."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def searching_model_path(tmp_path_factory, tokenizer):
    """Folder of a tiny Qwen2 model of one layer that searches, answers well and badly, and does neither."""
    model = tiny_qwen2(tokenizer, num_hidden_layers=1)
    teach(model, tokenizer, TAG_ENDINGS, TAG_ACTIONS)
    return save(model, tokenizer, tmp_path_factory.mktemp("model") / "searching-qwen2-one-layer")
