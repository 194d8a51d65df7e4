"""The console script: what it prints, and how it ends."""

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
