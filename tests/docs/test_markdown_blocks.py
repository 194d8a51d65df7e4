"""Fenced blocks are found with their line and their reason not to run."""

from .markdown_blocks import Block, read_blocks, runnable


def test_block_has_language_code_and_the_line_where_its_code_begins():
    assert read_blocks("# Page\n\n```bash\nls\n\npwd\n```\ntext\n") == [Block("bash", "ls\n\npwd\n", 4)]


def test_block_in_a_list_is_found_without_its_indentation():
    text = '1. A list:\n\n   ```python title="a.py"\n   if x:\n       y\n   ```\n\n2. goes on\n'
    assert read_blocks(text) == [Block("python", "if x:\n    y\n", 4)]


def test_fence_of_another_length_is_code():
    assert read_blocks("````markdown\n```bash\nls\n```\n````\n") == [Block("markdown", "```bash\nls\n```\n", 2)]


def test_reason_stands_directly_above_the_fence():
    reason = "<!-- not run: needs a GPU -->"
    above, apart = f"{reason}\n```bash\nls\n```\n", f"{reason}\n\n```bash\nls\n```\n"
    assert [block.reason for block in read_blocks(above + apart)] == ["needs a GPU", None]


def test_only_commands_and_code_without_a_reason_are_run():
    text = "```bash\na\n```\n<!-- not run: needs a GPU -->\n```bash\nb\n```\n"
    text += "```python\nc\n```\n```json\nd\n```\n```\ne\n```\n"
    assert [block.code for block in runnable(read_blocks(text))] == ["a\n", "c\n"]
