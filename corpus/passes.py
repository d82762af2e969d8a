"""A pass: consecutive stages fused over one unit inside one worker. One read, one write, no barrier.

Every row that goes in comes out exactly once: kept, dropped with (stage, reason, value), or quarantined with a reason; ``Ledger``
counts them and ``check`` refuses a unit whose numbers do not add up. Memory of a worker: a batch of READ_DOCS documents through the
stages, plus FLUSH_DOCS kept and dropped documents waiting to be written.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from corpus.draw import unit_interval
from corpus.ledger import Ledger
from corpus.outputs import Outputs
from corpus.source import FileSource, Unit, is_damage, read_unit, salvage
from corpus.stage import KEEP, Apply, Outcome, Resources, Stage
from store.artifact import Receipt
from store.errors import InputError, StepError
from store.executor import Task
from store.fs import FileEntry, Folder, local_copy
from store.schema import DROPPED, KEY, QUARANTINED, is_signature

SIGNATURE_GROUP = 100_000


@dataclass(frozen=True)
class OpenStage:
    """A stage with its model loaded."""

    name: str
    reasons: tuple[str, ...]
    scores: tuple[str, ...]
    judges_only: bool
    apply: Apply


def open_stages(stages: Sequence[Stage], resources: Resources) -> list[OpenStage]:
    """Load every stage's model, once per worker."""
    here = {name: local_copy(url) for name, url in resources.items()}
    return [OpenStage(s.name, s.all_reasons(), score_columns(s), s.judges_only, s.open(here)) for s in stages]


def score_columns(stage: Stage) -> tuple[str, ...]:
    """Columns whose distribution is worth a histogram: scores in [0, 1]."""
    column = getattr(stage, "column", None)
    floats = [f.name for f in stage.writes if pa.types.is_floating(f.type)]
    return tuple(n for n in floats if n.endswith("_score") or (isinstance(column, str) and n.startswith(column)))


S = TypeVar("S", Stage, OpenStage)


def fused(stages: Sequence[S]) -> list[list[S]]:
    """The stages in groups that see the same batch: neighbours that only judge are one group, any other stage is one of its own."""
    groups: list[list[S]] = []
    for stage in stages:
        if groups and stage.judges_only and groups[-1][-1].judges_only:
            groups[-1].append(stage)
        else:
            groups.append([stage])
    return groups


def run_stages(
    batch: pa.RecordBatch, stages: Sequence[OpenStage], outputs: Outputs, ledger: Ledger, dropped_text_share: float
) -> pa.RecordBatch:
    """Send a batch through the stages; what they drop goes to the dropped file, the rest is returned.

    A group of stages that only judge sees the same rows; the first of them that rejects a row has dropped it, as if they had run one
    after the other.
    """
    for group in fused(stages):
        if batch.num_rows == 0:
            break
        if len(group) > 1:
            batch = _judge_together(batch, group, outputs, ledger, dropped_text_share)
            continue
        stage = group[0]
        begin = time.perf_counter()
        outcome = stage.apply(batch)
        batch = _with_columns(batch, outcome.columns)
        ledger.counts.update(outcome.counts)
        ledger.details.update(outcome.details)
        for name in stage.scores:
            if name in outcome.columns:
                ledger.observe(name, batch.column(name).to_numpy(zero_copy_only=False).astype(np.float64))
        batch = drop(batch, stage.name, stage.reasons, outcome, outputs, ledger, dropped_text_share)
        ledger.took(f"stage/{stage.name}", time.perf_counter() - begin)
    return batch


def _judge_together(
    batch: pa.RecordBatch, group: Sequence[OpenStage], outputs: Outputs, ledger: Ledger, dropped_text_share: float
) -> pa.RecordBatch:
    left = np.ones(batch.num_rows, np.bool_)
    for stage in group:
        begin = time.perf_counter()
        outcome = stage.apply(batch)
        if outcome.columns or outcome.counts or outcome.details:
            raise StepError(
                "a stage that only judges wrote columns or counts", where=stage.name, remedy="this is a defect: please report it"
            )
        if outcome.verdict is not None:
            mine = replace(outcome, verdict=np.where(left, outcome.verdict, KEEP).astype(np.int16))
            _record_dropped(batch, stage.name, stage.reasons, mine, outputs, ledger, dropped_text_share)
            left &= outcome.verdict == KEEP
        ledger.took(f"stage/{stage.name}", time.perf_counter() - begin)
    return batch if left.all() else batch.filter(pa.array(left))


def _with_columns(batch: pa.RecordBatch, columns: Mapping[str, pa.Array]) -> pa.RecordBatch:
    if not columns:
        return batch
    arrays = {n: batch.column(n) for n in batch.schema.names}
    arrays.update(columns)
    return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def drop(
    batch: pa.RecordBatch,
    stage: str,
    reasons: Sequence[str],
    outcome: Outcome,
    outputs: Outputs,
    ledger: Ledger,
    text_share: float,
) -> pa.RecordBatch:
    """Move the rows with a verdict to the dropped file and return the others."""
    if outcome.verdict is None or bool((outcome.verdict == KEEP).all()):
        return batch
    _record_dropped(batch, stage, reasons, outcome, outputs, ledger, text_share)
    return batch.filter(pa.array(outcome.verdict == KEEP))


def _record_dropped(
    batch: pa.RecordBatch,
    stage: str,
    reasons: Sequence[str],
    outcome: Outcome,
    outputs: Outputs,
    ledger: Ledger,
    text_share: float,
) -> None:
    """Count the rows with a verdict and write them to the dropped file."""
    assert outcome.verdict is not None
    rows = np.flatnonzero(outcome.verdict != KEEP)
    if not len(rows):
        return
    verdict = outcome.verdict[rows]
    for code, n in zip(*np.unique(verdict, return_counts=True), strict=True):
        ledger.counts[f"dropped/{stage}/{reasons[code]}"] += int(n)
    value = outcome.value[rows] if outcome.value is not None else np.full(len(verdict), np.nan)
    gone = batch.select([KEY.name, "id", "url"]).take(pa.array(rows))
    ids, keys = gone.column("id"), gone.column(KEY.name)
    outputs.sink("dropped", DROPPED).write(
        pa.table(
            [
                keys, ids, gone.column("url"), pa.repeat(stage, len(verdict)),
                pa.array([reasons[code] for code in verdict], pa.string()), pa.array(value, pa.float64(), from_pandas=True),
                sampled_text(batch.column("text"), rows, ids, keys, text_share),
            ],
            schema=DROPPED,
        )
    )  # fmt: skip


def sampled_text(text: pa.Array, rows: npt.NDArray[np.int64], ids: pa.Array, keys: pa.Array, share: float) -> pa.Array:
    """[len(rows)] the text of a share of these rows, chosen by their id; null for the others. Texts not chosen are not copied."""
    if share >= 1.0:
        return text.take(pa.array(rows))
    chosen = unit_interval(ids, keys, "dropped_text") < share
    return text.take(pa.array(rows, mask=~chosen))


def peak_rss_mb() -> float:
    """Peak resident memory of this process in MB."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024
    except (OSError, StopIteration):  # not Linux; there too, but a child's figure begins with its parent's at the fork
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class DocumentsWorker:
    """Pass 1: a unit of the source through the recipe's stages into kept, signatures, dropped and quarantine files."""

    def __init__(
        self,
        folder: Folder,
        source: FileSource,
        stages: tuple[Stage, ...],
        resources: Resources,
        dropped_text_share: float,
        on_bad_input: str,
    ) -> None:
        self.folder, self.source = folder, source
        self.stages = open_stages(stages, resources)
        self.dropped_text_share, self.on_bad_input = dropped_text_share, on_bad_input

    def run(self, task: Task) -> Receipt:
        """Idempotent: the files of a unit are named after it and written whole."""
        begin = time.perf_counter()
        unit = Unit.model_validate(dict(task.payload))
        ledger = Ledger()
        try:
            files = self._write(unit, ledger)
        except InputError as error:
            if self.on_bad_input != "quarantine" or not is_damage(error):
                raise
            # What cannot be read is quarantined by name and size; the unit is done again with the rest.
            unit, lost = salvage(unit, self.source)
            ledger = Ledger()
            for bad in lost:
                ledger.quarantine(unit.key, bad)
            files = self._write(unit, ledger)
        ledger.check(f"unit {task.key}")
        ledger.took("total", time.perf_counter() - begin)
        timing = {**ledger.timing, "peak_rss_mb": peak_rss_mb()}
        return Receipt(key=task.key, files=tuple(files), counts=dict(ledger.counts), data=ledger.data(), timing=timing)

    def _write(self, unit: Unit, ledger: Ledger) -> list[FileEntry]:
        with Outputs(self.folder, unit.key) as outputs:
            for batch in read_unit(unit, self.source, partial(ledger.quarantine, unit.key), ledger.count):
                ledger.counts["read"] += batch.num_rows
                ledger.counts["read_bytes"] += pc.sum(pc.binary_length(batch.column("text"))).as_py() or 0
                kept = run_stages(batch, self.stages, outputs, ledger, self.dropped_text_share)
                ledger.counts["kept"] += kept.num_rows
                write_kept(kept, outputs)
            _write_quarantine(outputs, ledger)
            return outputs.close()


def write_kept(batch: pa.RecordBatch, outputs: Outputs) -> None:
    """Documents go to kept/, the columns of the signature stage to signatures/ (a row group of up to a whole unit: they are small)."""
    if batch.num_rows == 0:
        return
    signature = [n for n in batch.schema.names if is_signature(n)]
    document = batch.drop_columns(signature) if signature else batch
    outputs.sink("kept", document.schema).write(document)
    if signature:
        marks = batch.select([KEY.name, *signature])
        outputs.sink("signatures", marks.schema, SIGNATURE_GROUP).write(marks)


def _write_quarantine(outputs: Outputs, ledger: Ledger) -> None:
    if ledger.quarantined:
        outputs.sink("quarantine", QUARANTINED).write(pa.Table.from_pylist(ledger.quarantined, schema=QUARANTINED))
