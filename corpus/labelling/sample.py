"""The step that draws a round of pages to label: pools over the source's units, then one task that chooses and writes.

Files: ``pages.parquet`` (id, text: what is shown to the labeller, in the order of the source) and ``sample.parquet`` (a row a page, by
id: why it was taken, its stratum and the probability it had, without text). Whether a page is taken depends on its id, the pool's ids
and the parameters: not on workers, or on the order of units. Memory of the last task: a row without text for each page of the pool, and
a row group of texts.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus.labelling.draw import Chosen, distinct, drawn, nearest
from corpus.labelling.params import RoundParams, SamplingParams
from corpus.labelling.pool import POOL, POOLED, PoolWorker
from corpus.outputs import TableSink
from corpus.passes import peak_rss_mb
from corpus.source import FileSource, Unit
from corpus.stage import Resources, Stage
from store.artifact import Artifact, Draft, Receipt
from store.errors import InputError
from store.executor import Executor, Job, Task
from store.fs import FileEntry, Folder, open_input
from store.params import Json
from store.schema import KEY

STEP = "label-sample"
PAGES, SAMPLE = "pages.parquet", "sample.parquet"
PAGES_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.large_string())])
SAMPLE_SCHEMA = pa.schema(
    [("id", pa.string()), ("round", pa.int32()), ("picked", pa.string()), ("stratum", pa.string()), ("probability", pa.float64()),
     ("host", pa.string()), ("n_chars", pa.int32()), ("language_score", pa.float64()), ("score", pa.float64())]
)  # fmt: skip


def sample_pages(
    draft: Draft, executor: Executor, params: SamplingParams, number: int, source: FileSource, units: Sequence[Unit],
    on_bad_input: str = "fail", earlier: Sequence[str] = (), judges: Sequence[Stage] = (), resources: Resources | None = None,
    threshold: float = 0.5,
) -> Artifact:  # fmt: skip
    """Draw round ``number`` (from 1) and commit it.

    Args:
        draft, executor: where to, and what runs the tasks.
        params: the rounds.
        source, units, on_bad_input: the pages.
        earlier: files sample.parquet of the rounds before.
        judges, resources: the language stage and, for a boundary round, the stage score with the column ``score``.
        threshold: of the classifier (boundary).

    Raises:
        StepError: with what an InputError of a task says: nothing was found, or more strata than pages.
    """
    round_, n_docs = params.rounds[number - 1], sum(max(1, u.n_docs) for u in units)
    share = min(1.0, round_.pool / max(1, n_docs))
    kwargs: dict[str, object] = {
        "folder": draft.folder, "source": source, "share": share, "salt": f"label_sample/{params.seed}/{number}",
        "max_chars": params.max_chars, "on_bad_input": on_bad_input, "earlier": tuple(earlier), "judges": tuple(judges),
        "resources": dict(resources or {}),
    }  # fmt: skip
    tasks = [Task("pool-" + u.key, u.model_dump(mode="json"), max(1, u.n_docs)) for u in units]
    pooled = executor.map(Job(STEP, PoolWorker, kwargs, tasks, draft, unit="documents"))
    choosing: dict[str, object] = {"folder": draft.folder, "params": params, "number": number, "share": share, "threshold": threshold}
    chosen = executor.map(Job(STEP, ChooseWorker, choosing, [Task("choose", {})], draft, unit="samples"))
    return draft.commit([*pooled, *chosen], summary=dict(chosen[0].data))


class ChooseWorker:
    """One task: choose pages of the pool and write them."""

    def __init__(self, folder: Folder, params: SamplingParams, number: int, share: float, threshold: float) -> None:
        self.folder, self.params, self.number, self.share, self.threshold = folder, params, number, share, threshold

    def run(self, task: Task) -> Receipt:
        begin = time.perf_counter()
        whole = read_pool(self.folder)
        pool = distinct(whole)
        if not pool.height:
            raise InputError("no page of the source can be labelled", where=STEP, expected="pages with ids of the languages kept",
                             remedy="check the source's id column and the language stage")  # fmt: skip
        chosen = self._choose(self.params.rounds[self.number - 1], pool)
        files = (self._write_pages(chosen.pages), self._write_sample(chosen.pages))
        n = chosen.pages.height
        counts = {"repeated_id": whole.height - pool.height, "chosen": n, "not_chosen": pool.height - n}
        timing = {"choose": time.perf_counter() - begin, "peak_rss_mb": peak_rss_mb()}
        return Receipt(key=task.key, files=files, counts=counts, data=self._summary(chosen, pool), timing=timing)

    def _choose(self, round_: RoundParams, pool: pl.DataFrame) -> Chosen:
        if round_.by == "boundary":
            return nearest(pool, round_, self.share, self.params.max_per_host, self.threshold)
        return drawn(pool, round_, self.share, self.params.max_per_host)

    def _summary(self, chosen: Chosen, pool: pl.DataFrame) -> dict[str, Json]:
        round_, pages = self.params.rounds[self.number - 1], chosen.pages
        hosts = pages.drop_nulls("host").group_by("host").len()["len"]
        out: dict[str, Json] = {
            "round": self.number, "by": round_.by, "n": pages.height, "n_wanted": round_.n, "n_pool": pool.height,
            "pool_share": self.share, "n_hosts": len(hosts), "largest_host": int(cast(int, hosts.max() or 0)),
            "n_boundary": pages.filter(pl.col("picked") == "boundary").height, "n_strata": chosen.strata.height,
            "strata": cast(Json, {r["stratum"]: {k: r[k] for k in ("n_pool", "n_eligible", "n")} for r in chosen.strata.to_dicts()}),
        }  # fmt: skip
        if round_.by == "boundary":
            near = sorted(pages.filter(pl.col("picked") == "boundary")["score"].to_list())
            out |= {"threshold": self.threshold, "score_low": near[0] if near else None, "score_high": near[-1] if near else None}
        return out

    def _write_sample(self, pages: pl.DataFrame) -> FileEntry:
        frame = pages.with_columns(round=pl.lit(self.number)).select(SAMPLE_SCHEMA.names)
        out = io.BytesIO()
        pq.write_table(frame.to_arrow().cast(SAMPLE_SCHEMA), out, compression="zstd")
        return self.folder.write_bytes(SAMPLE, out.getvalue(), n_rows=frame.height)

    def _write_pages(self, pages: pl.DataFrame) -> FileEntry:
        wanted = pa.array(pages[KEY.name].to_list(), pa.int64())
        with self.folder.writing(PAGES) as out:
            sink = TableSink(out, PAGES_SCHEMA)
            for name in pool_files(self.folder):
                with open_input(self.folder.path(name)) as handle:
                    for batch in pq.ParquetFile(handle).iter_batches(columns=[KEY.name, "id", "text"], batch_size=1000):
                        found = batch.filter(pc.is_in(batch.column(KEY.name), value_set=wanted))
                        sink.write(found.select(["id", "text"]))
            sink.close()
        return self.folder.entry(PAGES, n_rows=sink.n_rows)


def pool_files(folder: Folder) -> Iterator[str]:
    """Files of the pool in the order of units; half a file that a killed attempt left under a temporary name is passed over."""
    return (name for name in folder.names(POOL) if name.endswith(".parquet"))


def read_pool(folder: Folder) -> pl.DataFrame:
    """The pool without its texts."""
    columns = [n for n in POOLED.names if n != "text"]
    schema = pa.schema([POOLED.field(n) for n in columns])
    tables = [schema.empty_table()]
    for name in pool_files(folder):
        with open_input(folder.path(name)) as handle:
            tables.append(pq.read_table(handle, columns=columns).cast(schema))
    return cast(pl.DataFrame, pl.from_arrow(pa.concat_tables(tables)))


def read_sample(artifact: Artifact) -> pl.DataFrame:
    """The rows of a round's sample.parquet."""
    return pl.read_parquet(io.BytesIO(artifact.folder.read_bytes(SAMPLE)))


def pool_of(summary: Mapping[str, Json]) -> tuple[dict[str, int], float]:
    """(pages of the pool by stratum, share of the source that was drawn) of a round's summary."""
    strata = cast(dict[str, dict[str, int]], summary["strata"])
    return {name: row["n_pool"] for name, row in strata.items()}, float(cast(float, summary["pool_share"]))
