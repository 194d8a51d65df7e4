"""Whether an encoder is the one that a dense index was made with.

[`check_encoder_file`] compares settings where the index tells them, [`check_vectors`] compares vectors, of any index.
"""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..base import Passage
from ..indexing.dense import ENCODER_FILE
from ..indexing.encoder import Encoder

logger = logging.getLogger(__name__)

# Median cosine between a passage's vector now and in the index. Measured with all-MiniLM-L6-v2: the same encoder in
# bfloat16 or float16 at least 0.9999, a prefix too many 0.947 to 0.995, other pooling 0.22 to 0.84. Vectors compressed
# to an eighth of a byte a dimension: 0.87, in the worst of 2,000 draws 0.81, so only gross mistakes are told there.
# Text that was put together in another way, and a prefix, which is harmless for passages, stay above 0.98.
SAME_COSINE = 0.999
EXACT_COSINE = 0.98
COMPRESSED_COSINE = 0.7
_EXACT_INDEXES = ("IndexFlat", "IndexFlatIP", "IndexHNSWFlat", "IndexIVFFlat")
_NOT_COMPARED = ("dtype", "preset", "model", "model_fingerprint")
_PROBES = 5


def check_encoder_file(index: Path, encoder: Encoder) -> None:
    """
    Compare an encoder with the settings that lie in the folder of an index, if they do.

    The precision may differ: passages are often encoded in bfloat16 on a GPU and queries in float32 on a CPU. So may
    the name of the preset, since all that it stands for is compared, and the name and the files of the model, which
    may lie elsewhere in another format: whether it is the same one is for [`check_vectors`] to tell.

    Args:
        index (`Path`):
            The index.
        encoder ([`Encoder`]):
            The encoder.

    Raises:
        `ValueError`: naming the first setting that differs.
    """
    file = index / ENCODER_FILE
    if not file.is_file():
        return
    saved = json.loads(file.read_text(encoding="utf-8"))
    for name, value in encoder.settings.items():
        if name not in _NOT_COMPARED and saved.get(name, value) != value:
            raise ValueError(
                f"index {index} was built with an encoder of {name} {saved[name]!r}, and this one has {value!r}. Make "
                f"the encoder as the index needs it (see {file}), or build the index again."
            )


def check_dimension(index: Path, faiss_index: Any, encoder: Encoder) -> None:
    """
    Compare the lengths of vectors.

    Args:
        index (`Path`):
            Where the index lies, for the message.
        faiss_index (`faiss.Index`):
            The index.
        encoder ([`Encoder`]):
            The encoder.

    Raises:
        `ValueError`: if they differ.
    """
    if faiss_index.d != encoder.dimension:
        raise ValueError(
            f"index {index} has vectors of dimension {faiss_index.d}, and {encoder!r} makes {encoder.dimension}. It "
            "was built with another model."
        )


def check_vectors(
    index: Path, faiss_index: Any, encoder: Encoder, read: Callable[[Sequence[int]], list[Passage]]
) -> None:
    """
    Encode a few passages and compare them with their vectors in the index.

    Args:
        index (`Path`):
            Where the index lies, for messages.
        faiss_index (`faiss.Index`):
            The index.
        encoder ([`Encoder`]):
            The encoder.
        read (`Callable[[Sequence[int]], list[Passage]]`):
            Reads the passages of rows.

    Raises:
        `ValueError`: if they are too different.
    """
    import numpy as np

    last = faiss_index.ntotal - 1
    rows = sorted({last * probe // (_PROBES - 1) for probe in range(_PROBES)})
    passages = read(rows)
    stored = _stored_vectors(faiss_index, rows)
    if stored is None:
        logger.warning("index %s does not give its vectors, so the encoder could not be compared with it.", index)
        return
    vectors = encoder.encode_passages([passage.contents for passage in passages])
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(stored, axis=1)
    # The median, because one long passage may have been cut at another length.
    cosine = float(np.median((vectors * stored).sum(axis=1) / np.maximum(lengths, 1e-12)))
    needed = EXACT_COSINE if type(faiss_index).__name__ in _EXACT_INDEXES else COMPRESSED_COSINE
    if not cosine >= needed:
        raise ValueError(
            f"index {index} does not fit {encoder!r}: between its vectors and those of the encoder for the same "
            f"passages the median cosine is {cosine:.4f}, and {needed} is needed. Likely causes: another pooling, "
            "another prefix, another model, or passages of another corpus."
        )
    if needed == EXACT_COSINE and cosine < SAME_COSINE:
        logger.warning(
            "index %s is not quite what %r makes of its passages: the median cosine is %.4f. Likely causes: another "
            "prefix, another maximum length, or passages that were put together from title and text in another way.",
            index,
            encoder,
            cosine,
        )


def _stored_vectors(faiss_index: Any, rows: Sequence[int]) -> Any:
    """The vectors of some rows, `None` where the index cannot give them."""
    import faiss
    import numpy as np

    lists = faiss.try_extract_index_ivf(faiss_index)
    if lists:
        lists.make_direct_map()  # where each row lies; not needed for searching, so not kept
    try:
        return np.stack([faiss_index.reconstruct(row) for row in rows])
    except RuntimeError:
        return None
    finally:
        if lists:
            lists.set_direct_map_type(faiss.DirectMap.NoMap)  # type: ignore[attr-defined]
