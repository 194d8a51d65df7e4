"""open_passages: the text of a passage, from a Lucene index or from the corpus."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tspo_trl.search import Passage, build_index
from tspo_trl.search.indexing.passages import open_passages

SEINE = {"id": "seine", "contents": '"Seine"\nA river in France.'}
TIBER = {"id": 2, "title": "Tiber", "text": "A river in Italy: 東京."}
SEINE_PASSAGE = Passage("seine", '"Seine"', "A river in France.")
TIBER_PASSAGE = Passage("2", '"Tiber"', "A river in Italy: 東京.")


def test_row_i_is_line_i_of_the_corpus(write_corpus):
    passages = open_passages(write_corpus(SEINE, TIBER))
    assert passages.get([1, 0, 1], ["2", "seine", None]) == [TIBER_PASSAGE, SEINE_PASSAGE, TIBER_PASSAGE]


def test_blank_lines_and_a_missing_last_line_break_do_not_count(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(b"\n" + json.dumps(SEINE).encode() + b"\r\n  \n" + json.dumps(TIBER).encode())
    assert open_passages(path).get([0, 1], ["seine", "2"]) == [SEINE_PASSAGE, TIBER_PASSAGE]


def test_a_lucene_index_is_read_by_id(write_corpus, tmp_path):
    build_index(write_corpus(SEINE, TIBER), tmp_path / "index")
    passages = open_passages(tmp_path / "index")
    assert passages.get([7, 3], ["2", "seine"]) == [TIBER_PASSAGE, SEINE_PASSAGE]


def test_another_id_in_the_corpus_is_told(write_corpus):
    passages = open_passages(write_corpus(SEINE, TIBER))
    with pytest.raises(ValueError, match=r"not the corpus.*passage 2 has id '2', but the index has 'seine'"):
        passages.get([1], ["seine"])


def test_a_row_beyond_the_corpus_is_told(write_corpus):
    with pytest.raises(ValueError, match="has 1 lines, but the index has a row 1"):
        open_passages(write_corpus(SEINE)).get([1], [None])


def test_an_id_that_lucene_does_not_have_is_told(write_corpus, tmp_path):
    build_index(write_corpus(SEINE), tmp_path / "index")
    with pytest.raises(ValueError, match="has no passage 'tiber'"):
        open_passages(tmp_path / "index").get([0], ["tiber"])


def test_a_lucene_index_needs_ids(write_corpus, tmp_path):
    build_index(write_corpus(SEINE), tmp_path / "index")
    with pytest.raises(ValueError, match="needs its corpus"):
        open_passages(tmp_path / "index").get([0], [None])


def test_what_is_not_there_or_empty_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_passages(tmp_path / "no.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n \n")
    with pytest.raises(ValueError, match="is empty"):
        open_passages(tmp_path / "empty.jsonl")
    with pytest.raises(ValueError, match="not the folder of a Lucene index"):
        open_passages(tmp_path)


def test_fingerprints_tell_corpora_apart(write_corpus):
    first, same = write_corpus(SEINE), write_corpus(SEINE)
    fingerprint = open_passages(first).fingerprint
    assert open_passages(same).fingerprint == fingerprint
    assert open_passages(write_corpus(TIBER)).fingerprint != fingerprint


def test_the_fingerprint_of_a_corpus_is_that_of_when_it_was_opened(write_corpus):
    path = write_corpus(SEINE)
    passages = open_passages(path)
    opened = passages.fingerprint
    path.unlink()
    write_corpus(TIBER)
    assert passages.fingerprint == opened


def test_the_fingerprint_of_a_lucene_index_is_that_of_when_it_was_opened(write_corpus, tmp_path):
    build_index(write_corpus(SEINE), tmp_path / "index")
    passages = open_passages(tmp_path / "index")
    opened = passages.fingerprint
    (tmp_path / "index").rename(tmp_path / "moved")
    assert passages.fingerprint == opened


def test_threads_can_share_a_corpus(write_corpus):
    passages = open_passages(write_corpus(*({"id": n, "contents": f"T\nnumber {n}"} for n in range(500))))
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda n: passages.get([n], [str(n)])[0].text, range(500)))
    assert found == [f"number {n}" for n in range(500)]
