"""A store of simulated documents, and the plan of it: made by the worker of the step ``pack`` in a process of its own.

    python -m benchmarks.packing_plan FOLDER

plans the store that FOLDER/store.json names, writes the plan below FOLDER/plans and prints seconds and peak memory as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from store.artifact import Artifact, Draft, Identity
from store.executor import Task
from store.fs import FileEntry, Folder
from store.params import Json
from store.plan import PackPlan
from store.schema import TOKEN_INDEX

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SEQ_LEN, VOCAB = 4096, 32_000
I64 = npt.NDArray[np.int64]


def lengths_of(n_docs: int, n_tokens: int, spread: float) -> I64:
    """Log-normal lengths of at least 2 tokens with the given spread of logarithms, scaled to n_tokens."""
    raw = np.random.default_rng(0).lognormal(0.0, spread, n_docs)
    lengths = np.maximum(2, raw * (n_tokens / raw.sum())).astype(np.int64)
    lengths[np.argmax(lengths)] += n_tokens - int(lengths.sum())
    return lengths


def write_sparse(root: Folder, lengths: I64, n_shards: int) -> Artifact:
    """A tokens artifact with a real index, whose shards are holes of the right size."""
    draft, files = Draft.begin(root, Identity("tokens", 1, {"simulated": len(lengths)})), []
    sizes = np.ones(len(lengths), np.int64)
    for s, docs in enumerate(np.array_split(np.arange(len(lengths)), n_shards)):
        n, size = lengths[docs], int(lengths[docs].sum()) * 4
        sink = pa.BufferOutputStream()
        columns = [docs, n.astype(np.int32), (n * 4).astype(np.int32), sizes[docs]]
        pq.write_table(pa.table(columns, schema=TOKEN_INDEX), sink, compression="zstd")
        files.append(draft.folder.write_bytes(f"index/{s:05d}.parquet", sink.getvalue().to_pybytes(), n_rows=len(n)))
        path = draft.folder.path(f"tokens/{s:05d}.bin")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.truncate(size)
        files.append(FileEntry(name=f"tokens/{s:05d}.bin", size_bytes=size, sha256="0" * 64, n_rows=size // 4))
    return draft.commit(files=files, summary={"vocab_size": VOCAB, "eos_id": 0})


def plan_here(scratch: str) -> None:
    """In a process of its own: plan the store, print seconds and peak."""
    from cluster.steps.models import PackWorker
    from corpus.packing import MixtureEntry

    url = json.loads(Folder(scratch).read_bytes("store.json"))
    small = write_sparse(Folder(f"{scratch}/small"), np.full(100, 9, np.int64), 1)
    for name, store in (("small", small.folder), ("plan", Folder(url))):  # the first compiles
        draft = Draft.begin(Folder(f"{scratch}/plans"), Identity("pack", 1, {"of": name}))
        worker = PackWorker(draft.folder, {"simulated": store}, (MixtureEntry(name="simulated"),), SEQ_LEN, 1)
        begin, wall = time.process_time(), time.monotonic()
        receipt = worker.run(Task("plan", {}))
        spent = (time.process_time() - begin, time.monotonic() - wall)
        made = draft.commit([receipt], summary=dict(receipt.data))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 * 1.024
    print(json.dumps({"plan": made.folder.url, "cpu_s": spent[0], "wall_s": spent[1], "peak_mb": peak}))


def pack_figures(scratch: str, store: Artifact, lengths: I64) -> dict[str, Json]:
    """The plan's seconds and memory, and what the written plan says about every token."""
    Folder(scratch).write_bytes("store.json", json.dumps(store.folder.url).encode())
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.packing_plan", scratch], cwd=ROOT, capture_output=True, text=True, check=True
    )
    said = json.loads(ran.stdout.splitlines()[-1])
    Folder(scratch).write_bytes("plan.json", json.dumps(said["plan"]).encode())
    plan = PackPlan.open(Artifact.open(Folder(said["plan"])))
    covered = np.bincount(plan.doc, weights=plan.length, minlength=len(lengths)).astype(np.int64)
    n_pieces = np.bincount(plan.doc, minlength=len(lengths))
    starts = np.bincount(plan.doc, weights=plan.start, minlength=len(lengths)).astype(np.int64)
    # Pieces 0, T, 2T ... of the right number and sum cover a document once.
    right = (covered == lengths) & (n_pieces == -(-lengths // SEQ_LEN)) & (starts == SEQ_LEN * n_pieces * (n_pieces - 1) // 2)
    rows = np.add.reduceat(plan.length.astype(np.int64), plan.row_offsets[:-1])
    assert rows.max() <= SEQ_LEN, "a row is too long"
    short = lengths <= SEQ_LEN
    return {
        "pack.docs": len(lengths), "pack.tokens": int(lengths.sum()), "pack.rows": plan.n_rows, "pack.pieces": len(plan.length),
        "pack.padding": plan.padding, "pack.tokens_lost": int(lengths.sum()) - int(covered[right].sum()),
        "pack.short_documents_split": float((n_pieces[short] > 1).mean()), "pack.plan_seconds": round(said["cpu_s"], 2),
        "pack.plan_wall_s": round(said["wall_s"], 2), "pack.plan_peak_mb": round(said["peak_mb"], 1),
    }  # fmt: skip


if __name__ == "__main__":
    plan_here(sys.argv[1])
