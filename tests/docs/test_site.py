"""The documentation site builds without warnings, needs no network, and documents every public name."""

import ast
import importlib
import os
import re
import subprocess
import sys
from dataclasses import fields
from html import unescape
from typing import Literal, get_origin

import griffe
import pytest

from tspo_trl import TSPOConfig
from tspo_trl.cli.main import COMMANDS
from tspo_trl.search.arguments import RetrieverArguments

from .markdown_blocks import ROOT, read_blocks

pytest.importorskip("mkdocstrings", reason="the site is built with `pip install -e .[docs]`")

PACKAGES = ["tspo_trl", *(f"tspo_trl.{name}" for name in ("credit", "search", "data", "analysis", "viewer"))]
DOCUMENTED = [
    (package, name)
    for package in PACKAGES
    for name in importlib.import_module(package).__all__
    if name != "__version__" and get_origin(getattr(importlib.import_module(package), name)) is not Literal
]
TROUBLESHOOTING = ROOT / "docs" / "guides" / "troubleshooting.md"
OF_OTHERS = "Your setup doesn't support bf16/gpu"  # a message of transformers
PLACEHOLDER = re.compile(r"\{[^{}]*\}|%\.?\d*[a-z]")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder of the site, built with warnings as errors."""
    folder = tmp_path_factory.mktemp("site")
    build = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr
    return folder


@pytest.fixture(scope="module")
def docstring_markdown():
    """The function that converts a docstring to Markdown."""
    spec = importlib.util.spec_from_file_location("docstrings", ROOT / "docs_hooks" / "docstrings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.to_markdown


def html(site, *parts):
    return site.joinpath(*parts).read_text(encoding="utf-8")


def test_site_has_a_page_for_every_file(site):
    pages = [path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if not (site / page).is_file()] == []


def test_every_page_is_in_the_navigation(site):
    linked = set(re.findall(r'<a href="([\w./-]+\.html)" class="md-nav__link', html(site, "index.html")))
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")} - {"404.html", "index.html"}
    assert pages - linked == set()


def test_pages_load_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|img|iframe)[^>]* src="([^"]+)"|<link[^>]* href="([^"]+)"', page.read_text("utf-8")
        )
        assert [url for urls in loaded for url in urls if url.startswith(("http", "//"))] == [], page


@pytest.mark.parametrize(("package", "name"), DOCUMENTED)
def test_public_name_is_in_the_reference(site, package, name):
    # `credit.first_occurrence` is documented under its module of the same name.
    anchor = re.compile(rf'id="{package}\.({name}\.)?{name}"')
    assert any(anchor.search(page.read_text("utf-8")) for page in (site / "reference").glob("*.html"))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__.rpartition(".")[2])
def test_command_line_page_has_every_option_of_a_command(site, command):
    name = command.__name__.rpartition(".")[2]
    text = unescape(re.sub(r"<[^>]+>", "", html(site, "reference", "command_line.html")))
    help_text = subprocess.run(
        [sys.executable, "-m", "tspo_trl.cli.main", name, "--help"],
        env={**os.environ, "COLUMNS": "100"}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert help_text.splitlines()[-1] in text
    assert set(re.findall(r"--[\w-]+", help_text)) <= set(re.findall(r"--[\w-]+", text))


def test_reference_of_an_options_dataclass_has_the_help_of_every_field(site):
    text = unescape(re.sub(r"<[^>]+>", "", html(site, "reference", "search.html")))
    assert all(field.metadata["help"] in text for field in fields(RetrieverArguments))


def test_docstrings_of_all_modules_are_read_to_their_end(docstring_markdown):
    """No section or item of an argument list is left unconverted in the Markdown."""
    left = []
    for function in functions(griffe.load("tspo_trl", search_paths=[str(ROOT)], allow_inspection=False)):
        markdown = docstring_markdown(function.docstring.value)
        left += [
            f"{function.path}: {line}" for line in markdown.splitlines() if re.match(r"(Args|Returns|Raises):$", line)
        ]
        left += [f"{function.path}: {line}" for line in re.findall(r"^\w+ \(.*\):$", markdown, re.MULTILINE)]
    assert left == []


def functions(module):
    """Yield all objects with a docstring in a package."""
    if module.docstring is not None:
        yield module
    for member in module.members.values():
        if not member.is_alias:
            yield from functions(member)


def test_docstring_in_hugging_faces_form_becomes_markdown(docstring_markdown):
    docstring = (
        "Search.\n\nArgs:\n    > What to search\n\n"
        "    queries (sequence of `str`):\n        Any text,\n        even none.\n"
        "    k (`int`, *optional*, defaults to `3`):\n        How many.\n\n"
        "Returns:\n    `list`: passages,\n    best first.\n\n"
        "Raises:\n    ValueError: `k` is 0.\n\nExample:\n\n```python\nsearch()\n```"
    )
    assert docstring_markdown(docstring) == (
        "Search.\n\n**Parameters**\n\n*What to search*\n\n"
        "`queries` (sequence of `str`)\n:   Any text,\n    even none.\n\n"
        "`k` (`int`, *optional*, defaults to `3`)\n:   How many.\n\n"
        "**Returns**\n\n- `list`: passages, best first.\n\n**Raises**\n\n- `ValueError`: `k` is 0.\n\n"
        "**Example**\n\n```python\nsearch()\n```"
    )


def test_tests_that_the_design_page_names_exist():
    named = set(re.findall(r"test_\w+(?:\.py)?", (ROOT / "docs" / "design.md").read_text(encoding="utf-8")))
    files = list((ROOT / "tests").rglob("test_*.py"))
    functions = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text(encoding="utf-8"))}
    assert named - functions - {file.name for file in files} == set()


def test_migration_page_names_every_field_of_the_configuration():
    named = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "migrating_from_grpo.md").read_text(encoding="utf-8")))
    assert set(TSPOConfig.__annotations__) - named == set()


def quoted_messages():
    blocks = read_blocks(TROUBLESHOOTING.read_text(encoding="utf-8"))
    lines = [line for block in blocks if block.language == "text" for line in block.code.splitlines()]
    return [line for line in lines if not line.startswith(OF_OTHERS)]


@pytest.fixture(scope="module")
def texts_of_the_code():
    """All strings of the package, with `{}` for formatted values."""
    texts = set()
    for path in (ROOT / "tspo_trl").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(PLACEHOLDER.sub("{}", node.value))
            elif isinstance(node, ast.JoinedStr):
                texts.add("".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values))
    return "\n".join(texts)


@pytest.mark.parametrize("message", quoted_messages())
def test_message_in_troubleshooting_is_one_of_the_code(texts_of_the_code, message):
    words = [piece.strip() for piece in re.split(r"\{[^{}]*\}|\.\.\.", message)]
    missing = [piece for piece in words if len(piece) > 3 and piece not in texts_of_the_code]
    assert missing == []
