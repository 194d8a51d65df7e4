"""What a retriever is, as data: to log with a run, to keep in checkpoints, to key a cache with.

A retriever that has a property `identity` describes itself; [`identity_of`] takes the name of its class for any other.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

_WHOLE = 64 * 2**20  # a larger file is read in samples
_SAMPLE = 2**20
_SAMPLES = 32


@dataclass(frozen=True)
class RetrieverIdentity:
    """
    Name, index and parameters of a retriever. Two retrievers of equal identity give equal results.

    Args:
        name (`str`):
            Its class, such as `"BM25Retriever"`.
        fingerprint (`str`, *optional*):
            Fingerprint of what it searches, see [`fingerprint_of`]. `None` where that is not known.
        parameters (`Mapping[str, Any]`, *optional*):
            All that changes its results, as JSON can hold it. Parts, such as those of a hybrid retriever, are
            identities as dictionaries.
    """

    name: str
    fingerprint: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The identity as JSON can hold it; [`RetrieverIdentity.from_dict`] reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """
        Read an identity back.

        Args:
            values (`Mapping[str, Any]`):
                What [`RetrieverIdentity.to_dict`] gave. Further keys are passed over.

        Returns:
            [`RetrieverIdentity`]

        Raises:
            `ValueError`: if it is no mapping, the name is missing or a value has another type.
        """
        fields = values if isinstance(values, Mapping) else {}
        name, fingerprint, parameters = fields.get("name"), fields.get("fingerprint"), fields.get("parameters", {})
        if not (isinstance(name, str) and isinstance(fingerprint, str | None) and isinstance(parameters, dict)):
            raise ValueError(f"{values!r} is no retriever's identity: 'name', 'fingerprint', 'parameters' are needed.")
        return cls(name, fingerprint, parameters)

    @property
    def digest(self) -> str:
        """64 hexadecimal digits that are equal for equal identities: the SHA-256 of the identity as JSON."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def identity_of(retriever: Any) -> RetrieverIdentity:
    """
    The identity of any retriever.

    Args:
        retriever ([`~tspo_trl.search.Retriever`]):
            One with a property `identity`, or any other.

    Returns:
        [`RetrieverIdentity`]: its own, else one of its class's name alone.
    """
    identity = getattr(retriever, "identity", None)
    return identity if isinstance(identity, RetrieverIdentity) else RetrieverIdentity(type(retriever).__name__)


def fingerprint_of(paths: Iterable[str | os.PathLike[str]]) -> str:
    """
    Fingerprint of files: equal for copies of them anywhere, different for almost anything else.

    A file of up to 64 MiB counts whole, a larger one by its size and 32 samples of 1 MiB spread evenly over it, so
    that an index of many gigabytes costs a fraction of a second.

    Args:
        paths (iterable of `str` or `os.PathLike`):
            The files, in a fixed order.

    Returns:
        `str`: 64 hexadecimal digits.

    Raises:
        `OSError`: if a file cannot be read.
        `ValueError`: if there are no files.
    """
    files = [Path(path) for path in paths]
    if not files:
        raise ValueError("paths is empty: a fingerprint needs at least one file.")
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with open(path, "rb") as file:
            if size <= _WHOLE:
                digest.update(file.read())
                continue
            for sample in range(_SAMPLES):
                file.seek((size - _SAMPLE) * sample // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()
