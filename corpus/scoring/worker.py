"""The tasks of scoring: a kept file of pass 1 into a file of scores; the drawn pages that the first step dropped into another.

Survivors of deduplication only: a duplicate costs nothing. A row group of survivors is one company for the batches
(corpus.scoring.scorer); while the device computes one, a thread tokenises the next, so a GPU waits for its CPUs only if they are too
few. Memory: the model, two row groups of text and token ids, and the activations of one batch.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus.draw import unit_interval
from corpus.outputs import Outputs
from corpus.passes import peak_rss_mb
from corpus.scoring.params import ScoringParams, score_schema
from corpus.scoring.recall import Tally, at_least
from corpus.scoring.scorer import Scorer
from corpus.select import ClustersFile, Duplicates
from corpus.stage import KEEP
from store.artifact import Receipt
from store.errors import StepError
from store.executor import Task
from store.fs import Folder, open_input
from store.params import Json
from store.schema import KEY

SCORES, CHECKED = "scores", "checked"
DROPPED_TEXT = "dropped_text"
"""The salt by which pass 1 draws the dropped pages whose text it keeps (corpus.passes): a smaller share is a part of these."""
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Check:
    """What is looked at to estimate the recall that a stage of pass 1 loses.

    Attributes:
        stage: its name; None: nothing is checked.
        share: share of the pages it dropped that are scored, by id.
        tests: positive test pages of the classifier: id -> score.
    """

    stage: str | None = None
    share: float = 0.0
    tests: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Company:
    """Pages that are scored together: token ids and what is known of the pages."""

    keys: pa.Array
    ids: list[list[int]]
    sizes: I64


class ScoringWorker:
    """A task: {"kept": file or null, "dropped": file or null} of one unit of the documents."""

    def __init__(
        self, folder: Folder, documents: Folder, model: Folder, params: ScoringParams, clusters: str | None, check: Check,
        device: str = "cpu",
    ) -> None:  # fmt: skip
        self.folder, self.documents, self.check = folder, documents, check
        self.scorer = Scorer.open(model, device, params.dtype, params.tokens_per_batch)
        self.schema = score_schema(self.scorer.labels)
        self.clusters = ClustersFile(clusters)

    def run(self, task: Task) -> Receipt:
        begin = time.perf_counter()
        self.counts: Counter[str] = Counter()
        tally, forward_s = Tally(), 0.0
        with Outputs(self.folder, task.key) as outputs, ThreadPoolExecutor(1) as ahead:
            sources = {SCORES: self._survivors(task.payload["kept"], tally), CHECKED: self._dropped(task.payload["dropped"], tally)}
            for name, source in sources.items():
                for company in _one_ahead(source, ahead):
                    start = time.perf_counter()
                    p_NL = self.scorer.probabilities(company.ids)
                    forward_s += time.perf_counter() - start
                    outputs.sink(name, self.schema).write(self._table(company.keys, p_NL))
                    mine = tally.found if name == SCORES else tally.checked
                    mine += at_least(p_NL[:, 0], company.sizes)
                    self.counts["scored" if name == SCORES else "checked"] += len(company.ids)
                    self.counts["tokens"] += sum(map(len, company.ids))
            files = outputs.close()
        if self.counts["read"] != self.counts["scored"] + self.counts["duplicates"]:
            raise StepError("some documents were neither scored nor duplicates", where=f"scoring {task.key}",
                            remedy="this is a defect: please report it with the recipe")  # fmt: skip
        data: dict[str, Json] = {**tally.data(), "dtype": self.scorer.dtype, "labels": list(self.scorer.labels)}
        times = {"forward": forward_s, "total": time.perf_counter() - begin, "peak_rss_mb": peak_rss_mb()}
        return Receipt(key=task.key, files=tuple(files), counts=dict(self.counts), data=data, timing=times)

    def _table(self, keys: pa.Array, p_NL: npt.NDArray[np.float32]) -> pa.Table:
        return pa.table([keys, *(pa.array(column) for column in p_NL.T)], schema=self.schema)

    def _survivors(self, name: Json, tally: Tally) -> Iterator[Company]:
        """Row groups of kept pages without duplicates. Runs in the thread that tokenises."""
        if name is None:
            return
        with open_input(self.documents.path(str(name))) as handle:
            file = pq.ParquetFile(handle, page_checksum_verification=True)
            duplicates = self.clusters.of(file)
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=[KEY.name, "id", "text"])
                self.counts["read"] += table.num_rows
                tally.test_passed += self._tests(table["id"])
                alone, sizes = survivors(table[KEY.name].to_numpy(), duplicates)
                self.counts["duplicates"] += int((~alone).sum())
                yield self._company(table.filter(pa.array(alone)), sizes[alone])

    def _dropped(self, name: Json, tally: Tally) -> Iterator[Company]:
        """The drawn pages of those that the stage dropped; all of a file together."""
        if name is None or self.check.stage is None:
            return
        with open_input(self.documents.path(str(name))) as handle:
            file = pq.ParquetFile(handle, page_checksum_verification=True)
            parts = []
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=[KEY.name, "id", "stage", "text"])
                table = table.filter(pc.equal(table["stage"], self.check.stage))
                tally.test_dropped += self._tests(table["id"])
                table = table.filter(pc.is_valid(table["text"]))
                ids, keys = (table[c].combine_chunks() for c in ("id", KEY.name))
                parts.append(table.filter(pa.array(unit_interval(ids, keys, DROPPED_TEXT) < self.check.share)))
        chosen = pa.concat_tables(parts) if parts else None
        if chosen is not None and chosen.num_rows:
            yield self._company(chosen, np.ones(chosen.num_rows, np.int64))

    def _company(self, table: pa.Table, sizes: I64) -> Company:
        text = table["text"].combine_chunks()
        return Company(table[KEY.name].combine_chunks(), self.scorer.prepare(text.cast(pa.large_string())), sizes)

    def _tests(self, ids: pa.ChunkedArray) -> I64:
        tests = self.check.tests or {}
        return at_least(np.array([tests[i] for i in ids.to_pylist() if i in tests], np.float64)) if tests else at_least(np.zeros(0))


def survivors(keys: I64, duplicates: Duplicates) -> tuple[npt.NDArray[np.bool_], I64]:
    """(whether a document stays, how many it stands for)."""
    verdict, sizes = duplicates.judge(keys)
    return verdict == KEEP, sizes


def _one_ahead(source: Iterator[Company], ahead: ThreadPoolExecutor) -> Iterator[Company]:
    """The items of ``source``, each made while the one before is used."""
    nothing = object()
    waiting = ahead.submit(next, source, nothing)
    while (item := waiting.result()) is not nothing:
        waiting = ahead.submit(next, source, nothing)
        if isinstance(item, Company) and len(item.ids):
            yield item
