"""The retriever as command-line arguments: contradictions are found before anything is opened."""

import pytest

from tspo_trl.search import BM25Retriever
from tspo_trl.search.arguments import RetrieverArguments, open_retriever

URL = ["http://127.0.0.1:8000"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "There is nothing to search"),
        ({"retriever_url": URL, "index": "i"}, "`retriever_url` and `index` exclude each other"),
        ({"retriever_url": URL, "hybrid": True}, "`retriever_url` and `hybrid` exclude each other"),
        ({"index": "i", "hybrid": True}, "Pass both `index` and `dense`"),
        ({"index": "i", "reranker": "r"}, "Pass `hybrid` too"),
        ({"index": "i", "dense": "d"}, "`dense` needs the `encoder`"),
        ({"dense": "d", "encoder": "e"}, "`dense` holds no text"),
        ({"index": "i", "encoder": "e"}, "`encoder='e'` belongs to a dense index"),
        ({"index": "i", "passages": "p"}, "`passages='p'` belongs to a dense index"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        open_retriever(RetrieverArguments(**arguments))


def test_an_index_is_searched_with_bm25(index_path):
    retriever = open_retriever(RetrieverArguments(index=str(index_path)))
    assert isinstance(retriever, BM25Retriever)
    assert retriever.index == index_path
