"""Tokens: what packing wastes, cuts and costs at full size, what tokenisation costs beside the tokenizers library, and the loader.

    python -m benchmarks.tokens [--data FOLDER] [--tokenizer NAME=FOLDER] [--quick]

pack: a store of 7.3 M documents and 5.1 G tokens: real index files, token shards without content (sparse files), lengths log-normal
with the spread of --data's pages (or the built-in sample's), scaled to 5.1 G tokens. It is opened, planned into rows of 4,096 and
written by the worker of the step ``pack``, in a process of its own; seconds are of the processor, the peak is the process's resident
memory, imports included. Lost tokens are counted from the written plan: every piece marks its tokens. For comparison: what
concatenating and cutting every 4,096 tokens (datatrove, Megatron-LM) would cut, and best-fit and first-fit decreasing as a plain
program would do them, on a part of the documents.

tokenise: TokeniseWorker (read Parquet, encode, write shard and index) against ``Tokenizer.encode_batch`` and ``encode_batch_fast`` of
the tokenizers library alone on the same texts in memory: one thread each, in alternation on every 500 pages (who is first changes from
round to round), processor time, least of the rounds, summed over the pages. Ids are compared. With a byte-level BPE of 32,000 tokens
trained on the pages, and with --tokenizer also with one that exists.

loader: rows of the order located in the shards (index work), and rows read into arrays, over the plan above.
"""

from __future__ import annotations

import argparse
import glob
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial

os.environ.setdefault("RAYON_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from benchmarks.machine import write_result  # noqa: E402
from benchmarks.packing_peers import peers  # noqa: E402
from corpus.tokenise import TokeniseWorker  # noqa: E402
from corpus.tokenizer import load_tokenizer, train_tokenizer  # noqa: E402
from store.artifact import Artifact, Draft, Identity  # noqa: E402
from store.executor import Task  # noqa: E402
from store.fs import FileEntry, Folder  # noqa: E402
from store.params import Json  # noqa: E402
from store.plan import PackPlan  # noqa: E402
from store.schema import TOKEN_INDEX  # noqa: E402
from store.tokens import TokenStore  # noqa: E402

SEQ_LEN = 4096
N_DOCS, N_TOKENS, N_SHARDS = 7_300_000, 5_100_000_000, 73
QUICK_DOCS, QUICK_TOKENS, QUICK_SHARDS = 200_000, 139_726_027, 4
VOCAB = 32_000
CHUNK_DOCS = 500
I64 = npt.NDArray[np.int64]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with web/*.parquet; default: the built-in sample")
    parser.add_argument("--tokenizer", help="NAME=FOLDER of a tokenizer to measure too; NAME becomes part of the figures' names")
    parser.add_argument("--quick", action="store_true", help="a part of everything (under a minute); writes no result file")
    parser.add_argument("--plan-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plan_of:
        plan_here(options.plan_of)
        return
    size = (QUICK_DOCS, QUICK_TOKENS, QUICK_SHARDS) if options.quick else (N_DOCS, N_TOKENS, N_SHARDS)
    with tempfile.TemporaryDirectory(prefix="tokens-benchmark-") as scratch:
        texts = pages(options.data, scratch, 2_000 if options.quick else 10_000)
        spread = float(np.log([len(t) for t in texts]).std())
        lengths = lengths_of(*size[:2], spread)
        store = write_sparse(Folder(f"{scratch}/store"), lengths, size[2])
        figures = {"pack.log_spread_of_lengths": round(spread, 3), **pack_figures(scratch, store, lengths)}
        figures |= peers(lengths[: 50_000 if options.quick else 200_000], SEQ_LEN)
        figures |= loader_figures(scratch, store)
        some, rounds = texts[:: len(texts) // (1_000 if options.quick else 2_000)], 3 if options.quick else 6
        train_tokenizer(iter(texts[:: max(1, len(texts) // 2000)]), VOCAB, Folder(f"{scratch}/tokenizer"))
        figures |= tokenise_figures(scratch, some, rounds, f"{scratch}/tokenizer", "tokenise")
        if options.tokenizer:
            name, _, folder = options.tokenizer.partition("=")
            figures |= tokenise_figures(scratch, some, rounds, folder, f"tokenise.{name}")
    for name, value in figures.items():
        print(f"{name:<45} {value}")
    if not options.quick:
        source = f"{'real' if options.data else 'sample'} pages; {size[0]:,} simulated documents of {size[1]:,} tokens"
        print("written:", write_result("tokens" if options.data else "tokens-sample", source, figures, __doc__ or ""))


# --------------------------------------------------------------------------------------------------------------------------- packing


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
    import resource

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
        [sys.executable, "-m", "benchmarks.tokens", "--plan-of", scratch], cwd=ROOT, capture_output=True, text=True, check=True
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


# ---------------------------------------------------------------------------------------------------------------------------- loader


def loader_figures(scratch: str, artifact: Artifact) -> dict[str, Json]:
    """Rows a second: ordered and located, and read into arrays (tokens of holes are zeros; they are read all the same)."""
    from training.order import RowOrder
    from training.rows import RowReader

    store = TokenStore.open(artifact)
    plan = PackPlan.open(Artifact.open(Folder(json.loads(Folder(scratch).read_bytes("plan.json")))))
    reader = RowReader(plan, [store], VOCAB)
    order = RowOrder.plan(plan.n_rows, 256, epochs=1.0, max_steps=None, seed=1)
    steps = min(order.n_steps - 1, 400)
    located = least(lambda: [reader.locate(order.rows(step)) for step in range(steps)], 3)
    few = min(steps, 8)
    read = least(lambda: [reader.read(part) for step in range(few) for part in np.split(order.rows(step), 32)], 3)
    return {
        "loader.rows_per_s": round(steps * 256 / located), "loader.read_rows_per_s": round(few * 256 / read),
        "loader.read_tokens_per_s": round(few * 256 * SEQ_LEN / read),
    }  # fmt: skip


def least(work: Callable[[], object], rounds: int) -> float:
    """Least processor seconds of some rounds."""
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


# ---------------------------------------------------------------------------------------------------------------------- tokenisation


def pages(data: str | None, scratch: str, n: int) -> list[str]:
    """Texts of pages."""
    if data:
        return list(first_texts(sorted(glob.glob(f"{data}/web/*.parquet")), n))
    from corpus.sample.generate import write_sample
    from corpus.sample.params import SampleParams

    write_sample(SampleParams(n_docs=n), f"{scratch}/sample")
    return list(first_texts(sorted(glob.glob(f"{scratch}/sample/web/*.parquet")), n))


def first_texts(files: list[str], n: int) -> Iterator[str]:
    """The same number of pages of every file."""
    for file in files:
        yield from (t for t in pq.read_table(file, columns=["text"])["text"][: n // len(files)].to_pylist() if t)


def tokenise_figures(scratch: str, texts: list[str], rounds: int, folder: str, group: str) -> dict[str, Json]:
    """TokeniseWorker against the library alone, in alternation, with the tokenizer of ``folder``."""
    parts = [texts[i : i + CHUNK_DOCS] for i in range(0, len(texts), CHUNK_DOCS)]
    files = [write_texts(f"{scratch}/texts-{i}.parquet", part) for i, part in enumerate(parts)]
    out = Folder(f"{scratch}/{group}")
    worker = TokeniseWorker(files, folder, out)
    loaded = load_tokenizer(folder)
    loaded.tokenizer.encode_special_tokens = True
    spent, n_tokens = {"ours": 0.0, "encode_batch": 0.0, "encode_batch_fast": 0.0}, 0
    for number, part in enumerate(parts):
        parties: dict[str, Callable[[], object]] = {
            "ours": partial(worker.run, Task(str(number), {"file": number})),
            "encode_batch": partial(loaded.tokenizer.encode_batch, part, add_special_tokens=False),
            "encode_batch_fast": partial(loaded.tokenizer.encode_batch_fast, part, add_special_tokens=False),
        }
        best = dict.fromkeys(parties, math.inf)
        for turn in range(rounds):
            for name in [*parties][turn % 3 :] + [*parties][: turn % 3]:
                best[name] = min(best[name], least(parties[name], 1))
        spent = {name: spent[name] + best[name] for name in spent}
        theirs = [i for e in loaded.tokenizer.encode_batch(part, add_special_tokens=False) for i in [*e.ids, loaded.eos_id]]
        assert np.array_equal(np.frombuffer(out.read_bytes(f"tokens/{number:05d}.bin"), "<u4"), np.array(theirs)), "other ids"
        n_tokens += len(theirs)
    n_bytes = sum(len(t.encode()) for t in texts)
    return {
        f"{group}.ratio_vs_tokenizers": round(spent["encode_batch"] / spent["ours"], 3),
        f"{group}.ratio_vs_tokenizers_fast": round(spent["encode_batch_fast"] / spent["ours"], 3),
        f"{group}.mb_per_s_per_core": round(n_bytes / 1e6 / spent["ours"], 2), f"{group}.tokens": n_tokens,
        f"{group}.mb": round(n_bytes / 1e6, 1), f"{group}.vocab_size": loaded.vocab_size,
    }  # fmt: skip


def write_texts(path: str, texts: list[str]) -> str:
    """Documents as ``select`` writes them, as far as tokenisation looks."""
    keys, sizes = np.arange(len(texts)), np.ones(len(texts), np.int64)
    columns = {"doc_key": keys, "text": pa.array(texts, pa.large_string()), "minhash_cluster_size": sizes}
    pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=2000)
    return path


if __name__ == "__main__":
    main()
