"""Parameters, failures and interpreter of `notebooks/execute.py`."""

import json
import sys

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook


@pytest.fixture
def write_notebook(execute_script, tmp_path, monkeypatch):
    """Write the notebook `small` of a new repository, with a parameter cell `X = 1` before its cells."""
    folder = tmp_path / "repository" / "notebooks"
    (folder / "data").mkdir(parents=True)
    (folder.parent / "examples").mkdir()
    monkeypatch.setattr(execute_script, "NOTEBOOKS", folder)
    monkeypatch.setattr(execute_script, "NAMES", ("small",))

    def write(*sources):
        parameters = new_code_cell("X = 1", metadata={"tags": ["parameters"]})
        notebook = new_notebook(cells=[parameters, *map(new_code_cell, sources)])
        nbformat.write(notebook, folder / "small.ipynb")
        return folder / "small.ipynb"

    return write


def test_parameters_replace_those_of_the_notebook_and_are_not_stored(execute_script, write_notebook, tmp_path):
    write_notebook("print(X)")
    parameters, cell = execute_script.execute("small", tmp_path / "run", {"X": 2}).cells
    assert cell.outputs[0].text == "2\n"
    assert (parameters.source, cell.execution_count) == ("X = 1", 2)


def test_failing_cell_fails(execute_script, write_notebook, tmp_path):
    write_notebook("print(1 / 0)")
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute_script.execute("small", tmp_path / "run", {})


def test_cells_run_in_this_interpreter_whatever_jupyter_knows(execute_script, write_notebook, tmp_path, monkeypatch):
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    specification = {"argv": ["false"], "display_name": "of another interpreter", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(specification), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    write_notebook("import sys\nprint(sys.executable)")
    notebook = execute_script.execute("small", tmp_path / "run", {})
    assert notebook.cells[1].outputs[0].text.strip() == sys.executable


def test_commands_of_this_interpreter_are_found(execute_script, write_notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    write_notebook("%%bash\ntspo-trl --help")
    notebook = execute_script.execute("small", tmp_path / "run", {})
    assert "tspo-trl" in notebook.cells[1].outputs[0].text


def test_outputs_are_stored_with_in_place_only(execute_script, write_notebook, monkeypatch):
    path = write_notebook("print(X)")
    before = path.read_bytes()
    monkeypatch.setattr(sys, "argv", ["execute.py"])
    execute_script.main()
    assert path.read_bytes() == before
    monkeypatch.setattr(sys, "argv", ["execute.py", "--in-place"])
    execute_script.main()
    assert nbformat.read(path, as_version=4).cells[1].outputs[0].text == "1\n"
    assert [file.name for file in path.parent.glob("small*")] == ["small.ipynb"]


def test_unknown_notebook_is_named(execute_script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["execute.py", "nothing"])
    with pytest.raises(SystemExit):
        execute_script.main()
    assert "no notebook is called nothing" in capsys.readouterr().err
