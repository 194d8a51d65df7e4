"""The script that executes the notebooks, as a module."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "notebooks" / "execute.py"


@pytest.fixture(scope="session")
def execute_script():
    """`notebooks/execute.py`."""
    spec = importlib.util.spec_from_file_location("execute_notebooks", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
