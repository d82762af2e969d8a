"""What remains of a corpus for later deduplication once its pages are gone: signatures, shingle sets, ids and scores, no text.

The artifact has the layout of ``documents``: ``signatures/`` as they were, and ``kept/`` with every column but the text, whose place
takes ``shingles`` (large_list of uint32, sorted; corpus/dedup/similarity.py). So ``dedup.against`` and lookups take either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.dedup.verify import shingle_lists
from corpus.shingles import Grams
from corpus.signature import Signature
from store.artifact import Artifact, Draft, Receipt
from store.errors import InputError
from store.executor import Executor, Job, Task
from store.fs import Folder, open_input, read_bytes
from store.params import Json

READ_DOCS = 1000


class IndexWorker:
    """A task's payload is {"signatures", "documents"}: names in the artifact. Memory: READ_DOCS documents and the file written."""

    def __init__(self, source: Artifact, grams: Grams, out: Folder) -> None:
        self.source, self.grams, self.out = source, grams, out

    def run(self, task: Task) -> Receipt:
        signatures, documents = (cast(str, task.payload[k]) for k in ("signatures", "documents"))
        copied = self.out.write_bytes(signatures, read_bytes(self.source.path(signatures)), n_rows=task.size)
        with open_input(self.source.path(documents)) as source, pq.ParquetFile(source) as file, self.out.writing(documents) as out:
            names = [n for n in file.schema_arrow.names if n != "text"]
            schema = pa.schema([*(file.schema_arrow.field(n) for n in names), ("shingles", pa.large_list(pa.uint32()))])
            with pq.ParquetWriter(out, schema, compression="zstd", use_dictionary=False) as writer:
                for batch in file.iter_batches(READ_DOCS, use_threads=False):
                    sets = shingle_lists(batch.column("text"), self.grams)
                    writer.write_batch(pa.record_batch([*(batch.column(n) for n in names), sets], schema=schema))
        return Receipt(key=task.key, files=(copied, self.out.entry(documents, n_rows=task.size)), counts={"indexed": task.size})


def signature_params(artifact: Artifact) -> dict[str, Json]:
    """Parameters of the signature stage an artifact's signatures were made with; InputError if it has none."""
    stages = artifact.manifest.params.get("stages")
    for stage in stages if isinstance(stages, list) else []:
        if isinstance(stage, dict) and stage.get("stage") == "signature":
            return stage
    raise InputError("this artifact holds no signatures", where=artifact.folder.url,
                     expected="a documents artifact of a recipe with the stage signature, or an index made from one")  # fmt: skip


def signed_with(artifact: Artifact) -> Signature:
    """The signature stage an artifact's signatures were made with; InputError if it was another version of it than this one."""
    params = signature_params(artifact)
    if params.get("version", Signature.version) != Signature.version:
        raise InputError(f"the signatures are of version {params['version']} of the stage", where=artifact.folder.url,
                         expected=f"version {Signature.version}", remedy="run the recipe again, or make the index again")  # fmt: skip
    return Signature.model_validate({k: v for k, v in params.items() if k != "version"})


def require_alike(artifact: Artifact, earlier: Sequence[Artifact]) -> None:
    """InputError unless the signatures of earlier corpora can be compared with an artifact's: same parameters, same version."""
    mine = signature_params(artifact)
    for one in earlier:
        theirs = signature_params(one)
        if other := sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k)):
            raise InputError(f"the signatures of an earlier corpus were made with another {other[0]}", where=one.folder.url,
                             expected=f"{other[0]}: {mine.get(other[0])}, found {theirs.get(other[0])}",
                             remedy="sign both alike: run the earlier recipe again with the stage signature of this one")  # fmt: skip


def write_index(draft: Draft, executor: Executor, source: Artifact) -> Artifact:
    """Make the index of a ``documents`` artifact and commit it."""
    grams = signed_with(source).grams
    entries = source.files("signatures/")
    tasks = [
        Task(e.name.removeprefix("signatures/").removesuffix(".parquet"),
             {"signatures": e.name, "documents": "kept/" + e.name.removeprefix("signatures/")}, e.n_rows or 0)
        for e in entries
    ]  # fmt: skip
    kwargs = {"source": source, "grams": grams, "out": draft.folder}
    receipts = executor.map(Job(draft.identity.step, IndexWorker, kwargs, tasks, draft, unit="documents"))
    return draft.commit(receipts, summary={"n_docs": sum(t.size for t in tasks)})
