"""Encoder: vectors of texts, with every setting known."""

import pickle
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tspo_trl.search.identity import fingerprint_of
from tspo_trl.search.indexing.encoder import Encoder
from tspo_trl.search.indexing.pretrained import model_fingerprint

from ..tiny_encoder import make_tiny_bert, make_tiny_encoder

TEXTS = ["what is the capital of france", "rome", "the seine is a river, and the tiber is a river in italy"]
INSTRUCTION = "Represent this sentence for searching relevant passages: "


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("encoders")


@pytest.fixture(scope="module")
def bare_bert(folder):
    return make_tiny_bert(folder / "bare")


@pytest.fixture(scope="module")
def mean_model(folder):
    return make_tiny_encoder(folder / "mean")


@pytest.fixture(scope="module")
def encoder(mean_model):
    return Encoder(mean_model, device="cpu")


def pooled(model, text, pooling):
    """Compute the vector with transformers alone, from one text without padding."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(model)(text, return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(model)(**tokens).last_hidden_state[0].numpy()
    vector = states.mean(axis=0) if pooling == "mean" else states[0]
    return vector / np.linalg.norm(vector)


def test_vectors_are_float32_one_row_a_text(encoder):
    vectors = encoder.encode_queries(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((3, 32), np.float32)
    assert encoder.dimension == 32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_e5_puts_its_prefixes_and_takes_the_mean(bare_bert):
    encoder = Encoder(bare_bert, preset="e5", device="cpu")
    expected = [pooled(bare_bert, f"query: {text}", "mean") for text in TEXTS]
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), expected, atol=1e-5)
    expected = [pooled(bare_bert, f"passage: {text}", "mean") for text in TEXTS]
    np.testing.assert_allclose(encoder.encode_passages(TEXTS), expected, atol=1e-5)


def test_bge_instructs_queries_only_and_takes_the_first_token(bare_bert):
    encoder = Encoder(bare_bert, preset="bge", device="cpu")
    expected = [pooled(bare_bert, INSTRUCTION + text, "cls") for text in TEXTS]
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), expected, atol=1e-5)
    expected = [pooled(bare_bert, text, "cls") for text in TEXTS]
    np.testing.assert_allclose(encoder.encode_passages(TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_folder_that_says_how_it_pools_is_believed(tmp_path, pooling):
    model = make_tiny_encoder(tmp_path / "model", pooling)
    encoder = Encoder(model, device="cpu")
    assert encoder.settings["pooling"] == pooling
    np.testing.assert_allclose(encoder.encode_passages(TEXTS), [pooled(model, t, pooling) for t in TEXTS], atol=1e-5)


def test_prompts_of_the_folder_are_used(tmp_path):
    model = make_tiny_encoder(tmp_path / "model", prompts={"query": "what is ", "document": "the film "})
    encoder = Encoder(model, device="cpu")
    np.testing.assert_allclose(encoder.encode_queries(["rome"])[0], pooled(model, "what is rome", "mean"), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_passages(["rome"])[0], pooled(model, "the film rome", "mean"), atol=1e-5)


def test_a_model_that_does_not_say_how_it_pools_is_refused(bare_bert):
    with pytest.raises(ValueError, match=r"no modules\.json.*Pass its preset"):
        Encoder(bare_bert, device="cpu")


@pytest.mark.parametrize(("preset", "pooling", "own"), [("bge", "cls", "mean"), ("e5", "mean", "cls")])
def test_a_preset_that_pools_otherwise_than_the_folder_is_refused(tmp_path, preset, pooling, own):
    model = make_tiny_encoder(tmp_path / "model", own)
    with pytest.raises(ValueError, match=f"preset '{preset}' pools by '{pooling}'.*pools by '{own}'"):
        Encoder(model, preset=preset, device="cpu")


def test_settings_name_everything_that_changes_a_vector_and_no_path(bare_bert):
    files = sorted(Path(bare_bert).iterdir())
    assert Encoder(bare_bert, preset="e5", device="cpu", max_length=16).settings == {
        "model": "bare",
        "model_fingerprint": fingerprint_of(files),
        "preset": "e5",
        "query_prefix": "query: ",
        "passage_prefix": "passage: ",
        "pooling": "mean",
        "normalize": True,
        "dtype": "float32",
        "max_length": 16,
    }


def test_models_in_folders_of_one_name_have_different_settings(tmp_path, mean_model):
    shutil.copytree(mean_model, tmp_path / "copy" / "mean")
    make_tiny_encoder(tmp_path / "other" / "mean", seed=1)
    first, copy, other = (
        Encoder(folder, device="cpu").settings
        for folder in (mean_model, tmp_path / "copy/mean", tmp_path / "other/mean")
    )
    assert first["model"] == other["model"] == "mean"
    assert first == copy
    assert first != other


def test_the_fingerprint_sees_folders_below_and_passes_over_hidden_ones(tmp_path, mean_model):
    shutil.copytree(mean_model, tmp_path / "mean")
    before = model_fingerprint(str(tmp_path / "mean"))
    (tmp_path / "mean" / ".cache").mkdir()
    (tmp_path / "mean" / ".cache" / "download.metadata").write_text("yesterday")
    assert model_fingerprint(str(tmp_path / "mean")) == before
    (tmp_path / "mean" / "1_Pooling" / "config.json").write_text("{}")
    assert model_fingerprint(str(tmp_path / "mean")) != before


def test_a_model_of_the_hub_is_known_by_its_whole_name(mean_model):
    encoder = Encoder(mean_model, device="cpu")
    encoder.model = "intfloat/e5-base-v2"  # as after a download
    settings = encoder._read_settings(None)
    assert (settings["model"], settings["model_fingerprint"]) == ("intfloat/e5-base-v2", None)


@pytest.mark.parametrize("options", [{}, {"preset": "e5"}])
def test_a_text_is_cut_at_max_length(mean_model, options):
    encoder = Encoder(mean_model, device="cpu", max_length=8, **options)
    vectors = encoder.encode_passages(["rome " * 6 + "paris", "rome " * 6 + "film"])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


@pytest.mark.parametrize("query", ["", " \n", "\ud800", "seine \udfff\0", "rome " * 5000, "東京 😀"])
def test_any_text_is_encoded(encoder, query):
    assert np.isfinite(encoder.encode_queries([query])).all()


def test_no_texts_give_no_rows(encoder):
    assert encoder.encode_queries([]).shape == (0, 32)


def test_batches_do_not_change_the_vectors(mean_model, encoder):
    one_by_one = Encoder(mean_model, device="cpu", batch_size=1)
    np.testing.assert_allclose(one_by_one.encode_passages(TEXTS), encoder.encode_passages(TEXTS), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_close_to_full(mean_model, encoder, dtype):
    vectors = Encoder(mean_model, device="cpu", dtype=dtype).encode_passages(TEXTS)
    assert vectors.dtype == np.float32
    difference = np.abs(vectors - encoder.encode_passages(TEXTS)).max()
    assert 0 < difference < 0.05


@pytest.fixture
def overflowing(mean_model):
    """An encoder that returns no finite vector for texts with the word Seine."""
    encoder = Encoder(mean_model, device="cpu")
    [token] = encoder._network.tokenizer.convert_tokens_to_ids(["seine"])
    encoder._network[0].model.embeddings.word_embeddings.weight.data[token] = float("nan")
    return encoder


def test_a_passage_whose_vector_is_not_finite_is_an_error(overflowing):
    with pytest.raises(FloatingPointError, match=r"not finite.*bfloat16"):
        overflowing.encode_passages(["rome", "seine"])


def test_a_query_whose_vector_is_not_finite_leaves_the_others_right(overflowing, encoder):
    vectors = overflowing.encode_queries(["rome", "seine", "tiber"])
    assert np.isfinite(vectors).all(axis=1).tolist() == [True, False, True]
    expected = encoder.encode_queries(["rome", "tiber"])
    np.testing.assert_allclose(vectors[[0, 2]], expected, atol=1e-5)


def test_copies_encode_alike(bare_bert):
    encoder = Encoder(bare_bert, preset="e5", device="cpu", max_length=20, batch_size=2)
    duplicate = pickle.loads(pickle.dumps(encoder))
    assert (duplicate.settings, duplicate.batch_size) == (encoder.settings, 2)
    np.testing.assert_array_equal(duplicate.encode_queries(TEXTS), encoder.encode_queries(TEXTS))


def test_threads_can_share_an_encoder(encoder):
    expected = encoder.encode_queries(TEXTS)
    with ThreadPoolExecutor(4) as threads:
        for vectors in threads.map(lambda _: encoder.encode_queries(TEXTS), range(40)):
            np.testing.assert_array_equal(vectors, expected)


def test_threads_take_turns_with_the_model(mean_model, monkeypatch):
    encoder = Encoder(mean_model, device="cpu")
    usual, inside, most_inside = encoder._network.encode, [], []

    def watched(*args, **kwargs):
        inside.append(1)
        most_inside.append(len(inside))
        time.sleep(0.005)
        inside.pop()
        return usual(*args, **kwargs)

    monkeypatch.setattr(encoder._network, "encode", watched)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(encoder.encode_queries, [TEXTS] * 12))
    assert (len(most_inside), max(most_inside)) == (12, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "E5"}, "preset is 'E5'"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"max_length": 0}, "max_length is 0"),
    ],
)
def test_wrong_arguments_are_refused_by_name(mean_model, options, message):
    with pytest.raises(ValueError, match=message):
        Encoder(mean_model, **options)


def test_the_missing_library_is_named(mean_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ImportError, match=r"pip install tspo-trl\[dense\]"):
        Encoder(mean_model)
