"""The whole of it: scatter if need be, group by band, join, verify if asked to, choose survivors, commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus.dedup.clusters import Index, Ranks, clusters_of
from corpus.dedup.components import DisjointSets, members
from corpus.dedup.exchange import Cut, GroupWorker, ScatterWorker, groups_of, load_npy
from corpus.dedup.params import DedupParams
from corpus.dedup.signatures import Signatures
from corpus.dedup.verify import MEMBER_BYTES, Candidates, ShingleWorker, VerifyWorker, write_components
from corpus.shingles import Grams
from store.artifact import Artifact, Draft, Receipt
from store.errors import InputError
from store.executor import Executor, Job, Task
from store.fs import open_input

WORD_5_GRAMS = Grams(5)


def connect(
    draft: Draft,
    executor: Executor,
    signatures: Signatures,
    params: DedupParams,
    documents: Sequence[str] = (),
    grams: Grams = WORD_5_GRAMS,
) -> Artifact:
    """Find the clusters of duplicates and commit them as ``clusters.parquet`` (store.schema.CLUSTERS, in order of doc_key).

    Args:
        documents: files of the same documents, in the order of the signature files: their text for ``min_jaccard``, and the column that
            ``keep: best`` or ``newest`` looks at.
        grams: what a shingle of the signatures is made of.

    ``level`` is "exact" where the member's exact hash is its survivor's, else "minhash". Memory here: 9 bytes per document, the edges
    of one task, and clusters.MEMBER_BYTES per document that has a duplicate. Errors of tasks are the executor's StepError.
    """
    proposed, receipts = _propose(draft, executor, signatures, params)
    if params.min_jaccard is not None:
        proposed, more = _verify(draft, executor, Proposal(signatures, tuple(documents), grams, proposed), params)
        receipts += more
    roots = proposed.roots()
    clusters = clusters_of(roots, members(roots), signatures, params, _ranks(params, signatures, documents))
    entry = clusters.write(draft.folder)
    # Hashes on their way, shingles and edges are no part of the result: no receipt that commit sees lists them, so it removes them.
    counts: Counter[str] = Counter()
    for receipt in receipts:
        counts.update({k: n for k, n in receipt.counts.items() if k in ("compared", "confirmed")})
    done = [Receipt(key=r.key, timing=r.timing) for r in receipts]
    return draft.commit(
        done, files=[entry], summary=clusters.summary(signatures.n_docs) | {"n_earlier": signatures.n_earlier, **counts}
    )


def _propose(draft: Draft, executor: Executor, signatures: Signatures, params: DedupParams) -> tuple[DisjointSets, list[Receipt]]:
    """Documents that share an exact hash or a band, joined."""
    cut = Cut.of(signatures, params, signatures.n_bands() if params.minhash else 0)
    scatter = cut.scatter_tasks(signatures)
    step, kwargs = draft.identity.step, {"signatures": signatures, "cut": cut, "out": draft.folder}
    scattered = executor.map(Job(step, ScatterWorker, kwargs, scatter, draft, unit="documents")) if scatter else []
    kwargs = {**kwargs, "scattered": [t.key for t in scatter]}
    grouped = executor.map(Job(step, GroupWorker, kwargs, cut.group_tasks(signatures.n_docs), draft, unit="documents"))
    return _joined(draft, signatures.n_docs, grouped), [*scattered, *grouped]


def _joined(draft: Draft, n_docs: int, receipts: Sequence[Receipt]) -> DisjointSets:
    sets = DisjointSets(n_docs)
    for receipt in receipts:
        sets.union(load_npy(draft.folder, receipt.files[0].name))
    return sets


@dataclass(frozen=True)
class Proposal:
    """Documents and the components in which bands joined them."""

    signatures: Signatures
    documents: tuple[str, ...]
    grams: Grams
    sets: DisjointSets


def _verify(draft: Draft, executor: Executor, proposal: Proposal, params: DedupParams) -> tuple[DisjointSets, list[Receipt]]:
    """The proposals that hold, joined."""
    signatures, roots = proposal.signatures, proposal.sets.roots()
    member = members(roots)
    in_file = [int(np.count_nonzero(member[a : a + n])) for a, n in zip(signatures.first, signatures.n_rows, strict=True)]
    memory = round(params.task_memory_mb * 1_000_000)
    n_parts = max(1, -(-sum(in_file) * MEMBER_BYTES // memory))
    candidates = Candidates(signatures, proposal.documents, n_parts, proposal.grams)
    write_components(draft.folder, roots, member)
    tasks = [
        Task(f"shingles-{a:06d}-{b:06d}-into-{n_parts:05d}", {"begin": a, "end": b}, max(1, sum(in_file[a:b])))
        for a, b in groups_of(in_file, max(1, memory // MEMBER_BYTES))
    ]
    step, kwargs = draft.identity.step, {"candidates": candidates, "out": draft.folder}
    shingled = executor.map(Job(step, ShingleWorker, kwargs, tasks, draft, unit="documents"))
    kwargs = {**kwargs, "min_jaccard": params.min_jaccard, "shingled": [t.key for t in tasks]}
    parts = [Task(f"verify-{p:05d}-of-{n_parts:05d}", {"part": p}, max(1, sum(in_file) // n_parts)) for p in range(n_parts)]
    verified = executor.map(Job(step, VerifyWorker, kwargs, parts, draft, unit="documents")) if tasks else []
    return _joined(draft, signatures.n_docs, verified), [*shingled, *verified]


def signatures_of(artifact: Artifact, earlier: Sequence[Artifact] = ()) -> tuple[Signatures, tuple[str, ...]]:
    """(signature files, files of the same documents) of earlier corpora and of this one: artifacts with signatures/ and kept/."""
    files: list[tuple[str, int, int]] = []
    documents: list[str] = []
    for number, one in enumerate((*earlier, artifact), start=-len(earlier)):
        for entry in one.files("signatures/"):
            files.append((one.path(entry.name), entry.n_rows or 0, number))
            documents.append(one.path("kept/" + entry.name.removeprefix("signatures/")))
    return Signatures(tuple(f[0] for f in files), tuple(f[1] for f in files), tuple(f[2] for f in files)), tuple(documents)


def _ranks(params: DedupParams, signatures: Signatures, documents: Sequence[str]) -> Ranks | None:
    if params.keep not in ("best", "newest"):
        return None
    column = "date" if params.keep == "newest" else params.by
    assert column is not None

    def ranks(keys: Index) -> npt.NDArray[np.float64]:
        """The column's values of these documents; NaN where it is null."""
        out = np.full(len(keys), np.nan)
        for n, url in enumerate(documents):
            with open_input(url) as source, pq.ParquetFile(source) as file:
                if column not in file.schema_arrow.names:
                    raise InputError(f"the documents have no column {column}", where="corpus.dedup.by",
                                     expected=f"one of {', '.join(file.schema_arrow.names)}")  # fmt: skip
                table = file.read(columns=[column], use_threads=False)
            found = signatures.keys(n)
            at = np.minimum(np.searchsorted(keys, found), max(0, len(keys) - 1))
            hit = keys[at] == found if len(keys) else np.zeros(len(found), bool)
            out[at[hit]] = as_numbers(table[column], column)[hit]
        return out

    return ranks


def as_numbers(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.float64]:
    """A column of numbers, or of dates in ISO 8601 (as seconds), as float64; NaN for null and for what is no date."""
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    if not pa.types.is_string(column.type):
        raise InputError(f"the column {name} holds {column.type}", where="corpus.dedup.by", expected="numbers or dates")
    # 2023-04-05T06:07:08Z and 2023-04-05 alike; what does not begin so is no date.
    dates = pc.replace_substring_regex(column, r"^([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]([0-9]{2}:[0-9]{2}:[0-9]{2}))?.*$", r"\1 \2")
    midnight = pc.binary_join_element_wise(pc.utf8_rtrim_whitespace(dates), "00:00:00", " ")
    padded = pc.if_else(pc.less(pc.utf8_length(dates), 15), midnight, dates)
    parsed = pc.strptime(padded, format="%Y-%m-%d %H:%M:%S", unit="s", error_is_null=True)
    return parsed.cast(pa.int64()).cast(pa.float64()).to_numpy(zero_copy_only=False)
