"""Retrieved passages, and their text as the model reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Passage:
    """
    One retrieved passage.

    Args:
        id (`str`):
            Identifier in the corpus.
        title (`str`):
            Title as written in the corpus. Search-R1's corpora put it in double quotes, which are kept.
        text (`str`):
            Body, without the title.
        score (`float`, *optional*):
            Score of the retriever, higher is better. `None` if the retriever gives none.
    """

    id: str
    title: str
    text: str
    score: float | None = None

    @classmethod
    def from_contents(cls, id: str, contents: str, score: float | None = None) -> Self:
        """
        Split Search-R1's `contents` (`"Title"\\ntext`) into title and text, as Search-R1 does.

        Args:
            id (`str`):
                Identifier in the corpus.
            contents (`str`):
                The first line is the title, with its quotes. The rest is the text, empty if there is no newline.
            score (`float`, *optional*):
                Score of the retriever.

        Returns:
            [`Passage`]
        """
        title, _, text = contents.partition("\n")
        return cls(id, title, text, score)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], score: float | None = None) -> Self:
        """
        Read a document of a corpus, an index or a retrieval server.

        Args:
            document (`Mapping[str, Any]`):
                `id` (string or integer) and `contents`, or `id`, `title` and `text`. If all are given, `contents`
                wins. A `title` without double quotes gets them, so that both forms read alike.
            score (`float`, *optional*):
                Score of the retriever.

        Returns:
            [`Passage`]

        Raises:
            `ValueError`: If a field is missing or has another type. The message names it.
        """
        id = _document_id(document)
        if "contents" in document:
            return cls.from_contents(id, _string_field(document, "contents"), score)
        if "title" not in document and "text" not in document:
            raise ValueError("has neither 'contents' nor 'title' and 'text'")
        return cls(id, _quoted(_string_field(document, "title")), _string_field(document, "text"), score)

    @property
    def contents(self) -> str:
        """Title and text in one string, the inverse of [`Passage.from_contents`]."""
        return f"{self.title}\n{self.text}" if self.text else self.title


def passages_text(passages: Sequence[Passage]) -> str:
    """
    Return passages as the model reads them, in Search-R1's form.

    Args:
        passages (sequence of [`Passage`]):
            Passages, best first. May be empty.

    Returns:
        `str`: one `Doc 1(Title: ...) ...` per passage, numbered from 1.
    """
    return "".join(f"Doc {i}(Title: {p.title}) {p.text}\n" for i, p in enumerate(passages, start=1)).strip()


def _document_id(document: Mapping[str, Any]) -> str:
    id = document.get("id")
    if isinstance(id, bool) or not isinstance(id, str | int) or id == "":
        raise ValueError(f"has no usable 'id': expected a non-empty string or an integer, got {id!r}")
    return str(id)


def _string_field(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        raise ValueError(f"has no usable '{name}': expected a string, got {value!r}")
    return value


def _quoted(title: str) -> str:
    return title if len(title) > 1 and title.startswith('"') and title.endswith('"') else f'"{title}"'
