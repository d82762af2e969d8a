"""A small corpus as the filtering pass leaves it: signatures/ and kept/ of an artifact, with copies planted at known similarities."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.dedup import DedupParams, connect, signatures_of
from corpus.dedup.grouping import BYTES_PER_DOC
from corpus.dedup.verify import MEMBER_BYTES
from corpus.signature import Signature
from store.artifact import Draft, Identity, Receipt
from store.executor import SerialExecutor
from store.fs import Folder

WORDS = 300


def page(random, vocabulary=20_000):
    return [letters(n) for n in random.integers(0, vocabulary, WORDS)]


def letters(number):
    """A word for a number, without digits, which bands do not see."""
    return "".join(chr(97 + int(number) // 26**k % 26) for k in range(7))


def edited(words, random, n):
    """The page with n words replaced, far from each other: each breaks five shingles of its own."""
    out = list(words)
    for at in random.permutation(WORDS // 10)[:n] * 10:
        out[at] = letters(random.integers(10**6, 8 * 10**9))
    return out


def corpus(seed=0):
    """120 pages: 40 originals, 40 copies with 0 to 13 words changed, 40 of numbers that differ only in them."""
    random = np.random.default_rng(seed)
    originals = [page(random) for _ in range(40)]
    copies = [edited(words, random, i % 14) for i, words in enumerate(originals)]
    table = [
        f"Am {random.integers(1, 10**6)} waren es {random.integers(1, 10**6)} von {random.integers(1, 10**6)} Stück" for _ in range(400)
    ]
    tables = [" ".join(random.permutation(table)[:40]) for _ in range(40)]
    return [*map(" ".join, originals), *map(" ".join, copies), *tables]


def shingles(text):
    words = text.lower().split()
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def run(tmp_path, artifact, executor=None, name="dedup", earlier=(), **params):
    signatures, documents = signatures_of(artifact, earlier)
    found = DedupParams(**{k: v for k, v in params.items() if not k.endswith("_per_task")})
    # Memories no user may ask for, set past validation.
    for limit, size in (("members_per_task", MEMBER_BYTES), ("docs_per_task", BYTES_PER_DOC)):
        if limit in params:
            found = found.model_copy(update={"task_memory_mb": params[limit] * size / 1e6})
    return connect(
        Draft.begin(Folder(str(tmp_path / name)), Identity("dedup", 1, {})), executor or SerialExecutor(), signatures, found, documents
    )


def clusters(artifact):
    rows = pq.read_table(artifact.path("clusters.parquet")).to_pylist()
    return {r["doc_key"]: r["survivor_key"] for r in rows}


@pytest.fixture
def small():
    """The functions above, for tests: test files cannot import each other."""
    return SimpleNamespace(page=page, edited=edited, corpus=corpus, shingles=shingles, run=run, clusters=clusters)


@pytest.fixture
def write_corpus(tmp_path):
    """write_corpus(name, texts, stage, first_unit): an artifact of units of 40 pages; ids are ``name-row``."""

    def write(name, texts, stage=None, first_unit=0, dates=None):
        stage = stage or Signature(buckets=20, hashes_per_bucket=6)
        params = {"stages": [{**stage.model_dump(mode="json"), "version": stage.version}], "name": name}
        draft, files = Draft.begin(Folder(str(tmp_path / name)), Identity("documents", 1, params)), []
        apply = stage.open({})
        for unit, begin in enumerate(range(0, len(texts), 40), start=first_unit):
            rows = texts[begin : begin + 40]
            keys = pa.array(np.arange(len(rows)) + (unit << 32))
            ids = [f"{name}-{begin + i}" for i in range(len(rows))]
            when = dates[begin : begin + 40] if dates else [None] * len(rows)
            columns = {"doc_key": keys, "id": ids, "url": ids, "date": pa.array(when, pa.string())}
            columns["minhash_cluster_size"] = pa.nulls(len(rows), pa.int64())
            score = np.arange(begin, begin + len(rows)) % 7 / 7
            kept = pa.table({**columns, "score": score, "text": pa.array(rows, pa.large_string())})
            signed = apply(kept.to_batches()[0])
            for prefix, table in (("kept", kept), ("signatures", pa.table({"doc_key": keys, **signed.columns}))):
                with draft.folder.writing(f"{prefix}/{unit:06d}.parquet") as out:
                    pq.write_table(table, out)
                files.append(draft.folder.entry(f"{prefix}/{unit:06d}.parquet", n_rows=len(rows)))
        return draft.commit([Receipt(key="all", files=tuple(files))])

    return write
