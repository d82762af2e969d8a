"""Pack plans: which pieces of which documents make each training row.

An artifact of the step ``pack`` holds four little-endian arrays: ``row_offsets.npy`` int64 [n_rows + 1] into the pieces, and for every
piece ``source.npy`` uint16 (index into the plan's token stores), ``doc.npy`` int64 (document of that store), ``start.npy`` int64 and
``length.npy`` int32 (tokens). A row's pieces sum to at most ``seq_len`` tokens. The summary has seq_len, n_rows, n_tokens, padding
(share), and ``sources``: the ledger of each, in the order of ``source.npy``. Every token that the mixture chose is in exactly one piece
for each time it is seen.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from store.artifact import Artifact
from store.errors import ArtifactError, InputError
from store.fs import FileEntry, Folder

REMEDY = "remove the artifact's folder and run the recipe again"
ARRAYS = {"row_offsets": "<i8", "source": "<u2", "doc": "<i8", "start": "<i8", "length": "<i4"}


@dataclass(frozen=True)
class PackPlan:
    """The arrays described in the module's text."""

    seq_len: int
    row_offsets: npt.NDArray[np.int64]
    source: npt.NDArray[np.uint16]
    doc: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    length: npt.NDArray[np.int32]

    @property
    def n_rows(self) -> int:
        return len(self.row_offsets) - 1

    @property
    def n_tokens(self) -> int:
        return int(self.length.sum(dtype=np.int64))

    @property
    def padding(self) -> float:
        """Share of the rows' positions that hold no token."""
        return 1.0 - self.n_tokens / (self.n_rows * self.seq_len) if self.n_rows else 0.0

    def row(self, r: int) -> list[tuple[int, int, int, int]]:
        """(source, doc, start, length) of each piece of a row, in order."""
        a, b = int(self.row_offsets[r]), int(self.row_offsets[r + 1])
        return [(int(self.source[i]), int(self.doc[i]), int(self.start[i]), int(self.length[i])) for i in range(a, b)]

    def write(self, folder: Folder) -> list[FileEntry]:
        """Write the arrays; same plan, same bytes."""
        entries = []
        for name, dtype in ARRAYS.items():
            buffer = io.BytesIO()
            np.save(buffer, getattr(self, name).astype(dtype), allow_pickle=False)
            entries.append(folder.write_bytes(f"{name}.npy", buffer.getvalue(), n_rows=len(getattr(self, name))))
        return entries

    @classmethod
    def open(cls, artifact: Artifact) -> PackPlan:
        """Read a complete pack artifact; ArtifactError if its arrays are damaged or do not fit together."""
        try:
            arrays = {n: _load(artifact, f"{n}.npy") for n in ARRAYS}
        except (InputError, OSError, ValueError, EOFError) as error:
            raise ArtifactError(f"the pack plan cannot be read ({error})", where=artifact.folder.url, remedy=REMEDY) from error
        ends = arrays["row_offsets"][[0, -1]].tolist() if len(arrays["row_offsets"]) else None
        n_pieces = {len(arrays[name]) for name in ARRAYS if name != "row_offsets"}
        if len(n_pieces) != 1 or ends != [0, *n_pieces]:
            raise ArtifactError("the pack plan's arrays do not fit together", where=artifact.folder.url, remedy=REMEDY)
        return cls(seq_len=cast(int, artifact.manifest.summary["seq_len"]), **arrays)


def _load(artifact: Artifact, name: str) -> npt.NDArray[Any]:
    """An array of a plan: mapped where it lies on a local disk, so that the processes of a machine share its memory."""
    if artifact.folder.is_local:
        return np.asarray(np.load(artifact.path(name), mmap_mode="r", allow_pickle=False))
    return np.asarray(np.load(io.BytesIO(artifact.folder.read_bytes(name)), allow_pickle=False))


def rehydration_classes(cluster_sizes: npt.NDArray[np.int64], table: Mapping[int, int]) -> npt.NDArray[np.int64]:
    """[n_docs] which entry of ``table``, in rising order of its keys, each document's cluster size falls under; -1 below the first.

    An entry n: w says that clusters of n documents and more, up to the next entry, count w times (FineWeb2's rehydration).
    """
    return np.searchsorted(np.array(sorted(table), np.int64), cluster_sizes, side="right").astype(np.int64) - 1
