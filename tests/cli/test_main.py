"""The console script: what it prints, and how it ends."""

import json

import pytest

from tspo_trl import __version__
from tspo_trl.cli import index
from tspo_trl.cli.main import main


def test_index_prints_one_line_about_what_it_built(index_path, tmp_path, capsys):
    corpus = index_path.parent / "corpus.jsonl"
    assert main(["index", "--corpus", str(corpus), "--output", str(tmp_path / "index"), "--threads", "1"]) == 0
    assert capsys.readouterr().out.startswith(f"Indexed 6 passages into {tmp_path / 'index'} in ")


def test_index_refuses_to_overwrite_unless_asked(index_path, tmp_path, capsys):
    command = ["index", "--corpus", str(index_path.parent / "corpus.jsonl"), "--output", str(tmp_path / "index")]
    assert [main(command), main(command), main([*command, "--overwrite"])] == [0, 2, 0]
    assert "exists already" in capsys.readouterr().err


def test_a_mistake_ends_in_one_line_and_status_2(tmp_path, capsys):
    assert main(["index", "--corpus", str(tmp_path / "no.jsonl"), "--output", str(tmp_path / "index")]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("error: corpus ")
    assert errors.count("\n") == 1


def test_a_mistake_in_the_corpus_is_told_with_its_line(tmp_path, capsys):
    (tmp_path / "corpus.jsonl").write_text('{"id": "1", "contents": "text"}\nnot json\n')
    assert main(["index", "--corpus", str(tmp_path / "corpus.jsonl"), "--output", str(tmp_path / "index")]) == 2
    assert "corpus.jsonl, line 2: not valid JSON" in capsys.readouterr().err


@pytest.fixture
def dense_command(index_path, tmp_path):
    """`index --dense` over the six passages, with a tiny new BERT."""
    from ..search.tiny_encoder import make_tiny_bert

    model = make_tiny_bert(tmp_path / "model")
    command = ["index", "--dense", "--corpus", str(index_path.parent / "corpus.jsonl"), "--encoder-device", "cpu"]
    return [*command, "--output", str(tmp_path / "dense"), "--encoder", model]


def test_index_dense_builds_what_pyserini_calls_a_dense_index(dense_command, tmp_path, capsys):
    options = [
        "--encoder-preset",
        "e5",
        "--factory",
        "hnsw",
        "--encoder-dtype",
        "bfloat16",
        "--batch-size",
        "2",
        "--shard-size",
        "4",
    ]
    assert main([*dense_command, *options]) == 0
    assert capsys.readouterr().out.startswith(f"Indexed 6 passages into {tmp_path / 'dense'} in ")
    assert (tmp_path / "dense" / "docid").read_text() == "0\n1\n2\n3\n4\n5\n"
    settings = json.loads((tmp_path / "dense" / "encoder.json").read_text())
    assert (settings["preset"], settings["dtype"], settings["model"]) == ("e5", "bfloat16", "model")


def test_index_dense_shows_its_progress(dense_command, capsys):
    assert main([*dense_command, "--encoder-preset", "e5"]) == 0
    assert "6/6" in capsys.readouterr().err


def test_index_dense_tells_a_model_whose_pooling_is_unknown(dense_command, capsys):
    assert main(dense_command) == 2
    assert "no modules.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--corpus", "no.jsonl", "corpus no.jsonl does not exist"), ("--shard-size", "0", "shard_size is 0")],
)
def test_index_dense_tells_other_mistakes_before_it_loads_the_model(dense_command, capsys, option, value, message):
    assert main([*dense_command, option, value]) == 2  # the model would be refused, too
    assert f"error: {message}" in capsys.readouterr().err


def test_index_dense_does_not_load_the_model_to_find_the_output_taken(dense_command, tmp_path, capsys):
    (tmp_path / "dense").mkdir()
    (tmp_path / "dense" / "thesis.txt").write_text("precious")
    assert main(dense_command) == 2
    assert "exists already" in capsys.readouterr().err


def test_index_dense_needs_an_encoder(dense_command, capsys):
    assert main(dense_command[:-2]) == 2
    assert "error: --dense needs --encoder" in capsys.readouterr().err


def test_index_dense_has_no_indexing_threads(dense_command, capsys):
    assert main([*dense_command, "--threads", "2"]) == 2
    assert "error: --threads is an option of Lucene indexes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", ["encoder", "encoder-preset", "factory", "encoder-device", "encoder-dtype", "batch-size", "shard-size"]
)
def test_a_dense_option_without_dense_is_a_mistake(tmp_path, capsys, option):
    assert main(["index", "--corpus", "c", "--output", str(tmp_path / "index"), f"--{option}", "1"]) == 2
    assert f"error: --{option} is an option of dense indexes: add --dense." in capsys.readouterr().err


def test_an_unexpected_error_is_not_hidden(monkeypatch, tmp_path):
    def fail(args):
        raise AttributeError("a defect")

    monkeypatch.setattr(index, "run", fail)
    with pytest.raises(AttributeError, match="a defect"):
        main(["index", "--corpus", "c", "--output", "o"])


def test_ctrl_c_ends_in_status_130(monkeypatch, capsys):
    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(index, "run", interrupt)
    assert main(["index", "--corpus", "c", "--output", "o"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"tspo-trl {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["index"], ["unknown"]])
def test_wrong_usage_ends_in_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: tspo-trl" in capsys.readouterr().err
