"""A small SearchWorld and a real Lucene index of its corpus."""

import pytest

from tspo_trl.data import SearchWorld, searchworld_tokenizer


@pytest.fixture(scope="session")
def world():
    return SearchWorld(seed=3, num_people=200, num_places=80, num_works=80, num_train_questions=300)


@pytest.fixture(scope="session")
def world_tokenizer():
    return searchworld_tokenizer()


@pytest.fixture(scope="session")
def world_retriever(world, tmp_path_factory):
    from tspo_trl.search import BM25Retriever, build_index

    folder = tmp_path_factory.mktemp("searchworld")
    world.save(folder / "world")
    build_index(folder / "world" / "corpus.jsonl", folder / "index")
    return BM25Retriever(folder / "index")
