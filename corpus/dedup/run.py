"""The whole of it: scatter if need be, group by band, join, verify if asked to, choose survivors, commit.

What fits a task's memory is joined here, in one array; more is joined range by range (corpus/dedup/join.py), to the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from corpus.dedup.clusters import Ranking, rows_of, write_clusters
from corpus.dedup.components import DisjointSets, members
from corpus.dedup.displaced import write_displaced
from corpus.dedup.exchange import Cut, GroupWorker, ScatterWorker
from corpus.dedup.join import Components, join
from corpus.dedup.params import DedupParams
from corpus.dedup.ranges import read_edges, write_npy
from corpus.dedup.signatures import Signatures
from corpus.dedup.survivors import survivors
from corpus.dedup.verify import verify
from corpus.dedup.work import Work
from corpus.shingles import Grams
from store.artifact import Artifact, Draft, Receipt
from store.executor import Executor

COMPONENTS = "components.npy"

WORD_5_GRAMS = Grams(5)


def connect(
    draft: Draft,
    executor: Executor,
    signatures: Signatures,
    params: DedupParams,
    documents: Sequence[str] = (),
    grams: Grams = WORD_5_GRAMS,
) -> Artifact:
    """Find the clusters of duplicates and commit them as ``clusters.parquet`` (store.schema.CLUSTERS, in order of doc_key), and
    beside it the earlier documents that lose to a new one (corpus/dedup/displaced.py).

    Args:
        documents: files of the same documents, in the order of the signature files: their text for ``min_jaccard``, and the column that
            ``keep: best`` or ``newest`` looks at.
        grams: what a shingle of the signatures is made of.

    ``level`` is "exact" where the member's exact hash is its survivor's, else "minhash". Memory here, if the documents are one range:
    5 bytes per document (9 from 2^32 documents), the edges of one task, and clusters.MEMBER_BYTES per document that has a duplicate; if
    they are several: a row group. Errors of tasks are the executor's StepError.
    """
    work, ranking = Work(draft, executor), Ranking.of(params, documents)
    cut = Cut.of(signatures, params, signatures.n_bands() if params.minhash else 0)
    edges = _proposed(work, signatures, cut)
    rows: Iterable[pa.Table]
    if cut.ranges.n <= 1:
        sets = _in_memory(work, edges, signatures.n_docs)
        if params.min_jaccard is not None:
            held = verify(work, signatures, documents, grams, _components(work, sets, cut, signatures), params)
            sets = _in_memory(work, held, signatures.n_docs)
        roots = sets.roots()
        rows = [rows_of(roots, members(roots), signatures, ranking)]
    else:
        components = join(work, "proposals", edges, cut.ranges, signatures.n_rows)
        if params.min_jaccard is not None:
            held = verify(work, signatures, documents, grams, components, params)
            components = join(work, "confirmed", held, cut.ranges, signatures.n_rows)
        rows = survivors(work, signatures, components, ranking)
    entry, counts = write_clusters(draft.folder, rows)
    lost = write_displaced(draft.folder, signatures, documents)
    # Hashes on their way, shingles and edges are no part of the result: no receipt that commit sees lists them, so it removes them.
    compared: Counter[str] = Counter()
    for receipt in work.receipts:
        compared.update({k: n for k, n in receipt.counts.items() if k in ("compared", "confirmed")})
    done = [Receipt(key=r.key, timing=r.timing) for r in work.receipts]
    summary = {
        "n_docs": signatures.n_docs,
        **counts,
        "n_earlier": signatures.n_earlier,
        "n_displaced": lost.n_rows if lost else 0,
        **compared,
    }
    return draft.commit(done, files=[entry, *([lost] if lost else [])], summary=summary)


def _proposed(work: Work, signatures: Signatures, cut: Cut) -> list[str]:
    """Files of edges between documents that share an exact hash or a band."""
    kwargs: dict[str, object] = {"signatures": signatures, "cut": cut}
    scattered = work.map("exchanging hashes", ScatterWorker, kwargs, cut.scatter_tasks(signatures), cut.bytes_per_doc)
    kwargs["scattered"] = [r.files[0].name for r in scattered]
    return [r.files[0].name for r in work.map("grouping by hash", GroupWorker, kwargs, cut.group_tasks(signatures.n_docs))]


def _in_memory(work: Work, files: Sequence[str], n_docs: int) -> DisjointSets:
    sets = DisjointSets(n_docs)
    for name in files:
        for edges in read_edges(work.out.path(name), 0, 1):
            sets.union(edges)
    return sets


def _components(work: Work, sets: DisjointSets, cut: Cut, signatures: Signatures) -> Components:
    """The components in memory, written for the tasks that verify them."""
    roots = sets.roots()
    member = members(roots)
    in_file = [int(np.count_nonzero(member[a : a + n])) for a, n in zip(signatures.first, signatures.n_rows, strict=True)]
    written = roots.copy()
    written[~member] = cut.ranges.none
    write_npy(work.out, COMPONENTS, written)
    return Components(cut.ranges, (COMPONENTS,), tuple(in_file))


def signatures_of(artifact: Artifact, earlier: Sequence[Artifact] = ()) -> tuple[Signatures, tuple[str, ...]]:
    """(signature files, files of the same documents) of earlier corpora and of this one: artifacts with signatures/ and kept/."""
    files: list[tuple[str, int, int]] = []
    documents: list[str] = []
    for number, one in enumerate((*earlier, artifact), start=-len(earlier)):
        for entry in one.files("signatures/"):
            files.append((one.path(entry.name), entry.n_rows or 0, number))
            documents.append(one.path("kept/" + entry.name.removeprefix("signatures/")))
    return Signatures(tuple(f[0] for f in files), tuple(f[1] for f in files), tuple(f[2] for f in files)), tuple(documents)
