"""A [`Passage`] is what a search returns, and `passages_text` is how the model reads it."""

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
            Title as it stands in the corpus: Search-R1's corpora write it in double quotes, and those are kept.
        text (`str`):
            Body, without the title.
        score (`float`, *optional*):
            The retriever's score, higher is better. `None` where the retriever gives none.
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
                The first line is the title, quotes included; the rest is the text (empty where there is no newline).
            score (`float`, *optional*):
                The retriever's score.

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
                `id` (string or integer) and `contents`, or `id`, `title` and `text`. `contents` wins where all are
                given. A `title` that has no quotes of its own is put in quotes, so that both forms read alike.
            score (`float`, *optional*):
                The retriever's score.

        Returns:
            [`Passage`]

        Raises:
            `ValueError`: if a field is missing or of another type; the message names it.
        """
        id = _document_id(document)
        if "contents" in document:
            return cls.from_contents(id, _string_field(document, "contents"), score)
        if "title" not in document and "text" not in document:
            raise ValueError("has neither 'contents' nor 'title' and 'text'")
        return cls(id, _quoted(_string_field(document, "title")), _string_field(document, "text"), score)

    @property
    def contents(self) -> str:
        """Title and text in one string: [`Passage.from_contents`] takes it apart again."""
        return f"{self.title}\n{self.text}" if self.text else self.title


def passages_text(passages: Sequence[Passage]) -> str:
    """
    Passages as the model reads them, in Search-R1's form.

    Args:
        passages (sequence of [`~tspo_trl.search.Passage`]):
            Best first; may be empty.

    Returns:
        `str`: one `Doc 1(Title: ...) ...` a passage, counted from 1.
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
