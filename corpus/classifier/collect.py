"""Texts to learn from: every unit of the source gives its labelled pages, and pages drawn by id that nobody labelled.

Both are working files of the step and not part of its artifact. A page is normalised as in pass 1 and cut to the head that the
classifier sees; drawn pages are judged by the recipe's language stage, so that pages it would drop are not counted. Memory: a batch
of the reader. Of the pages of the source a unit keeps those with a draw below a share that the step derives from their number, so what
the workers keep together is about twice the sample, whatever the size of the source.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus.classifier.labels import read_labels
from corpus.classifier.params import ClassifierParams
from corpus.draw import unit_interval
from corpus.outputs import Outputs
from corpus.passes import peak_rss_mb
from corpus.source import FileSource, Unit, is_damage, read_unit, salvage
from corpus.stage import KEEP, Resources, Stage
from corpus.stages.normalise import Normalise
from store.artifact import Receipt
from store.errors import InputError
from store.executor import Task
from store.fs import Folder, open_input

TEXTS, SAMPLE = "texts", "sample"
SOURCE_STAGES = (Normalise(stage="normalise"),)
"""What pages pass before they are learnt from; part of the identity of a classifier."""
COLLECTED = pa.schema(
    [("id", pa.string()), ("label", pa.string()), ("group", pa.string()), ("host", pa.string()), ("text", pa.large_string())]
)
SAMPLED = pa.schema(
    [("id", pa.string()), ("draw", pa.float64()), ("passed", pa.bool_()), ("n_chars", pa.int32()), ("text", pa.large_string())]
)


class CollectWorker:
    """A unit of the source into the heads of its labelled pages and of the drawn ones."""

    def __init__(
        self, folder: Folder, source: FileSource, params: ClassifierParams, on_bad_input: str = "fail", sample_share: float = 0.0,
        filters: Sequence[Stage] = (), resources: Resources | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.source, self.params, self.on_bad_input = folder, source, params, on_bad_input
        self.sample_share = sample_share
        labels = read_labels(params)
        self.ids, self.labels, self.groups = (pa.array(labels[c].to_list(), pa.string()) for c in ("id", "label", "group"))
        self.normalise = SOURCE_STAGES[0].open({})
        self.filters = [f.open(resources or {}) for f in filters]

    def run(self, task: Task) -> Receipt:
        begin, unit = time.perf_counter(), Unit.model_validate(dict(task.payload))
        unreadable: Counter[str] = Counter()
        try:
            counts = self._collect(unit, task.key)
        except InputError as error:
            if self.on_bad_input != "quarantine" or not is_damage(error):
                raise
            unit, lost = salvage(unit, self.source)
            unreadable["unreadable"] = len(lost)  # pass 1 meets the same, and quarantines it by name
            counts = self._collect(unit, task.key)
        # The texts are working files: the receipt does not list them, so the commit removes them.
        timing = {"collect": time.perf_counter() - begin, "peak_rss_mb": peak_rss_mb()}
        return Receipt(key=task.key, counts=dict(counts + unreadable), timing=timing)

    def _collect(self, unit: Unit, key: str) -> Counter[str]:
        counts: Counter[str] = Counter()
        with Outputs(self.folder, key) as outputs:
            for batch in read_unit(unit, self.source, lambda *_: None):
                labelled, drawn = self._labelled(batch), self._drawn(batch)
                outputs.sink(TEXTS, COLLECTED).write(labelled)
                outputs.sink(SAMPLE, SAMPLED).write(drawn)
                counts.update({"pages": batch.num_rows, "labelled": labelled.num_rows})
            outputs.close()
        return counts

    def _labelled(self, batch: pa.RecordBatch) -> pa.Table:
        at = pc.index_in(batch.column("id"), value_set=self.ids)
        batch, at = batch.filter(pc.is_valid(at)), at.drop_null()
        hosts = pa.array([host_of(u) for u in batch.column("url").to_pylist()], pa.string())
        columns = [batch.column("id"), self.labels.take(at), self.groups.take(at), hosts, self._head(self._text(batch))]
        return pa.table(columns, schema=COLLECTED)

    def _drawn(self, batch: pa.RecordBatch) -> pa.Table:
        if self.sample_share <= 0.0:
            return SAMPLED.empty_table()
        draws = unit_interval(batch.column("id"), batch.column("doc_key"), "classifier_sample")
        chosen = pa.array(draws < self.sample_share)
        batch = batch.filter(chosen)
        text = self._text(batch)
        batch = batch.set_column(batch.schema.get_field_index("text"), "text", text)
        passed = np.ones(batch.num_rows, np.bool_)
        for judge in self.filters:
            if (verdict := judge(batch).verdict) is not None:
                passed &= verdict == KEEP
        names = pc.coalesce(batch.column("id"), pc.cast(batch.column("doc_key"), pa.string()))
        head = pc.if_else(pa.array(passed), self._head(text), pa.scalar("", pa.large_string()))
        lengths = pc.utf8_length(text).cast(pa.int32())
        return pa.table([names, pa.array(draws).filter(chosen), pa.array(passed), lengths, head], schema=SAMPLED)

    def _text(self, batch: pa.RecordBatch) -> pa.Array:
        return self.normalise(batch).columns.get("text", batch.column("text"))

    def _head(self, text: pa.Array) -> pa.Array:
        return pc.utf8_slice_codeunits(text, 0, self.params.max_chars).cast(pa.large_string())


def host_of(url: str | None) -> str | None:
    """The host of an address; null without one, and for what is no address."""
    try:
        return (urlsplit(url).netloc or None) if url else None
    except ValueError:  # "http://[": such a page is a host of its own
        return None


def collected(folder: Folder, kind: str, schema: pa.Schema) -> pa.Table:
    """Everything the workers wrote of a kind; half a file that a killed attempt left under a temporary name is passed over."""

    def tables() -> Iterator[pa.Table]:
        for name in folder.names(kind):
            if name.endswith(".parquet"):
                with open_input(folder.path(name)) as handle:
                    yield pq.read_table(handle, schema=schema)

    return pa.concat_tables([schema.empty_table(), *tables()])
