"""Checks that a dense index, its passages and the encoder belong together."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..base import Passage
from ..indexing.dense import ENCODER_FILE
from ..indexing.encoder import Encoder
from ..indexing.passages import CorpusPassages, LinesFile, PassageSource

logger = logging.getLogger(__name__)

# Median cosine between the vector of a passage now and in the index. Measured with all-MiniLM-L6-v2: the same encoder
# in bfloat16 or float16 at least 0.9999, an extra prefix 0.947 to 0.995, another pooling 0.22 to 0.84. With vectors
# compressed to an eighth of a byte per dimension: 0.87, and 0.81 in the worst of 2,000 draws, so only large
# differences are detected there. Text that was joined differently, or a prefix, which is harmless for passages, stay
# above 0.98.
SAME_COSINE = 0.999
EXACT_COSINE = 0.98
COMPRESSED_COSINE = 0.7
_EXACT_INDEXES = ("IndexFlat", "IndexFlatIP", "IndexHNSWFlat", "IndexIVFFlat")
_NOT_COMPARED = ("dtype", "preset", "model", "model_fingerprint")
_PROBES = 5


def check_encoder_file(index: Path, encoder: Encoder) -> None:
    """
    Compare an encoder with the settings saved in the folder of an index, if there are any.

    Precision, preset and model are not compared. Passages are often encoded in bfloat16 on a GPU and queries in
    float32 on a CPU. The settings of a preset are compared instead of its name. The model may be a copy in another
    format, so [`check_vectors`] compares its vectors.

    Args:
        index (`Path`):
            Folder of the index.
        encoder ([`Encoder`]):
            The encoder.

    Raises:
        `ValueError`: if a setting differs. The message names the first one.
    """
    file = index / ENCODER_FILE
    if not file.is_file():
        return
    saved = json.loads(file.read_text(encoding="utf-8"))
    for name, value in encoder.settings.items():
        if name not in _NOT_COMPARED and saved.get(name, value) != value:
            raise ValueError(
                f"index {index} was built with an encoder of {name} {saved[name]!r}, but this one has {value!r}. Use "
                f"the settings in {file}, or rebuild the index."
            )


def check_rows(index: Path, size: int, docids: LinesFile | None, passages: PassageSource) -> None:
    """
    Compare the number of vectors with the numbers of ids and passages.

    Args:
        index (`Path`):
            Path of the index, for messages.
        size (`int`):
            Number of vectors.
        docids (`LinesFile`, *optional*):
            Ids of the vectors, if the index has any.
        passages ([`PassageSource`]):
            The passages.

    Raises:
        `ValueError`: if the numbers differ, or the index is empty or has no ids to find its passages by.
    """
    if not size:
        raise ValueError(f"index {index} is empty. Rebuild it with `tspo-trl index --dense`.")
    if docids is not None and len(docids) != size:
        raise ValueError(f"index {index} has {size} vectors and {len(docids)} ids. Rebuild it.")
    if isinstance(passages, CorpusPassages):
        if len(passages) != size:
            raise ValueError(
                f"index {index} has {size} vectors and passages {len(passages)} lines. Pass the file that the index "
                "was built from."
            )
    elif docids is None:
        raise ValueError(f"index {index} has no ids. Pass its corpus, a file of JSON lines, as passages.")


def check_vectors(
    index: Path, faiss_index: Any, encoder: Encoder, read: Callable[[Sequence[int]], list[Passage]]
) -> None:
    """
    Encode a few passages and compare them with their vectors in the index.

    Args:
        index (`Path`):
            Path of the index, for messages.
        faiss_index (`faiss.Index`):
            The index.
        encoder ([`Encoder`]):
            The encoder.
        read (`Callable[[Sequence[int]], list[Passage]]`):
            Reads the passages of rows.

    Raises:
        `ValueError`: if the vectors have another dimension or differ too much.
    """
    import numpy as np

    if faiss_index.d != encoder.dimension:
        raise ValueError(
            f"index {index} has vectors of dimension {faiss_index.d}, but {encoder!r} makes {encoder.dimension}. The "
            "index was built with another model."
        )
    last = faiss_index.ntotal - 1
    rows = sorted({last * probe // (_PROBES - 1) for probe in range(_PROBES)})
    passages = read(rows)
    stored = _stored_vectors(faiss_index, rows)
    if stored is None:
        logger.warning("index %s does not return its vectors, so the encoder could not be checked.", index)
        return
    vectors = encoder.encode_passages([passage.contents for passage in passages])
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(stored, axis=1)
    # The median, because one long passage may have been truncated at another length.
    cosine = float(np.median((vectors * stored).sum(axis=1) / np.maximum(lengths, 1e-12)))
    needed = EXACT_COSINE if type(faiss_index).__name__ in _EXACT_INDEXES else COMPRESSED_COSINE
    if not cosine >= needed:
        raise ValueError(
            f"index {index} does not fit {encoder!r}. For the same passages the median cosine between their vectors "
            f"is {cosine:.4f}, but at least {needed} is needed. Likely causes: another pooling, prefix or model, or "
            "passages of another corpus."
        )
    if needed == EXACT_COSINE and cosine < SAME_COSINE:
        logger.warning(
            "The vectors of index %s differ slightly from those of %r: the median cosine is %.4f. Likely causes: "
            "another prefix or maximum length, or passages with title and text joined differently.",
            index,
            encoder,
            cosine,
        )


def _stored_vectors(faiss_index: Any, rows: Sequence[int]) -> Any:
    """Return the vectors of some rows, `None` if the index cannot return them."""
    import faiss
    import numpy as np

    lists = faiss.try_extract_index_ivf(faiss_index)
    if lists:
        lists.make_direct_map()  # finds rows; searches do not need it, so it is removed below
    try:
        return np.stack([faiss_index.reconstruct(row) for row in rows])
    except RuntimeError:
        return None
    finally:
        if lists:
            lists.set_direct_map_type(faiss.DirectMap.NoMap)  # type: ignore[attr-defined]
