"""Tokens: what packing wastes, cuts and costs at full size, what tokenisation costs beside the tokenizers library, and the loader.

    python -m benchmarks.tokens [--data FOLDER] [--quick] [--only pack,peer,loader,tokenise] [--work FOLDER]

Writes benchmarks/results/tokens.json (without --data tokens-sample.json); with --only, the other sections' figures stay.

pack: a store of 7.3 M documents and 5.1 G tokens: real index files, token shards without content (sparse files), lengths log-normal
with the spread of --data's pages (or the built-in sample's), scaled to 5.1 G tokens. It is opened, planned into rows of 4,096 and
written by the worker of the step ``pack``, in a process of its own; seconds are of the processor, the peak is the process's resident
memory, imports included. Lost tokens are counted from the written plan: every piece marks its tokens.

peer: what concatenating and cutting every 4,096 tokens (datatrove, Megatron-LM) would cut, and best-fit and first-fit decreasing as a
plain program would do them, on a part of the documents.

loader: rows of the order located in the shards (index work), and rows read into arrays, over the plan above.

tokenise: TokeniseWorker (read Parquet, encode, write shard and index) against ``Tokenizer.encode_batch`` and ``encode_batch_fast`` of
the tokenizers library alone on the same texts in memory: one thread each, in turns on every 250 pages (who is first changes from round
to round), processor time. Ratios are medians over all turns, of times that followed each other; the rate is of the least times. Ids are
compared. With a byte-level BPE of 32,000 tokens trained on the pages, and with one that exists if TOKENIZER=NAME=FOLDER is set (the
figures are then called tokenise.NAME.*).
"""

from __future__ import annotations

import glob
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

os.environ.setdefault("RAYON_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from benchmarks.machine import Figures, run_sections  # noqa: E402
from benchmarks.packing_peers import peers  # noqa: E402
from benchmarks.packing_plan import SEQ_LEN, VOCAB, lengths_of, pack_figures, write_sparse  # noqa: E402
from corpus.tokenise import TokeniseWorker  # noqa: E402
from corpus.tokenizer import load_tokenizer, train_tokenizer  # noqa: E402
from store.artifact import Artifact  # noqa: E402
from store.executor import Task  # noqa: E402
from store.fs import Folder  # noqa: E402
from store.params import Json  # noqa: E402
from store.plan import PackPlan  # noqa: E402
from store.tokens import TokenStore  # noqa: E402

N_DOCS, N_TOKENS, N_SHARDS = 7_300_000, 5_100_000_000, 73
QUICK_DOCS, QUICK_TOKENS, QUICK_SHARDS = 200_000, 139_726_027, 4
CHUNK_DOCS = 250


class Job:
    """What is measured on: texts of pages, and lengths with their spread."""

    def __init__(self, data: str | None, quick: bool, work: str) -> None:
        self.quick, self.work = quick, work
        size = (QUICK_DOCS, QUICK_TOKENS, QUICK_SHARDS) if quick else (N_DOCS, N_TOKENS, N_SHARDS)
        self.texts = pages(data, work, 2_000 if quick else 10_000)
        self.spread = float(np.log([len(t) for t in self.texts]).std())
        self.lengths, self.n_shards = lengths_of(*size[:2], self.spread), size[2]
        self.result = "tokens" if data else "tokens-sample"
        self.input = f"{'real' if data else 'sample'} pages; {size[0]:,} simulated documents of {size[1]:,} tokens"
        self._planned: tuple[Artifact, Figures] | None = None

    def planned(self) -> tuple[Artifact, Figures]:
        """(store, figures of its plan); made once."""
        if self._planned is None:
            store = write_sparse(Folder(f"{self.work}/store"), self.lengths, self.n_shards)
            self._planned = store, pack_figures(self.work, store, self.lengths)
        return self._planned


def pack_section(job: Job) -> Figures:
    """The plan at full size."""
    return {"pack.log_spread_of_lengths": round(job.spread, 3), **job.planned()[1]}


def peer_section(job: Job) -> Figures:
    """Other ways to fill rows."""
    return peers(job.lengths[: 50_000 if job.quick else 200_000], SEQ_LEN)


def loader_section(job: Job) -> Figures:
    """Rows a second: ordered and located, and read into arrays (tokens of holes are zeros; they are read all the same)."""
    from training.order import RowOrder
    from training.rows import RowReader

    store = TokenStore.open(job.planned()[0])
    plan = PackPlan.open(Artifact.open(Folder(json.loads(Folder(job.work).read_bytes("plan.json")))))
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


def tokenise_section(job: Job) -> Figures:
    """A tokenizer trained on the pages, and one that exists."""
    some, rounds = job.texts[:: len(job.texts) // (500 if job.quick else 1_000)], 3 if job.quick else 8
    train_tokenizer(iter(job.texts[:: max(1, len(job.texts) // 2000)]), VOCAB, Folder(f"{job.work}/tokenizer"))
    figures = tokenise_figures(job.work, some, rounds, f"{job.work}/tokenizer", "tokenise")
    if given := os.environ.get("TOKENIZER"):
        name, _, folder = given.partition("=")
        figures |= tokenise_figures(job.work, some, rounds, folder, f"tokenise.{name}")
    return figures


def least(work: Callable[[], object], rounds: int) -> float:
    """Least processor seconds of some rounds."""
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


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
    turns: list[dict[str, float]] = []
    least_s, n_tokens = 0.0, 0
    for number, part in enumerate(parts):
        parties: dict[str, Callable[[], object]] = {
            "ours": partial(worker.run, Task(str(number), {"file": number})),
            "encode_batch": partial(loaded.tokenizer.encode_batch, part, add_special_tokens=False),
            "encode_batch_fast": partial(loaded.tokenizer.encode_batch_fast, part, add_special_tokens=False),
        }
        here = [
            {name: least(parties[name], 1) for name in [*parties][turn % 3 :] + [*parties][: turn % 3]}
            for turn in range(rounds)
        ]  # fmt: skip
        turns, least_s = turns + here, least_s + min(turn["ours"] for turn in here)
        theirs = [i for e in loaded.tokenizer.encode_batch(part, add_special_tokens=False) for i in [*e.ids, loaded.eos_id]]
        assert np.array_equal(np.frombuffer(out.read_bytes(f"tokens/{number:05d}.bin"), "<u4"), np.array(theirs)), "other ids"
        n_tokens += len(theirs)
    mb = sum(len(t.encode()) for t in texts) / 1e6
    ratios = {name: [turn[name] / turn["ours"] for turn in turns] for name in ("encode_batch", "encode_batch_fast")}
    return {
        f"{group}.ratio_vs_tokenizers": round(float(np.median(ratios["encode_batch"])), 3),
        **{f"{group}.ratio_vs_tokenizers_q{q}": round(float(np.quantile(ratios["encode_batch"], q / 4)), 3) for q in (1, 3)},
        f"{group}.ratio_vs_tokenizers_fast": round(float(np.median(ratios["encode_batch_fast"])), 3), f"{group}.turns": len(turns),
        f"{group}.mb_per_s_per_core": round(mb / least_s, 2), f"{group}.mb": round(mb, 1), f"{group}.tokens": n_tokens,
        f"{group}.vocab_size": loaded.vocab_size,
    }  # fmt: skip


def write_texts(path: str, texts: list[str]) -> str:
    """Documents as ``select`` writes them, as far as tokenisation looks."""
    keys, sizes = np.arange(len(texts)), np.ones(len(texts), np.int64)
    columns = {"doc_key": keys, "text": pa.array(texts, pa.large_string()), "minhash_cluster_size": sizes}
    pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=2000)
    return path


SECTIONS: dict[str, Callable[[Job], Figures]] = {
    "pack": pack_section, "peer": peer_section, "loader": loader_section, "tokenise": tokenise_section,
}  # fmt: skip

if __name__ == "__main__":
    run_sections(__doc__ or "", SECTIONS, Job)
