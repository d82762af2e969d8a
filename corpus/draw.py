"""Random choices that are functions of a document: the same document, the same draw, on any machine and in any order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash


def unit_interval(ids: pa.Array, keys: pa.Array, salt: str) -> npt.NDArray[np.float64]:
    """[n] a number in [0, 1) per document, a pure function of (id, salt): the same document, the same draw, on any machine.

    Documents without an id are drawn by their key.
    """
    names = zip(ids.to_pylist(), keys.to_pylist(), strict=True)
    seed = xxhash.xxh64_intdigest(salt)
    return np.array([xxhash.xxh64_intdigest(i or str(k), seed) for i, k in names], np.uint64).astype(np.float64) / 2.0**64
