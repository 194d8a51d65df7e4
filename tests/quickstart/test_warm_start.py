"""The policy before training, with and without its warm start."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tspo_trl.data import SearchWorld, searchworld_tokenizer
from tspo_trl.data.demonstrations import HABITS
from tspo_trl.quickstart.policy import make_policy
from tspo_trl.quickstart.warm_start import BAD_HABITS, warm_start
from tspo_trl.search.base import Passage


class TitleSearch:
    """Finds the passage with the query as its title, without an index."""

    def __init__(self, world):
        passages = [Passage.from_contents(row["id"], row["contents"]) for row in world.corpus]
        self.passages = {passage.title.strip('"'): passage for passage in passages}

    def search(self, queries, k):
        return [[self.passages[query]] for query in queries]


@pytest.fixture(scope="module")
def world():
    return SearchWorld(
        seed=1, num_people=60, num_places=30, num_works=30, num_train_questions=30, num_test_questions=3
    )


@pytest.fixture(scope="module")
def warm(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("warm") / "policy"
    warm_start(world, TitleSearch(world), folder, seed=4, steps=5)
    return folder


def test_policy_is_small_and_as_large_as_its_vocabulary_asks():
    tokenizer = searchworld_tokenizer()
    model = make_policy(tokenizer)
    assert model.get_input_embeddings().weight.shape == (len(tokenizer), 128)
    assert 300_000 < model.num_parameters() < 500_000
    assert (model.config.eos_token_id, model.config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)


def test_same_seed_makes_the_same_weights():
    tokenizer = searchworld_tokenizer()
    one, same, other = (make_policy(tokenizer, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


def test_first_heads_begin_by_looking_at_the_token_before():
    tokenizer = searchworld_tokenizer()
    model = make_policy(tokenizer)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        attention = model(torch.arange(100).unsqueeze(0), output_attentions=True).attentions[0][0]
    previous = attention.diagonal(offset=-1, dim1=1, dim2=2).mean(dim=1)
    assert (previous[:2] > 0.7).all()
    assert (previous[2:] < 0.1).all()


def test_bad_habits_are_habits_and_mostly_wrong():
    assert set(BAD_HABITS) <= set(HABITS)
    assert sum(BAD_HABITS.values()) == pytest.approx(1.0)
    assert BAD_HABITS["right"] < 0.1
    assert BAD_HABITS["misreads"] + BAD_HABITS["searches_on"] > 0.3  # near misses


def test_warm_started_policy_loads_with_its_tokenizer(warm):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(warm), AutoTokenizer.from_pretrained(warm)
    assert model.config.model_type == "qwen2"
    assert tokenizer.get_vocab() == searchworld_tokenizer().get_vocab()
    assert {path.name for path in warm.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


def test_warm_start_moves_every_weight(warm):
    model = AutoModelForCausalLM.from_pretrained(warm).state_dict()
    fresh = make_policy(searchworld_tokenizer(), seed=4).state_dict()
    assert [name for name in fresh if torch.equal(fresh[name], model[name])] == []


def test_warm_start_of_the_same_seed_gives_the_same_policy(warm, world, tmp_path):
    warm_start(world, TitleSearch(world), tmp_path, seed=4, steps=5)
    one, same = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (warm, tmp_path))
    assert all(torch.equal(one[name], same[name]) for name in one)
