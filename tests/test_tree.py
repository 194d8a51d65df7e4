"""The rooms of the package: which room may import which, and which may use private names of TRL and transformers."""

import ast
import re
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tspo_trl"
MODULES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
# The list in the design page, in its order: a room may import the rooms before it, never those after it.
DESIGN = (
    (PACKAGE.parent / "docs" / "design.md").read_text(encoding="utf-8").partition("## Rooms")[2].partition("##")[0]
)
BULLETS = [line.partition(":")[0] for line in DESIGN.splitlines() if line.startswith("- ")]
ROOMS = [name for bullet in BULLETS for name in re.findall(r"`(\w+)(?:\.py|/)`", bullet)]
# The only places that use private names of TRL and transformers.
KNOWS_PRIVATE_NAMES = ("trainer/", "rollout/generation.py", "rollout/vllm.py")
# Private names of our own classes and of other libraries.
OWN = ("self._", "cls._", "super()._", "os._exit")
# Modules below the top level that TRL and transformers document, or that have no other import path.
PUBLIC_MODULES = ("trl.chat_template_utils", "trl.import_utils", "transformers.integrations", "transformers.utils")


def tree_of(name):
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def imports_of(name):
    """Full names of everything that a file imports: modules, and names from modules."""
    package = ["tspo_trl", *Path(name).parent.parts]
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room_of(name):
    return name.partition("/")[0].removesuffix(".py")


def test_the_top_has_the_rooms_and_nothing_else():
    top = {path.name for path in PACKAGE.iterdir() if path.name not in ("__pycache__", "py.typed")}
    assert top == {"__init__.py"} | {name if (PACKAGE / name).is_dir() else f"{name}.py" for name in ROOMS}


def test_imports_go_up_the_list_of_rooms():
    wrong = [
        f"{name} imports {imported}"
        for name in MODULES
        if name != "__init__.py"
        for imported in imports_of(name)
        if imported.startswith("tspo_trl.") and imported != "tspo_trl.__version__"
        if imported.split(".")[1] not in ROOMS[: ROOMS.index(room_of(name)) + 1]
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("room", "libraries"), [("answers", set()), ("trajectory", set()), ("rewards", set()), ("credit", {"torch"})]
)
def test_the_pure_rooms_import_few_libraries(room, libraries):
    imported = {full.partition(".")[0] for name in MODULES if room_of(name) == room for full in imports_of(name)}
    assert imported - {*sys.stdlib_module_names, "tspo_trl"} == libraries


def test_submodules_of_trl_and_transformers_are_imported_in_few_places():
    wrong = [
        f"{name} imports {imported}"
        for name in MODULES
        if not name.startswith(KNOWS_PRIVATE_NAMES)
        for imported in imports_of(name)
        if imported.startswith(("trl.", "transformers.")) and imported.count(".") > 1
        if not imported.startswith(PUBLIC_MODULES)
    ]
    assert wrong == []


def test_private_attributes_of_other_objects_are_used_in_few_places():
    wrong = [
        f"{name}, line {node.lineno}: {ast.unparse(node)}"
        for name in MODULES
        if not name.startswith(KNOWS_PRIVATE_NAMES)
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if not ast.unparse(node).startswith(OWN)
    ]
    assert wrong == []


def test_no_file_is_long():
    folders = [PACKAGE, *(PACKAGE.parent / name for name in ("tests", "benchmarks", "examples", "docs_hooks"))]
    lengths = {path: len(path.read_text("utf-8").splitlines()) for folder in folders for path in folder.rglob("*.py")}
    assert [path for path, length in lengths.items() if length > 350] == []
