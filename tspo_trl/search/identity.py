"""Retriever identities, which are logged, saved in checkpoints and used as cache keys."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

_WHOLE = 64 * 2**20  # larger files are sampled
_SAMPLE = 2**20
_SAMPLES = 32


@dataclass(frozen=True)
class RetrieverIdentity:
    """
    Name, index and parameters of a retriever. Retrievers with equal identities return equal results.

    Args:
        name (`str`):
            Name of the class, such as `"BM25Retriever"`.
        fingerprint (`str`, *optional*):
            Fingerprint of the index, see [`fingerprint_of`]. `None` if it is unknown.
        parameters (`Mapping[str, Any]`, *optional*):
            Every setting that changes the results, as JSON values. The parts of a hybrid retriever are identities as
            dictionaries.
    """

    name: str
    fingerprint: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the identity as JSON values, which [`RetrieverIdentity.from_dict`] reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """
        Read an identity.

        Args:
            values (`Mapping[str, Any]`):
                Result of [`RetrieverIdentity.to_dict`]. Other keys are ignored.

        Returns:
            [`RetrieverIdentity`]

        Raises:
            `ValueError`: if `values` is not a mapping, the name is missing or a value has the wrong type.
        """
        fields = values if isinstance(values, Mapping) else {}
        name, fingerprint, parameters = fields.get("name"), fields.get("fingerprint"), fields.get("parameters", {})
        if not (isinstance(name, str) and isinstance(fingerprint, str | None) and isinstance(parameters, dict)):
            raise ValueError(
                f"{values!r} is not the identity of a retriever. It needs 'name', 'fingerprint' and 'parameters'."
            )
        return cls(name, fingerprint, parameters)

    @property
    def digest(self) -> str:
        """SHA-256 of the identity as JSON: 64 hexadecimal digits, equal for equal identities."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def identity_of(retriever: Any) -> RetrieverIdentity:
    """
    Return the identity of a retriever.

    Args:
        retriever ([`~tspo_trl.search.Retriever`]):
            Any retriever, with or without a property `identity`.

    Returns:
        [`RetrieverIdentity`]: the property `identity`, or an identity with only the name of the class.
    """
    identity = getattr(retriever, "identity", None)
    return identity if isinstance(identity, RetrieverIdentity) else RetrieverIdentity(type(retriever).__name__)


def fingerprint_of(paths: Iterable[str | os.PathLike[str]]) -> str:
    """
    Return the fingerprint of files. Copies in other folders have the same fingerprint.

    Files of up to 64 MiB are read whole. A larger file is represented by its size and 32 evenly spaced samples of
    1 MiB, so an index of many gigabytes takes a fraction of a second.

    Args:
        paths (iterable of `str` or `os.PathLike`):
            The files, always in the same order.

    Returns:
        `str`: 64 hexadecimal digits.

    Raises:
        `OSError`: if a file cannot be read.
        `ValueError`: if `paths` is empty.
    """
    files = [Path(path) for path in paths]
    if not files:
        raise ValueError("paths is empty. A fingerprint needs at least one file.")
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
