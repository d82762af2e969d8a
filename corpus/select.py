"""Pass 2: duplicates go, repeated text and benchmark overlaps go, and what is left is sorted into named sets with held-out parts.

Set rules are tried in the recipe's order; the first that fits takes the document. A document no rule takes is dropped with a reason
that says which score it had. Held-out documents and shares are drawn by a hash of the document's id, so adding documents never
moves another one; near-duplicates cannot straddle the border because deduplication came first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from corpus.draw import unit_interval
from corpus.ledger import Ledger
from corpus.outputs import Outputs
from corpus.passes import OpenStage, drop, open_stages, peak_rss_mb, run_stages
from corpus.repeated.params import RepeatedTextParams
from corpus.repeated.removal import RepeatedText
from corpus.stage import KEEP, Outcome, Resources, Stage
from store.artifact import Receipt
from store.errors import InputError
from store.executor import Task
from store.fs import Folder, open_input
from store.params import Params
from store.schema import KEY

HELDOUT = "-heldout"
DUPLICATES = ("exact_duplicate", "near_duplicate")
UNSELECTED = ("no_set", "not_sampled")


class Bounds(Params):
    """Bounds of a column of numbers, both inclusive."""

    min: float | None = Field(default=None, description="Smallest value that fits; null: no bound.")
    max: float | None = Field(default=None, description="Largest value that fits; null: no bound.")


class SetRule(Params):
    """Which documents make a set."""

    column: str | None = Field(default=None, description="Score column to look at, e.g. score_medical; null: any document fits.")
    min: float | None = Field(default=None, description="Smallest score that fits; null: no bound.")
    max: float | None = Field(default=None, description="Largest score that fits; null: no bound.")
    where: dict[str, str | tuple[str, ...] | Bounds] = Field(
        default={}, description="Further columns, all of which must fit: a label, a list of labels, or {min: , max: } of a number."
    )
    share: float = Field(default=1.0, ge=0.0, le=1.0, description="Share of the fitting documents to take, drawn by id.")
    heldout: float = Field(default=0.0, ge=0.0, le=0.5, description="Share of the taken documents held out for evaluation.")


class SelectParams(Params):
    """Sets in the order in which they are tried."""

    sets: dict[str, SetRule] = Field(default={"domain": SetRule()}, description="Set name -> rule; first fit wins.", min_length=1)


@dataclass(frozen=True)
class Duplicates:
    """The clusters file as sorted arrays: lookups are two binary searches, no strings and no dictionary.

    Attributes:
        keys: [n] int64 sorted doc_keys of members of clusters of two or more.
        survivors: [n] int64 key of the member that stays.
        sizes: [n] int32 cluster size.
        exact: [n] bool, the member's text equals the survivor's.
    """

    keys: npt.NDArray[np.int64]
    survivors: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int32]
    exact: npt.NDArray[np.bool_]

    @classmethod
    def read(cls, url: str | None) -> Duplicates:
        """Read clusters.parquet; None gives an empty one. Memory: 21 bytes per member of a cluster."""
        if url is None:
            none = np.zeros(0, np.int64)
            return cls(none, none, np.zeros(0, np.int32), np.zeros(0, np.bool_))
        with open_input(url) as handle:
            return cls.of(pq.read_table(handle))

    @classmethod
    def of(cls, table: pa.Table) -> Duplicates:
        """Rows of store.schema.CLUSTERS, in order of key."""
        exact = pc.equal(table["level"], "exact").to_numpy()
        return cls(table[KEY.name].to_numpy(), table["survivor_key"].to_numpy(), table["cluster_size"].to_numpy(), exact)

    def judge(self, keys: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int64]]:
        """(verdict by DUPLICATES, cluster size) of each key."""
        at = np.searchsorted(self.keys, keys)
        found = np.zeros(len(keys), np.bool_)
        inside = at < len(self.keys)
        found[inside] = self.keys[at[inside]] == keys[inside]
        verdict = np.full(len(keys), KEEP, np.int16)
        size = np.ones(len(keys), np.int64)
        if found.any():
            hit = at[found]
            size[found] = self.sizes[hit]
            verdict[found] = np.where(self.survivors[hit] == keys[found], KEEP, np.where(self.exact[hit], 0, 1))
        return verdict, size


class ClustersFile:
    """The clusters file, of which a file of documents needs those of its keys: rows are in order of key, a million to a row group."""

    def __init__(self, url: str | None) -> None:
        self.url, self.ends = url, np.zeros((0, 2), np.int64)
        self.held: tuple[tuple[int, ...], Duplicates] = ((), Duplicates.read(None))
        if url is not None:
            with open_input(url) as handle:
                groups = pq.read_metadata(handle)
            stats = [groups.row_group(i).column(0).statistics for i in range(groups.num_row_groups)]
            self.ends = np.array([(s.min, s.max) for s in stats], np.int64).reshape(-1, 2)

    def of(self, file: pq.ParquetFile) -> Duplicates:
        """What the file of documents needs. Memory: 21 bytes per member of a cluster in the row groups that its keys touch."""
        at = file.schema_arrow.names.index(KEY.name)
        stats = [file.metadata.row_group(i).column(at).statistics for i in range(file.metadata.num_row_groups)]
        if not stats or not len(self.ends) or self.url is None:
            return Duplicates.read(None)
        least, most = min(s.min for s in stats), max(s.max for s in stats)
        wanted = tuple(np.flatnonzero((self.ends[:, 1] >= least) & (self.ends[:, 0] <= most)).tolist())
        if wanted != self.held[0]:
            with open_input(self.url) as handle:
                self.held = (wanted, Duplicates.of(pq.ParquetFile(handle).read_row_groups(list(wanted))))
        return self.held[1]


class ScoredFile(Protocol):
    """Scores that another step computed (corpus.scoring.attach): the stage that attaches those of a file."""

    def open(self, key: str) -> OpenStage: ...


class SelectWorker:
    """A kept file of pass 1 into one file per set, plus dropped/."""

    def __init__(
        self,
        folder: Folder,
        params: SelectParams,
        clusters: str | None,
        stages: tuple[Stage, ...],
        resources: Resources,
        dropped_text_share: float,
        repeated: tuple[RepeatedTextParams, Folder] | None = None,
        scored: Sequence[ScoredFile] = (),
    ) -> None:
        self.folder, self.params, self.text_share = folder, params, dropped_text_share
        self.clusters = ClustersFile(clusters)
        # Repeated text goes first: a benchmark's page or a filter should see what is left.
        cutting = [RepeatedText.read(repeated[1]).open(repeated[0])] if repeated else []
        self.stages = cutting + open_stages(stages, resources)
        self.scored = tuple(scored)

    def run(self, task: Task) -> Receipt:
        """payload: {"file": path or URL of the kept file}."""
        begin = time.perf_counter()
        ledger = Ledger()
        with Outputs(self.folder, task.key) as outputs, open_input(str(task.payload["file"])) as handle:
            kept = pq.ParquetFile(handle, page_checksum_verification=True)
            duplicates = self.clusters.of(kept)
            # Scores first: a page below a threshold need not be judged by what follows.
            stages = [s.open(task.key) for s in self.scored] + self.stages
            for batch in kept.iter_batches(1000):
                ledger.counts["read"] += batch.num_rows
                self._select(batch, duplicates, stages, outputs, ledger)
            files = outputs.close()
        ledger.check(f"select {task.key}")
        ledger.took("total", time.perf_counter() - begin)
        timing = {**ledger.timing, "peak_rss_mb": peak_rss_mb()}
        return Receipt(key=task.key, files=tuple(files), counts=dict(ledger.counts), data=ledger.data(), timing=timing)

    def _select(
        self, batch: pa.RecordBatch, duplicates: Duplicates, stages: Sequence[OpenStage], outputs: Outputs, ledger: Ledger
    ) -> None:
        verdict, sizes = duplicates.judge(batch.column(KEY.name).to_numpy())
        # The source's own cluster size (FineWeb2 is deduplicated already) multiplies with ours; rehydration needs the product.
        old = batch.column("minhash_cluster_size").fill_null(1).to_numpy(zero_copy_only=False)
        at = batch.schema.get_field_index("minhash_cluster_size")
        batch = batch.set_column(at, "minhash_cluster_size", pa.array(np.maximum(old, 1) * sizes, pa.int64()))
        batch = drop(batch, "dedup", DUPLICATES, Outcome(verdict=verdict), outputs, ledger, self.text_share)
        batch = run_stages(batch, stages, outputs, ledger, self.text_share)
        if batch.num_rows:
            self._into_sets(batch, outputs, ledger)

    def _into_sets(self, batch: pa.RecordBatch, outputs: Outputs, ledger: Ledger) -> None:
        names = list(self.params.sets)
        ids, keys = batch.column("id"), batch.column(KEY.name)
        which, score = assign(batch, self.params)
        verdict = np.where(which < 0, np.int16(0), np.int16(KEEP)).astype(np.int16)
        sampled = unit_interval(ids, keys, "share")
        held = unit_interval(ids, keys, "heldout")
        for i, name in enumerate(names):
            rule = self.params.sets[name]
            mine = which == i
            verdict[mine & (sampled >= rule.share)] = 1
            for suffix, part in (("", held >= rule.heldout), (HELDOUT, held < rule.heldout)):
                rows = mine & (verdict == KEEP) & part
                if rows.any():
                    chosen = batch.filter(pa.array(rows))
                    outputs.sink(name + suffix, chosen.schema).write(chosen)
                    ledger.counts[f"kept/{name}{suffix}"] += int(rows.sum())
        drop(batch, "select", UNSELECTED, Outcome(verdict=verdict, value=score), outputs, ledger, self.text_share)


def assign(batch: pa.RecordBatch, params: SelectParams) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """([n] index of the first rule that fits or -1, [n] the score of the last rule that looked at one)."""
    n = batch.num_rows
    which, last = np.full(n, -1, np.int64), np.full(n, np.nan)
    for i, rule in enumerate(params.sets.values()):
        fits = np.ones(n, np.bool_)
        if rule.column is not None:
            last = _numbers(batch, rule.column)
            fits &= _within(last, rule)
        for column, wanted in rule.where.items():
            fits &= _within(_numbers(batch, column), wanted) if isinstance(wanted, Bounds) else _labelled(batch, column, wanted)
        which[(which < 0) & fits] = i
    return which, last


def _numbers(batch: pa.RecordBatch, column: str) -> npt.NDArray[np.float64]:
    """A column of numbers; InputError if there is none of this name or it holds something else."""
    kind = _kind(batch, column)
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise InputError(f"the column {column} holds no numbers but {kind}", where="corpus.select.sets",
                         expected="the score column of a stage, such as score_medical; labels go to where")  # fmt: skip
    return batch.column(column).to_numpy(zero_copy_only=False).astype(np.float64)


def _within(values: npt.NDArray[np.float64], bounds: SetRule | Bounds) -> npt.NDArray[np.bool_]:
    fits = np.ones(len(values), np.bool_)
    fits &= (values >= bounds.min) if bounds.min is not None else True
    fits &= (values <= bounds.max) if bounds.max is not None else True
    return fits


def _labelled(batch: pa.RecordBatch, column: str, wanted: str | tuple[str, ...]) -> npt.NDArray[np.bool_]:
    kind = _kind(batch, column)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(f"the column {column} holds no labels but {kind}", where="corpus.select.sets",
                         expected="a column of labels, or bounds such as {min: 0.5}")  # fmt: skip
    labels = pa.array([wanted] if isinstance(wanted, str) else list(wanted), kind)
    return np.asarray(pc.is_in(batch.column(column), value_set=labels).to_numpy(zero_copy_only=False), np.bool_)


def _kind(batch: pa.RecordBatch, column: str) -> pa.DataType:
    if column not in batch.schema.names:
        raise InputError(f"the score column {column} does not exist", where="corpus.select.sets",
                         expected=f"one of {', '.join(batch.schema.names)}",
                         remedy="add the stage that writes it to corpus.stages")  # fmt: skip
    return batch.schema.field(column).type
