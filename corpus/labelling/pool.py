"""The pool of a round: pages of the source with a small draw, normalised as in pass 1, that the recipe's language stage keeps.

Pools are working files of the step, a file a unit. Memory: a batch of the reader. With a classifier the worker scores the pool as pass
1 would (the stage score). Pages without an id are counted and left out: nobody could say which page a label is for. Pages of earlier
rounds are left out too.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus.classifier.collect import SOURCE_STAGES, host_of
from corpus.draw import unit_interval
from corpus.outputs import Outputs
from corpus.passes import peak_rss_mb
from corpus.source import FileSource, Unit, is_damage, read_unit, salvage
from corpus.stage import KEEP, Resources, Stage
from store.artifact import Receipt
from store.errors import InputError
from store.executor import Task
from store.fs import Folder, open_input
from store.schema import KEY

POOL = "pool"
POOLED = pa.schema(
    [KEY, ("id", pa.string()), ("draw", pa.float64()), ("host", pa.string()), ("n_chars", pa.int32()),
     ("language_score", pa.float64()), ("score", pa.float64()), ("text", pa.large_string())]
)  # fmt: skip
"""``n_chars`` of the whole page; ``text`` is its head; ``score`` null without a classifier."""
SCORE = "score"
Bools = npt.NDArray[np.bool_]


class PoolWorker:
    """A unit of the source into its part of the pool.

    Args:
        folder, source, on_bad_input: as pass 1 takes them.
        share: pages with draws below are of the pool.
        salt: of the draws.
        max_chars: of a head.
        earlier: Parquet files with a column id: pages of earlier rounds.
        judges: stages that drop pages (language), then any that add the column ``score``; resources: what they need.
    """

    def __init__(
        self, folder: Folder, source: FileSource, share: float, salt: str, max_chars: int, on_bad_input: str = "fail",
        earlier: Sequence[str] = (), judges: Sequence[Stage] = (), resources: Resources | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.source, self.on_bad_input = folder, source, on_bad_input
        self.share, self.salt, self.max_chars = share, salt, max_chars
        self.earlier = ids_of(earlier)
        self.normalise = SOURCE_STAGES[0].open({})
        self.judges = [(j, j.open(resources or {})) for j in judges]

    def run(self, task: Task) -> Receipt:
        begin, unit = time.perf_counter(), Unit.model_validate(dict(task.payload))
        lost = 0
        try:
            counts = self._read(unit, task.key)
        except InputError as error:
            if self.on_bad_input != "quarantine" or not is_damage(error):
                raise
            unit, bad = salvage(unit, self.source)
            lost, counts = len(bad), self._read(unit, task.key)
        timing = {"pool": time.perf_counter() - begin, "peak_rss_mb": peak_rss_mb()}
        return Receipt(key=task.key, counts=dict(counts + Counter(unreadable=lost)), timing=timing)

    def _read(self, unit: Unit, key: str) -> Counter[str]:
        counts: Counter[str] = Counter()
        with Outputs(self.folder, key) as outputs:
            for batch in read_unit(unit, self.source, lambda *_: None):
                counts["read"] += batch.num_rows
                outputs.sink(POOL, POOLED).write(self._pooled(batch, counts))
            outputs.close()
        return counts

    def _pooled(self, batch: pa.RecordBatch, counts: Counter[str]) -> pa.Table:
        named = pc.fill_null(pc.greater(pc.utf8_length(batch.column("id")), 0), False)
        batch, n = batch.filter(named), batch.num_rows
        counts["without_id"] += n - batch.num_rows
        draws = unit_interval(batch.column("id"), batch.column(KEY.name), self.salt)
        small = pa.array(draws < self.share)
        counts["not_drawn"] += batch.num_rows - int(pc.sum(small).as_py() or 0)
        batch, draws = batch.filter(small), draws[draws < self.share]
        if self.earlier is not None:
            new = pc.invert(pc.is_in(batch.column("id"), value_set=self.earlier))
            counts["earlier_round"] += batch.num_rows - int(pc.sum(new).as_py() or 0)
            batch, draws = batch.filter(new), draws[np.asarray(new.to_numpy(zero_copy_only=False), np.bool_)]
        return self._judged(batch, draws, counts)

    def _judged(self, batch: pa.RecordBatch, draws: npt.NDArray[np.float64], counts: Counter[str]) -> pa.Table:
        batch = _with(batch, "text", self.normalise(batch).columns.get("text", batch.column("text")))
        for stage, judge in self.judges:
            outcome = judge(batch)
            for name, column in outcome.columns.items():
                batch = _with(batch, name, column)
            if outcome.verdict is not None:
                kept = outcome.verdict == KEEP
                for reason, number in enumerate(np.bincount(outcome.verdict[~kept], minlength=0).tolist()):
                    if number:
                        counts[f"dropped/{stage.name}/{stage.all_reasons()[reason]}"] += number
                batch, draws = batch.filter(pa.array(kept)), draws[kept]
        counts["pool"] += batch.num_rows
        n, text = batch.num_rows, batch.column("text")
        score = batch.column(SCORE).cast(pa.float64()) if SCORE in batch.schema.names else pa.nulls(n, pa.float64())
        hosts = pa.array([host_of(u) for u in batch.column("url").to_pylist()], pa.string())
        columns = [
            batch.column(KEY.name), batch.column("id"), pa.array(draws), hosts, pc.utf8_length(text).cast(pa.int32()),
            batch.column("language_score"), score,
            pc.utf8_slice_codeunits(text, 0, self.max_chars).cast(pa.large_string()),
        ]  # fmt: skip
        return pa.table(columns, schema=POOLED)


def _with(batch: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    at = batch.schema.get_field_index(name)
    return batch.set_column(at, name, column) if at >= 0 else batch.append_column(name, column)


def ids_of(files: Sequence[str]) -> pa.Array | None:
    """The column id of Parquet files; None without a file."""
    parts = []
    for url in files:
        with open_input(url) as handle:
            parts.append(pq.read_table(handle, columns=["id"])["id"].combine_chunks())
    return pa.concat_arrays(parts) if parts else None
