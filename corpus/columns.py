"""Arrow columns as the raw buffers that compiled kernels read, and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def text_buffers(column: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """(offsets [n + 1], bytes) of a large_string column without nulls. Views, not copies.

    Row i is bytes[offsets[i]:offsets[i + 1]]. Offsets need not start at 0 (the column may be a slice).
    """
    if column.type != pa.large_string() or column.null_count:
        raise TypeError(f"expected large_string without nulls, got {column.type} with {column.null_count} nulls")
    _, offsets, data = column.buffers()
    begin = column.offset
    ends = np.frombuffer(offsets, dtype=np.int64, count=begin + len(column) + 1)[begin:] if offsets else np.zeros(1, np.int64)
    # A column of empty strings may have no data buffer at all.
    body = np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)
    return ends, body


def text_column(offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8]) -> pa.LargeStringArray:
    """A large_string column over the given buffers. The bytes must be valid UTF-8 at every cut."""
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))
