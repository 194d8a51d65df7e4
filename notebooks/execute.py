"""Execute the notebooks, offline and without a GPU.

    python notebooks/execute.py             # with the sizes of the tests, in a temporary folder
    python notebooks/execute.py --in-place  # with the sizes of the notebooks. Stores the outputs in them.

The parameters of a notebook are the variables of its cell tagged `parameters`, as for papermill.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets import default

NOTEBOOKS = Path(__file__).resolve().parent
NAMES = ("quickstart", "your_own_corpus", "understanding_tspo")

# Sizes of the tests.
TEST_PARAMETERS: dict[str, dict[str, Any]] = {
    "quickstart": {
        "NUM_PEOPLE": 60,
        "NUM_PLACES": 20,
        "NUM_WORKS": 20,
        "NUM_TRAIN_QUESTIONS": 60,
        "NUM_TEST_QUESTIONS": 8,
        "WARM_START_STEPS": 20,
        "STEPS": 2,
        "QUESTIONS_PER_STEP": 2,
        "NUM_GENERATIONS": 4,
    },
    "your_own_corpus": {"STEPS": 2, "TINY_MODEL_STEPS": 40},
}


class ThisInterpreter(AsyncKernelManager):
    """Starts kernels in this interpreter, even if Jupyter knows another kernel named `python3`."""

    @default("kernel_spec_manager")
    def _kernel_spec_manager_default(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


def execute(name: str, folder: Path, parameters: Mapping[str, Any]) -> NotebookNode:
    """
    Execute a notebook.

    Args:
        name (`str`):
            One of `NAMES`.
        folder (`Path`):
            Folder to run in. The files that notebooks use are copied to it.
        parameters (mapping):
            Values that replace those in the cell tagged `parameters`.

    Returns:
        `NotebookNode`: the notebook with its outputs and its original parameters.

    Raises:
        `nbclient.exceptions.CellExecutionError`: If a cell fails.
    """
    shutil.copytree(NOTEBOOKS / "data", folder / "data")
    shutil.copytree(NOTEBOOKS.parent / "examples", folder / "examples")
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    source = cell.source
    cell.source = "\n".join([source, *(f"{key} = {value!r}" for key, value in parameters.items())])
    client = NotebookClient(
        notebook,
        kernel_manager_class=ThisInterpreter,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        timeout=None,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
        record_timing=False,  # timing would change the file at every execution
    )
    client.execute(env=kernel_environment())
    cell.source = source
    return notebook


def kernel_environment() -> dict[str, str]:
    """Return the environment, with the commands of this interpreter first, no model hub and no GPU."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    settings = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, "PATH": path, **settings}


def main() -> None:
    """Execute the notebooks named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)} (default: all)")
    parser.add_argument("--in-place", action="store_true", help="use the full sizes and store the outputs")
    args = parser.parse_args()
    if unknown := set(args.names) - set(NAMES):
        parser.error(f"no notebook is called {', '.join(sorted(unknown))}; choose among {', '.join(NAMES)}")
    for name in args.names or NAMES:
        print(f"{name} ...", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(name, Path(folder), {} if args.in_place else TEST_PARAMETERS.get(name, {}))
        if args.in_place:
            path = NOTEBOOKS / f"{name}.ipynb"
            nbformat.write(notebook, path.with_name(path.name + ".part"))
            path.with_name(path.name + ".part").replace(path)


if __name__ == "__main__":
    main()
