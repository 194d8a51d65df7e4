"""Griffe extension that converts docstrings in Hugging Face's format to Markdown for mkdocstrings.

`Args:`, `Returns:` and `Raises:` with their indented items become definition lists and bullet points. Cross references
(a name in backticks and brackets) become links to the API pages, or code if the name belongs to another package.
"""

import re
from html import escape
from itertools import takewhile
from textwrap import dedent, indent
from typing import Any

import griffe

TITLES = {
    "Args": "Parameters",
    "Parameters": "Parameters",
    "Attributes": "Attributes",
    "Returns": "Returns",
    "Raises": "Raises",
    "Example": "Example",
}
_HEADING = re.compile(rf"({'|'.join(TITLES)}):$")
_ITEM = re.compile(r"(?P<name>\*{0,2}\w+(?:, \w+)*)(?: \((?P<type>.*)\))?:$")
_REFERENCE = re.compile(r"\[`(~?)([\w.]+)`\]")
_CALLOUT = re.compile(r"^> \[!(\w+)\]\n((?:>.*\n?)*)", re.MULTILINE)


class HuggingFaceDocstrings(griffe.Extension):
    """Rewrites every docstring of a loaded package."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        """Rewrite the docstrings of all modules, classes, functions and attributes."""
        self._rewrite(pkg, loader)

    def _rewrite(self, obj: griffe.Object, loader: griffe.GriffeLoader) -> None:
        if obj.docstring is not None:
            obj.docstring.value = _with_links(to_markdown(obj.docstring.value), obj, loader)
        for member in obj.members.values():
            if not member.is_alias:
                self._rewrite(member, loader)


def to_markdown(docstring: str) -> str:
    """
    Convert a docstring to Markdown. Cross references stay unchanged.

    Args:
        docstring (`str`):
            Docstring without the indentation of the surrounding code.

    Returns:
        `str`
    """
    parts, lines = [], docstring.splitlines()
    while lines:
        heading = _HEADING.fullmatch(lines[0])
        if heading is None:
            text = list(takewhile(lambda line: not _HEADING.fullmatch(line), lines))
            parts.append(_CALLOUT.sub(_admonition, "\n".join(text).strip("\n")))
        else:
            text = [lines[0], *takewhile(lambda line: not line or line.startswith(" "), lines[1:])]
            parts.append(_section(heading.group(1), dedent("\n".join(text[1:])).strip("\n")))
        lines = lines[len(text) :]
    return "\n\n".join(parts)


def _section(name: str, body: str) -> str:
    title = f"**{TITLES[name]}**"
    if name in ("Args", "Parameters", "Attributes"):
        return f"{title}\n\n{_definitions(body)}"
    items = "\n".join(f"- {_joined(item)}" for item in _items(body))
    return f"{title}\n\n{items if name in ('Returns', 'Raises') else body}".rstrip()


def _items(body: str) -> list[str]:
    """Split a section into its items, which begin without indentation."""
    items: list[str] = []
    for line in body.splitlines():
        if line.startswith((" ", "`, ")) or not line:
            items[-1] += f"\n{line}"
        else:
            items.append(line)
    return items


def _joined(item: str) -> str:
    """Join an item of `Returns` or `Raises` to one line."""
    return re.sub(r"\s+", " ", re.sub(r"^([A-Z]\w+(?:Error|Warning))(?=:)", r"`\1`", item))


def _definitions(body: str) -> str:
    """Convert items of arguments, with the headings between them, to a definition list."""
    definitions = []
    for item in _items(body):
        first, _, rest = item.partition("\n")
        match = _ITEM.fullmatch(first)
        if first.startswith(">"):
            definitions.append(f"*{first.lstrip('> ')}*")
        elif match is None:
            definitions.append(item)
        else:
            kind = f" ({match['type']})" if match["type"] else ""
            text = indent(dedent(rest).strip("\n"), "    ").lstrip()
            definitions.append(f"`{match['name']}`{kind}\n:   {text}")
    return "\n\n".join(definitions)


def _admonition(callout: re.Match) -> str:
    text = re.sub(r"^> ?", "", callout[2], flags=re.MULTILINE)
    return f"!!! {callout[1].lower()}\n\n{indent(text, '    ')}"


def _with_links(text: str, obj: griffe.Object, loader: griffe.GriffeLoader) -> str:
    def link(reference: re.Match) -> str:
        is_short, name = reference.groups()
        code = f"<code>{escape(name.rpartition('.')[2] if is_short else name)}</code>"
        path = _path(name, obj, loader)
        return f'<autoref optional identifier="{path}">{code}</autoref>' if path else code

    return _REFERENCE.sub(link, text)


def _path(name: str, obj: griffe.Object, loader: griffe.GriffeLoader) -> str | None:
    """Return where a name of this package is defined, or `None` for other names."""
    try:
        first, dot, rest = name.partition(".")
        path = name if first == obj.package.name else obj.resolve(first) + dot + rest
        return loader.modules_collection[path].canonical_path
    except (KeyError, griffe.NameResolutionError, griffe.AliasResolutionError):
        return None
