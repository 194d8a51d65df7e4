"""The run and its checkpoints record the retriever's identity, and resuming compares it."""

import json
import logging
import shutil

import pytest

from tspo_trl.search import BM25Retriever, RetrieverIdentity
from tspo_trl.trainer.callbacks import warn_of_another_retriever


@pytest.fixture
def finished(make_trainer):
    """A run of one step with a checkpoint. Resumed runs only load it."""
    make_trainer(max_steps=1, save_strategy="steps", save_steps=1).train()


def read_identity(folder):
    return RetrieverIdentity.from_dict(json.loads((folder / "retriever.json").read_text(encoding="utf-8")))


def test_identity_is_in_the_output_folder_and_in_every_checkpoint(make_trainer, retriever, tmp_path):
    make_trainer(save_strategy="steps", save_steps=1).train()
    for folder in ("out", "out/checkpoint-1", "out/checkpoint-2"):
        assert read_identity(tmp_path / folder) == retriever.identity


def test_resuming_with_another_retriever_warns(finished, make_trainer, index_path, tmp_path, caplog):
    shutil.copytree(index_path, tmp_path / "copy")
    same = make_trainer(max_steps=1, trainer_kwargs={"retriever": BM25Retriever(tmp_path / "copy")})
    other = make_trainer(max_steps=1, trainer_kwargs={"retriever": BM25Retriever(index_path, k1=1.5)})
    for checkpoint in (True, str(tmp_path / "out" / "checkpoint-1")):
        same.train(resume_from_checkpoint=checkpoint)
        assert "RETRIEVER" not in caplog.text
        other.train(resume_from_checkpoint=checkpoint)
        assert "THE RETRIEVER HAS CHANGED" in caplog.text
        assert "parameters was {'k1': 0.9, 'b': 0.4} and is {'k1': 1.5, 'b': 0.4}" in caplog.text
        caplog.clear()


class Described:
    """A user's retriever with an identity."""

    def __init__(self, *identity):
        self.identity = RetrieverIdentity(*identity)


def warnings_on_resuming(folder, recorded, current, caplog):
    (folder / "retriever.json").write_text(json.dumps(recorded.identity.to_dict()), encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        warn_of_another_retriever(str(folder), current)
    return caplog.text


def test_an_index_is_the_same_one_at_hand_and_on_a_server(tmp_path, retriever, caplog):
    served = Described("RemoteRetriever", retriever.identity.fingerprint, {"served": retriever.identity.to_dict()})
    assert warnings_on_resuming(tmp_path, retriever, served, caplog) == ""
    assert warnings_on_resuming(tmp_path, served, retriever, caplog) == ""


def test_a_server_that_does_not_say_what_it_searches_is_no_change(tmp_path, retriever, caplog):
    text = warnings_on_resuming(tmp_path, retriever, Described("RemoteRetriever"), caplog)
    assert "Cannot tell whether" in text
    assert "HAS CHANGED" not in text


def test_parameters_that_json_writes_in_another_way_are_no_change(tmp_path, caplog):
    mine = Described("Mine", "ab12", {"fields": ("title", "text")})
    assert warnings_on_resuming(tmp_path, mine, mine, caplog) == ""


@pytest.mark.parametrize("content", [None, "not JSON", "[]", '{"name": 3}'])
def test_checkpoint_without_a_readable_record_is_said_to_be_so(tmp_path, retriever, caplog, content):
    if content is not None:
        (tmp_path / "retriever.json").write_text(content, encoding="utf-8")
    warn_of_another_retriever(str(tmp_path), retriever)
    assert "Cannot tell whether" in caplog.text
