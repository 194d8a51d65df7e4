"""The notebooks run from top to bottom, and their stored outputs are clean."""

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
NAMES = ("quickstart", "your_own_corpus", "understanding_tspo")

ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|work|Users|mnt|opt|usr|var|private|content)/")
PROGRESS_OR_WARNING = re.compile(r"\d+%\||Warning:|it/s\]")
OF_THE_REPOSITORY = re.compile(r"tspo-trl/tspo-trl/(?:blob/)?main/([\w./-]*\w)")

every_notebook = pytest.mark.parametrize("name", NAMES)


def read(name):
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code_cells(name):
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def stored_texts(name):
    """Return all texts of the stored outputs."""
    outputs = [output for cell in code_cells(name) for output in cell.outputs]
    streams = [output.text for output in outputs if output.output_type == "stream"]
    others = [output.data for output in outputs if output.output_type != "stream"]
    return streams + [text for data in others for kind, text in data.items() if kind.startswith("text/")]


def test_every_notebook_is_executed_and_tested(execute_script):
    assert set(execute_script.NAMES) == set(NAMES) == {path.stem for path in NOTEBOOKS.glob("*.ipynb")}


@every_notebook
def test_notebook_runs_from_top_to_bottom(execute_script, tmp_path, name):
    notebook = execute_script.execute(name, tmp_path, execute_script.TEST_PARAMETERS.get(name, {}))
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


@every_notebook
def test_parameters_of_the_test_are_parameters_of_the_notebook(execute_script, name):
    [cell] = [cell for cell in code_cells(name) if "parameters" in cell.metadata.get("tags", ())]
    parameters = {}
    exec(cell.source, parameters)
    assert execute_script.TEST_PARAMETERS.get(name, {}).keys() <= parameters.keys()


@every_notebook
def test_stored_outputs_are_those_of_one_run_from_top_to_bottom(name):
    cells = code_cells(name)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


@every_notebook
def test_stored_outputs_hold_no_error(name):
    assert stored_texts(name)
    assert not [output for cell in code_cells(name) for output in cell.outputs if output.output_type == "error"]


@every_notebook
def test_stored_outputs_hold_no_path_of_a_machine(name):
    assert not [text for text in stored_texts(name) if ABSOLUTE_PATH.search(text)]


@every_notebook
def test_stored_outputs_hold_neither_progress_bars_nor_warnings(name):
    assert not [text for text in stored_texts(name) if PROGRESS_OR_WARNING.search(text)]


@every_notebook
def test_first_cell_opens_the_notebook_in_colab(name):
    address = f"https://colab.research.google.com/github/tspo-trl/tspo-trl/blob/main/notebooks/{name}.ipynb"
    assert f"(https://colab.research.google.com/assets/colab-badge.svg)]({address})" in read(name).cells[0].source


@every_notebook
def test_links_into_the_repository_lead_somewhere(name):
    files = {file for cell in read(name).cells for file in OF_THE_REPOSITORY.findall(cell.source)}
    assert files
    assert not [file for file in files if not (NOTEBOOKS.parent / file).exists()]


@every_notebook
def test_file_is_small_enough_to_be_shown(name):
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size < 1_000_000
