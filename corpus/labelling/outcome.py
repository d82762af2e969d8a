"""Votes to files: labels.parquet, votes.parquet, unlabelled.parquet, and a summary whose counts add up."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.labelling.answer import FAILURES
from corpus.labelling.ask_params import AskParams
from corpus.labelling.ballot import NOT_A_LABEL, Ballot
from corpus.labelling.kappa import agreement, table_of
from corpus.labelling.pages import PagesFile
from corpus.labelling.request import Voter
from store.artifact import Artifact, Draft, Receipt
from store.fs import FileEntry
from store.params import Json

LABELS, VOTES, UNLABELLED = "labels.parquet", "votes.parquet", "unlabelled.parquet"
LABELS_SCHEMA = pa.schema([("id", pa.string()), ("label", pa.string())])
VOTES_SCHEMA = pa.schema([("id", pa.string()), ("voter", pa.string()), ("label", pa.string()), ("reason", pa.string())])
UNLABELLED_SCHEMA = pa.schema([("id", pa.string()), ("reason", pa.string())])
KAPPA_SEED = 1


def write_outcome(
    draft: Draft, params: AskParams, voters: Sequence[Voter], file: PagesFile, ballot: Ballot, provenance: Mapping[str, Json]
) -> Artifact:
    """Decide, write and commit."""
    decided, reasons = ballot.decide(params.vote)
    has = pa.array(decided >= 0)
    ids = file.ids.combine_chunks()
    labels = pa.DictionaryArray.from_arrays(pa.array(decided[decided >= 0], pa.int32()), pa.array(params.names)).cast(pa.string())
    files = [
        _write(draft, LABELS, pa.table([ids.filter(has), labels], schema=LABELS_SCHEMA)),
        _write(draft, VOTES, _votes(voters, ids, ballot)),
        _write(draft, UNLABELLED, pa.table([ids.filter(pa.array(decided < 0)), pa.array([r for r in reasons if r], pa.string())],
                                           schema=UNLABELLED_SCHEMA)),
    ]  # fmt: skip
    unlabelled = Counter(r for r in reasons if r)
    counts = {"read": len(file), "labelled": int((decided >= 0).sum()), **{f"unlabelled/{r}": n for r, n in sorted(unlabelled.items())}}
    summary: dict[str, Json] = {
        "pages": len(file), "labelled": counts["labelled"], "unlabelled": dict(sorted(unlabelled.items())),
        "labels": {name: int((decided == i).sum()) for i, name in enumerate(params.names)}, "vote": params.vote,
        "voters": [_voter(v, ballot) for v in voters], "agreement": _agreement(voters, ballot),
    }  # fmt: skip
    return draft.commit([Receipt(key="all", files=tuple(files), counts=counts)], summary=summary, provenance=provenance)


def _write(draft: Draft, name: str, table: pa.Table) -> FileEntry:
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return draft.folder.write_bytes(name, out.getvalue(), n_rows=table.num_rows)


def _votes(voters: Sequence[Voter], ids: pa.Array, ballot: Ballot) -> pa.Table:
    """A row for each page and voter, page by page."""
    n_voters, n_pages = ballot.codes.shape
    codes = ballot.codes.T.reshape(-1).astype(np.int32)
    pages = pa.array(np.repeat(np.arange(n_pages), n_voters))
    names = pa.array([v.name for v in voters], pa.string()).take(pa.array(np.tile(np.arange(n_voters), n_pages)))
    label = pa.array(list(ballot.labels), pa.string()).take(pa.array(codes, mask=codes < 0))
    reason = pa.array(list(NOT_A_LABEL), pa.string()).take(pa.array(-2 - codes, mask=codes >= 0))
    return pa.table([ids.take(pages), names, label, reason], schema=VOTES_SCHEMA)


def _voter(voter: Voter, ballot: Ballot) -> dict[str, Json]:
    """``failure_rate`` is the share of pages whose answer was no label after all tries, of the pages that were answered."""
    codes, again = ballot.codes[voter.index], ballot.again[voter.index]
    votes = {name: int((codes == i).sum()) for i, name in enumerate(ballot.labels)}
    failed = {r: n for i, r in enumerate(NOT_A_LABEL) if (n := int((codes == -2 - i).sum()))}
    n_failed = sum(failed.get(r, 0) for r in FAILURES)
    n_answered = sum(votes.values()) + n_failed
    return {
        "name": voter.name, "model": voter.model.name, "prompt": voter.prompt.name, "votes": dict(votes), "without_label": dict(failed),
        "asked_again": int((again > 0).sum()), "failure_rate": round(n_failed / n_answered, 6) if n_answered else None,
    }  # fmt: skip


def _agreement(voters: Sequence[Voter], ballot: Ballot) -> list[Json]:
    """Each pair of voters, in their order."""
    pairs = [(a, b) for i, a in enumerate(voters) for b in voters[i + 1 :]]
    found: list[Json] = []
    for a, b in pairs:
        table = table_of(ballot.codes[a.index], ballot.codes[b.index], len(ballot.labels))
        found.append({"a": a.name, "b": b.name, **asdict(agreement(table, KAPPA_SEED))})
    return found
