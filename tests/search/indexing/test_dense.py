"""build_dense_index: continues after an interrupt, and an index appears complete or not at all."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import faiss
import numpy as np
import pytest

from tspo_trl.search.indexing.dense import _filled_index, _shard_paths, build_dense_index
from tspo_trl.search.indexing.encoder import Encoder

from ..tiny_encoder import WORDS, make_tiny_encoder

DOCUMENTS = [
    {"id": f"p{n}", "contents": f"Title {n}\n" + " ".join(WORDS[(n * step) % len(WORDS)] for step in range(1, 8))}
    for n in range(25)
]


class WatchedEncoder(Encoder):
    """Records the texts that it encoded, and raises before it encodes more than `limit` passages."""

    limit = None
    encoded = ()

    def encode_passages(self, texts):
        if self.limit is not None and len(self.encoded) + len(texts) > self.limit:
            raise KeyboardInterrupt
        self.encoded = (*self.encoded, *texts)
        return super().encode_passages(texts)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_tiny_encoder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def encoder(model):
    return WatchedEncoder(model, device="cpu")


@pytest.fixture
def corpus(write_corpus):
    return write_corpus(*DOCUMENTS)


@pytest.fixture
def build(corpus, tmp_path):
    """Build an index in shards of ten without a progress bar."""

    def build(encoder, corpus=corpus, **options):
        options = {"shard_size": 10, "show_progress": False} | options
        return build_dense_index(corpus, tmp_path / "dense", encoder, **options)

    return build


def entries(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_the_folder_has_the_layout_of_pyserini(build, encoder, tmp_path):
    assert build(encoder) == 25
    assert entries(tmp_path / "dense") == ["docid", "encoder.json", "index"]
    assert (tmp_path / "dense" / "docid").read_text() == "".join(f"p{n}\n" for n in range(25))
    assert json.loads((tmp_path / "dense" / "encoder.json").read_text()) == encoder.settings
    assert entries(tmp_path) == ["corpus.jsonl", "dense"]


@pytest.mark.parametrize("shard_size", [1, 10, 24, 25, 1000])
def test_rows_are_the_vectors_in_the_order_of_the_corpus(build, encoder, tmp_path, shard_size):
    build(encoder, shard_size=shard_size)
    index = faiss.read_index(str(tmp_path / "dense" / "index"))
    assert (index.ntotal, index.metric_type) == (25, faiss.METRIC_INNER_PRODUCT)
    expected = encoder.encode_passages([document["contents"] for document in DOCUMENTS])
    np.testing.assert_allclose(index.reconstruct_n(0, 25), expected, atol=1e-6)


def test_an_interrupted_run_goes_on_and_encodes_nothing_twice(build, encoder, model, tmp_path):
    encoder.limit = 20
    with pytest.raises(KeyboardInterrupt):
        build(encoder)
    assert not (tmp_path / "dense").exists()
    assert entries(tmp_path / "dense.shards") == ["manifest.json", "vectors-00000.npy", "vectors-00001.npy"]
    second = WatchedEncoder(model, device="cpu")
    assert build(second) == 25
    contents = [document["contents"] for document in DOCUMENTS]
    assert [*encoder.encoded, *second.encoded] == contents
    index = faiss.read_index(str(tmp_path / "dense" / "index"))
    np.testing.assert_allclose(
        index.reconstruct_n(0, 25), Encoder(model, device="cpu").encode_passages(contents), atol=1e-6
    )


def test_a_file_that_is_no_shard_of_this_run_is_not_read(build, encoder, tmp_path):
    encoder.limit = 20
    with pytest.raises(KeyboardInterrupt):
        build(encoder)
    encoder.limit = None
    np.save(tmp_path / "dense.shards" / "vectors-copy.npy", np.ones((3, 32), dtype=np.float32))
    build(encoder)
    assert faiss.read_index(str(tmp_path / "dense" / "index")).ntotal == 25


def test_shards_keep_their_order_when_their_numbers_get_longer(tmp_path):
    paths = _shard_paths(tmp_path, count=100_002, size=1)
    assert [path.name for path in paths[-3:]] == ["vectors-99999.npy", "vectors-100000.npy", "vectors-100001.npy"]
    for position, path in enumerate(paths[-3:]):
        np.save(path, np.full((1, 2), position, dtype=np.float32))
    index = _filled_index(faiss.IndexFlatIP(2), paths[-3:], count=3)
    assert index.reconstruct_n(0, 3)[:, 0].tolist() == [0, 1, 2]


def test_half_a_shard_does_not_count(build, encoder, tmp_path, monkeypatch):
    def save_half(file, vectors):
        file.write(b"cut off")
        raise KeyboardInterrupt

    usual = np.save
    monkeypatch.setattr(np, "save", save_half)
    with pytest.raises(KeyboardInterrupt):
        build(encoder)
    monkeypatch.setattr(np, "save", usual)
    encoder.encoded = ()
    assert build(encoder) == 25
    assert len(encoder.encoded) == 25


@pytest.fixture
def interrupted(build, encoder):
    encoder.limit = 10
    with pytest.raises(KeyboardInterrupt):
        build(encoder)
    encoder.limit = None


def test_shards_of_another_encoder_are_refused(interrupted, build, model):
    with pytest.raises(
        ValueError, match=r"dense\.shards are from an earlier run with another encoder.*remove that folder"
    ):
        build(Encoder(model, device="cpu", max_length=12))


def test_shards_of_another_model_in_a_folder_of_the_same_name_are_refused(interrupted, build, tmp_path):
    with pytest.raises(ValueError, match="earlier run with another encoder"):
        build(Encoder(make_tiny_encoder(tmp_path / "other" / "tiny", seed=1), device="cpu"))


def test_shards_of_another_corpus_are_refused(interrupted, build, encoder, write_corpus):
    with pytest.raises(ValueError, match="earlier run with another corpus"):
        build(encoder, corpus=write_corpus(*DOCUMENTS[:-1], name="other.jsonl"))


def test_shards_of_another_size_are_refused(interrupted, build, encoder):
    with pytest.raises(ValueError, match=r"another shard size \(10, now 7\)"):
        build(encoder, shard_size=7)


def test_a_folder_of_something_else_is_not_taken_for_shards(build, encoder, tmp_path):
    (tmp_path / "dense.shards").mkdir()
    (tmp_path / "dense.shards" / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="remove that folder"):
        build(encoder)
    assert (tmp_path / "dense.shards" / "thesis.txt").read_text() == "precious"


def test_hnsw_is_a_graph_of_inner_products(build, encoder, tmp_path):
    build(encoder, factory="hnsw")
    index = faiss.read_index(str(tmp_path / "dense" / "index"))
    assert (type(index).__name__, index.ntotal, index.metric_type) == ("IndexHNSWFlat", 25, faiss.METRIC_INNER_PRODUCT)
    assert index.hnsw.efSearch == 64


def test_an_ivf_index_looks_into_more_than_one_list(build, encoder, tmp_path):
    build(encoder, factory="IVF4,Flat")
    assert faiss.read_index(str(tmp_path / "dense" / "index")).nprobe == 2  # the square root of 4


@pytest.mark.slow
def test_ivfpq_chooses_lists_and_codes_by_the_size(build, encoder, write_corpus, tmp_path):
    # min(4 * sqrt(400) = 80, 400 / 39 = 10) lists, rounded down to a power of two; 32 dimensions / 8 bytes.
    corpus = write_corpus(*({"id": n, "contents": f"T\n{n} {WORDS[n % 17]} {WORDS[n % 7]}"} for n in range(400)))
    build(encoder, corpus=corpus, factory="ivfpq", shard_size=150)
    index = faiss.read_index(str(tmp_path / "dense" / "index"))
    assert (index.nlist, index.pq.M, index.ntotal) == (8, 4, 400)
    assert index.metric_type == faiss.METRIC_INNER_PRODUCT


def test_any_factory_string_of_faiss_is_taken(build, encoder, tmp_path):
    build(encoder, factory="SQfp16")
    assert type(faiss.read_index(str(tmp_path / "dense" / "index"))).__name__ == "IndexScalarQuantizer"


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("flatt", r"factory is 'flatt'\. Choose flat, hnsw, ivfpq or a factory string"),
        ("ivfpq", "'ivfpq' needs at least 256 passages, not 25"),
    ],
)
def test_a_wrong_factory_is_refused_before_encoding(build, encoder, factory, message):
    with pytest.raises(ValueError, match=message):
        build(encoder, factory=factory)
    assert encoder.encoded == ()


def test_an_index_is_replaced_only_when_asked(build, encoder, write_corpus, tmp_path):
    build(encoder)
    with pytest.raises(FileExistsError, match="exists already"):
        build(encoder)
    assert build(encoder, corpus=write_corpus(*DOCUMENTS[:3], name="small.jsonl"), overwrite=True) == 3
    assert (tmp_path / "dense" / "docid").read_text() == "p0\np1\np2\n"


def test_something_else_is_never_overwritten(build, encoder, tmp_path):
    build(encoder)
    (tmp_path / "dense" / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="is no dense index"):
        build(encoder, overwrite=True)


@pytest.mark.parametrize("id", ["a\nb", "a\u2028b", "a "])
def test_an_id_that_the_file_of_ids_cannot_hold_is_refused(build, encoder, write_corpus, id):
    with pytest.raises(ValueError, match="line break or ends in white space"):
        build(encoder, corpus=write_corpus({"id": id, "contents": "T\ntext"}))


def test_a_wrong_last_line_is_told_before_encoding(build, encoder, corpus):
    with open(corpus, "a") as file:
        file.write("not json\n")
    with pytest.raises(ValueError, match="line 26: not valid JSON"):
        build(encoder)
    assert encoder.encoded == ()


def test_an_empty_or_missing_corpus_is_refused(build, encoder, write_corpus, tmp_path):
    with pytest.raises(ValueError, match="is empty"):
        build(encoder, corpus=write_corpus(name="empty.jsonl"))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        build(encoder, corpus=tmp_path / "no.jsonl")


def test_the_progress_bar_starts_where_the_run_goes_on(interrupted, build, encoder, capsys):
    build(encoder, show_progress=True)
    errors = capsys.readouterr().err
    assert re.findall(r"\d+/25", errors)[0] == "10/25"
    assert re.findall(r"\d+/25", errors)[-1] == "25/25"


@pytest.mark.slow
def test_a_killed_run_goes_on(write_corpus, model, tmp_path):
    corpus = write_corpus(*({"id": n, "contents": f"T{n}\n" + "river " * 60} for n in range(8000)))
    command = [sys.executable, "-m", "tspo_trl.cli.main", "index", "--dense", "--encoder", model]
    command += ["--encoder-device", "cpu"]
    command += ["--corpus", str(corpus), "--output", str(tmp_path / "dense"), "--shard-size", "200"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 100
    while not any(tmp_path.glob("dense.shards/*.npy")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "dense").exists()
    done = len(list(tmp_path.glob("dense.shards/*.npy")))
    assert 0 < done < 40
    encoder = WatchedEncoder(model, device="cpu")
    assert build_dense_index(corpus, tmp_path / "dense", encoder, shard_size=200, show_progress=False) == 8000
    assert len(encoder.encoded) == 8000 - 200 * done
