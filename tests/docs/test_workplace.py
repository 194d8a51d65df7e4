"""The blocks of a page run in order, in one folder, up to the first that fails."""

import psutil
import pytest

from .markdown_blocks import Block
from .workplace import BlockError, Page, copy_without_what_is_made


@pytest.fixture
def page(tmp_path):
    with Page(tmp_path, "docs/page.md") as page:
        yield page


def test_failure_tells_page_line_command_and_output(page):
    with pytest.raises(BlockError) as failure:
        page.assert_runs(Block("bash", "echo before\nls nowhere | cat\necho behind\n", 7))
    message = str(failure.value)
    assert message.startswith("docs/page.md, line 7:\n\necho before\nls nowhere | cat\n")
    assert "exit status 2\nbefore\nls: cannot access 'nowhere'" in message
    assert not message.endswith("behind\n")


def test_blocks_find_what_the_blocks_before_have_made(page):
    page.assert_runs(Block("bash", "mkdir made", 1))
    page.assert_runs(Block("python", "from pathlib import Path\npath = Path('made/file')\n", 3))
    page.assert_runs(Block("python", "path.write_text('x')\n", 6))
    page.assert_runs(Block("bash", "test -f made/file", 9))


def test_failure_in_python_tells_the_line_of_the_block(page):
    with pytest.raises(BlockError, match=r"(?s)^docs/page\.md, line 5:\n\na = 1\n.*in <module>\n    a / 0\n.*Zero"):
        page.assert_runs(Block("python", "a = 1\na / 0\n", 5))


def test_interpreter_that_ends_is_a_failure(page):
    with pytest.raises(BlockError, match="The interpreter ended"):
        page.assert_runs(Block("python", "import os; os._exit(0)\n", 5))


def test_lines_with_prompts_are_compared_with_what_they_print(page):
    page.assert_runs(Block("python", ">>> a = 1\n>>> a + 1\n2\n", 1))
    page.assert_runs(Block("python", "assert a == 1\n", 1))
    with pytest.raises(BlockError, match=r"Expected:\n    3\nGot:\n    2\n"):
        page.assert_runs(Block("python", ">>> a + 1\n3\n", 1))


def test_what_runs_in_the_background_ends_with_the_page(tmp_path):
    with Page(tmp_path, "docs/page.md") as page:
        page.assert_runs(Block("bash", "sleep 600 &\necho $! > pid\n", 1))
        process = psutil.Process(int((tmp_path / "pid").read_text()))
        assert process.is_running()
    assert not process.is_running()


def test_server_runs_beside_the_next_blocks(page, index_path):
    page.assert_runs(Block("bash", f"tspo-trl serve --index {index_path} --port 0 | tee address\ncat address\n", 1))
    code = "import urllib.request\nurl = open('address').read().split()[-1]\n"
    page.assert_runs(Block("python", f"{code}assert urllib.request.urlopen(url + '/healthz').status == 200\n", 4))


def test_server_that_does_not_start_is_a_failure(page):
    with pytest.raises(BlockError, match=r"error: `index` nowhere does not exist"):
        page.assert_runs(Block("bash", "tspo-trl serve --index nowhere --port 0\n", 1))


@pytest.mark.parametrize(("options", "cheaper"), [("", True), ("--dry_run", False)])
def test_training_is_made_short(page, options, cheaper):
    (page.folder / "examples").mkdir()
    (page.folder / "examples" / "train.py").write_text("import sys; print(*sys.argv[1:])\n", encoding="utf-8")
    page.assert_runs(Block("bash", f"python examples/train.py \\\n    --max_steps 500 {options} > arguments", 1))
    arguments = (page.folder / "arguments").read_text(encoding="utf-8")
    assert arguments.startswith("--max_steps 500")
    assert ("--max_steps 2 " in arguments) is cheaper


def test_page_starts_without_what_it_makes(tmp_path):
    for name in ("indexes/mine", "indexes/other", "runs/mine"):
        (tmp_path / "prepared" / name).mkdir(parents=True)
    blocks = [Block("bash", "a --output indexes/mine\n", 1), Block("bash", "b --output_dir runs/mine/ --x 1\n", 1)]
    copy_without_what_is_made(tmp_path / "prepared", tmp_path / "page", blocks)
    made = {str(path.relative_to(tmp_path / "page")) for path in (tmp_path / "page").rglob("*")}
    assert made == {"indexes", "indexes/other", "runs"}
