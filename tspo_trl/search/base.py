"""What a search engine is to this package.

A [`Retriever`] takes a batch of queries and gives one ranked list of [`Passage`]s per query. A search that failed is
never an empty result: its entry is `None`, and when nothing could be searched at all, [`SearchError`] is raised.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self


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


class Retriever(Protocol):
    """
    Anything that searches: a BM25 index, a dense one, a remote server.

    Only `search` is needed. A retriever may also have a property `identity` ([`~tspo_trl.search.RetrieverIdentity`]),
    which is logged and kept in checkpoints, and a method `counters()`, see [`counters_of`].
    """

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage] | None]:
        """
        Search a batch of queries.

        Args:
            queries (sequence of `str`):
                Any text: empty, long or malformed queries must not raise.
            k (`int`):
                How many passages to return at most for each query.

        Returns:
            `list[list[Passage] | None]`: one entry per query, in the order of the queries; each a list of at most `k`
            passages, best first (empty where nothing was found), or `None` where that search failed after retries.

        Raises:
            [`SearchError`]: if every search failed.
        """
        ...


class SearchError(RuntimeError):
    """The search backend failed: not one query of the batch could be searched."""


def counters_of(retriever: Any) -> dict[str, int]:
    """
    What a retriever counts, such as requests or cache hits.

    Args:
        retriever ([`Retriever`]):
            One with a method `counters()`, or any other.

    Returns:
        `dict[str, int]`: totals since the retriever was made, by name; empty where it counts nothing.
    """
    counters = getattr(retriever, "counters", None)
    return dict(counters()) if callable(counters) else {}


def check_search(queries: Sequence[str], k: int) -> None:
    """
    Check the arguments of a search.

    Args:
        queries (sequence of `str`):
            The queries.
        k (`int`):
            Passages to return for each.

    Raises:
        `TypeError`: if `queries` is a single string or holds something else than strings.
        `ValueError`: if `k` is less than 1.
    """
    if isinstance(queries, str):
        raise TypeError(f"queries is the single string {queries[:80]!r}: pass a list of strings.")
    for position, query in enumerate(queries):
        if not isinstance(query, str):
            raise TypeError(f"queries[{position}] is {query!r}: every query has to be a string.")
    if k < 1:
        raise ValueError(f"k is {k}: at least one passage has to be asked for.")


def well_formed(text: str) -> str:
    """
    Text that UTF-8, Java and every tokenizer can carry. A model may write what they cannot.

    Args:
        text (`str`):
            Any text.

    Returns:
        `str`: the text with every lone surrogate replaced.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


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
