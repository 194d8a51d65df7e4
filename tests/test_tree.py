"""Imports between the rooms of the package, and uses of private names of TRL and transformers."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tspo_trl"
MODULES = sorted(PACKAGE.rglob("*.py"))
# A room may import the rooms above it, never those below.
ROOMS = ["answers", "trajectory", "credit", "rewards", "protocols", "search", "rollout", "trainer"]
ROOMS += ["data", "evaluation", "analysis", "dry_run", "viewer", "quickstart", "cli"]
STANDARD_LIBRARY_ONLY = ["answers", "trajectory"]
# Only these use private names of TRL and transformers, so that a new release can break nothing else.
KNOWS_PRIVATE_NAMES = ["trainer/", "rollout/generation.py", "rollout/vllm.py"]
# Private names of our own classes, and of other libraries.
OWN = ("self._", "cls._", "super()._", "os._exit")
# Modules below the top level that TRL and transformers document, or that have no other import path.
PUBLIC_MODULES = ["trl.chat_template_utils", "trl.import_utils", "transformers.integrations", "transformers.utils"]


def name_of(path):
    return path.relative_to(PACKAGE).as_posix()


def imports_of(path):
    """Full names of the modules that a file imports, and of the names that it imports from them."""
    package = ["tspo_trl", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_only_the_rooms_and_four_files_lie_at_the_top():
    top = {path.name for path in PACKAGE.iterdir() if path.name not in ("__pycache__", "py.typed")}
    assert top == {"__init__.py"} | {name if (PACKAGE / name).is_dir() else f"{name}.py" for name in ROOMS}


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.parent != PACKAGE or path.name != "__init__.py"], ids=name_of
)
def test_imports_go_up_the_list_of_rooms(path):
    allowed = ROOMS[: ROOMS.index(room_of(path)) + 1]
    imported = [name.split(".")[1] for name in imports_of(path) if name.startswith("tspo_trl.")]
    assert [room for room in imported if room not in [*allowed, "__version__"]] == []


@pytest.mark.parametrize("name", STANDARD_LIBRARY_ONLY)
def test_answers_and_trajectories_need_the_standard_library_only(name):
    imported = {name.partition(".")[0] for name in imports_of(PACKAGE / f"{name}.py")}
    assert imported <= {*sys.stdlib_module_names, "tspo_trl"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "credit").glob("*.py")), ids=name_of)
def test_credit_knows_torch_and_nothing_else(path):
    imported = {name.partition(".")[0] for name in imports_of(path)}
    assert imported <= {*sys.stdlib_module_names, "torch", "tspo_trl"}


@pytest.mark.parametrize(
    "path", [path for path in MODULES if not name_of(path).startswith(tuple(KNOWS_PRIVATE_NAMES))], ids=name_of
)
def test_private_names_of_trl_and_transformers_are_used_in_one_place(path):
    modules = [name.rpartition(".")[0] for name in imports_of(path) if name.startswith(("trl.", "transformers."))]
    assert [module for module in modules if "." in module and not module.startswith(tuple(PUBLIC_MODULES))] == []
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    private = [
        ast.unparse(node) for node in attributes if node.attr.startswith("_") and not node.attr.startswith("__")
    ]
    assert [name for name in private if not name.startswith(OWN)] == []
