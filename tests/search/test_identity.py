"""RetrieverIdentity: equal for equal retrievers, and JSON keeps it."""

import json
import shutil

import pytest

from tspo_trl.search import BM25Retriever, RetrieverIdentity, build_index
from tspo_trl.search.identity import fingerprint_of, identity_of


def test_identity_goes_through_json_unchanged():
    identity = RetrieverIdentity("BM25Retriever", "ab12", {"k1": 0.9, "parts": [{"name": "x"}]})
    assert RetrieverIdentity.from_dict(json.loads(json.dumps(identity.to_dict()))) == identity


@pytest.mark.parametrize(
    "values", [{}, [], {"name": 3}, {"name": "x", "fingerprint": 1}, {"name": "x", "parameters": []}]
)
def test_what_is_no_identity_is_refused(values):
    with pytest.raises(ValueError, match="is not the identity of a retriever"):
        RetrieverIdentity.from_dict(values)


def test_digest_ignores_the_order_of_parameters_and_sees_every_change():
    identity = RetrieverIdentity("A", "f", {"x": 1, "y": 2})
    assert RetrieverIdentity("A", "f", {"y": 2, "x": 1}).digest == identity.digest
    others = [RetrieverIdentity("B", "f", {"x": 1, "y": 2}), RetrieverIdentity("A", None, {"x": 1, "y": 2})]
    others.append(RetrieverIdentity("A", "f", {"x": 1, "y": 3}))
    assert len({identity.digest, *(other.digest for other in others)}) == 4


def test_retriever_that_does_not_describe_itself_is_known_by_its_class():
    class Mine:
        def search(self, queries, k):
            return [[] for _ in queries]

    assert identity_of(Mine()) == RetrieverIdentity("Mine")


def test_bm25_identity_names_index_and_parameters(retriever, index_path):
    identity = identity_of(retriever)
    assert (identity.name, identity.parameters) == ("BM25Retriever", {"k1": 0.9, "b": 0.4})
    assert identity_of(BM25Retriever(index_path, k1=1.2)).fingerprint == identity.fingerprint
    assert identity_of(BM25Retriever(index_path, k1=1.2)) != identity


def test_a_copied_index_is_the_same_and_another_corpus_is_not(tmp_path, index_path, retriever, write_corpus):
    shutil.copytree(index_path, tmp_path / "copy")
    assert BM25Retriever(tmp_path / "copy").identity == retriever.identity
    build_index(write_corpus({"id": "1", "contents": '"A"\nOther text.'}), tmp_path / "other")
    assert BM25Retriever(tmp_path / "other").identity != retriever.identity


def test_fingerprint_of_a_small_file_sees_every_byte(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"a" * 100)
    first = fingerprint_of([path])
    path.write_bytes(b"a" * 99 + b"b")
    assert fingerprint_of([path]) != first


def test_fingerprint_of_a_large_file_reads_samples_up_to_its_end(tmp_path):
    path = tmp_path / "large"
    with open(path, "wb") as file:
        file.truncate(100 * 2**20)
    first = fingerprint_of([path])
    with open(path, "r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    assert fingerprint_of([path]) != first


def test_a_fingerprint_of_no_files_is_refused():
    with pytest.raises(ValueError, match="paths is empty"):
        fingerprint_of([])
