"""Every command and code block of the documentation runs, or gives a reason not to run."""

import itertools
import re
import shlex
import subprocess
import sys

import pytest

from .markdown_blocks import REASONS, ROOT, pages, read_blocks, runnable
from .workplace import Page, copy_without_what_is_made, prepare

PAGES = pages()
OTHER_NAMES = {"sh", "shell", "console", "zsh", "py", "pycon", "python3"}  # of bash and python

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def blocks_of(page):
    return read_blocks(page.read_text(encoding="utf-8"))


@every_page
def test_reasons_not_to_run_are_known_and_stand_above_a_block(page):
    reasons = [block.reason for block in blocks_of(page) if block.language in ("bash", "python") and block.reason]
    assert set(reasons) <= set(REASONS)
    assert len(reasons) == len(re.findall(r"^ *<!-- not run", page.read_text(encoding="utf-8"), re.M))


@every_page
def test_commands_and_code_are_called_bash_and_python(page):
    assert OTHER_NAMES.isdisjoint(block.language for block in blocks_of(page))


@every_page
def test_python_is_whole(page):
    for block in blocks_of(page):
        if block.language == "python" and not block.code.lstrip().startswith(">>>"):
            assert compile("\n" * (block.line - 1) + block.code, str(page), "exec")


@every_page
def test_make_targets_exist(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.M))
    for block in blocks_of(page):
        if block.language == "bash":
            assert set(re.findall(r"^(?:\w+=\S+ )*make ([\w-]+)", block.code, re.M)) <= targets


def commands_of(code):
    """Return the words of each command of a block."""
    lines = code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(block.reason == "takes long" for block in blocks_of(page))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_commands_that_take_long_exist_with_the_options_they_are_given(page):
    code = "".join(block.code for block in blocks_of(page) if block.reason == "takes long")
    for words in commands_of(code):
        program = list(itertools.takewhile(lambda word: word == "-m" or not word.startswith("-"), words))
        command = [sys.executable, *program[1:], "--help"]
        result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
        assert result.returncode == 0, result.stderr
        options = {word.partition("=")[0] for word in words[len(program) :] if word.startswith("--")}
        assert options <= set(re.findall(r"--[\w-]+", result.stdout)), program


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Folder that every page starts with."""
    folder = tmp_path_factory.mktemp("workplace")
    prepare(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if runnable(blocks_of(page))], ids=lambda path: str(path.relative_to(ROOT))
)
def test_page_runs(page, prepared, tmp_path):
    blocks = runnable(blocks_of(page))
    folder = tmp_path / "page"
    copy_without_what_is_made(prepared, folder, blocks)
    with Page(folder, str(page.relative_to(ROOT))) as workplace:
        for block in blocks:
            workplace.assert_runs(block)
