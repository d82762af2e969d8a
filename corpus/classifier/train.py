"""The last task: train, calibrate, measure, and write the model, its card, and the scores behind the card.

Files: those of the kind (corpus.classifier.model), ``card.json``, ``card.md``, ``calibration.json``, ``pages.parquet`` (the held-out
pages: id, side, label, group, score) and ``sample.parquet`` (pages of the source: id, characters, score). Scores are those that will be
written. No text leaves this task.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.calibration import NONE, Calibration, choose
from corpus.classifier.card import GRID, Card, calibration_of, classes_of, limits_of, markdown, quality, sizes_of, target_of
from corpus.classifier.material import Material, sampled_pages
from corpus.classifier.metrics import Judged, weights_for
from corpus.classifier.model import Model, Pages, fit
from corpus.classifier.params import ClassifierParams
from corpus.classifier.search import settings_of, trial
from corpus.passes import peak_rss_mb
from store.artifact import Receipt
from store.executor import Task
from store.fs import FileEntry, Folder
from store.params import Json

CARD, CARD_TEXT, CALIBRATION, HELD_OUT, SCORED = "card.json", "card.md", "calibration.json", "pages.parquet", "sample.parquet"
HELD_OUT_SCHEMA = pa.schema(
    [("id", pa.string()), ("side", pa.string()), ("label", pa.string()), ("group", pa.int64()), ("predicted", pa.string()),
     ("score", pa.float32())]
)  # fmt: skip
SCORED_SCHEMA = pa.schema([("id", pa.string()), ("n_chars", pa.int32()), ("predicted", pa.string()), ("score", pa.float32())])
F64 = npt.NDArray[np.float64]


class TrainWorker:
    """One task: {"n_pages": pages of the source, "trial": the settings to train with, "search": what the trials gave}."""

    def __init__(self, folder: Folder, params: ClassifierParams, device: str = "cpu") -> None:
        self.folder, self.params, self.device = folder, params, device

    def run(self, task: Task) -> Receipt:
        begin = time.perf_counter()
        material = Material.read(self.folder, self.params)
        chosen = trial(self.params, int(str(task.payload.get("trial", 0))))
        model = fit(chosen, material.side("train"), material.side("validation"), self.device)
        fitted_s = time.perf_counter() - begin
        held = {side: material.side(side) for side in ("validation", "test")}
        p = {side: model.probabilities(pages.texts) for side, pages in held.items()}
        card, calibration = self._card(material, held, p, model)
        if found := task.payload.get("search"):
            card["search"] = {"trials": found, "chosen": settings_of(chosen)}
        files = [*model.save(self.folder), self._held_out(material, p, calibration)]
        if self.params.sample_pages is not None:
            files.append(self._sample(model, calibration, card, int(str(task.payload.get("n_pages", 0)))))
        card["limits"] = limits_of(card, self.params)
        files += self._write_card(card, calibration)
        timing = {"fit": fitted_s, "train": time.perf_counter() - begin, "peak_rss_mb": peak_rss_mb()}
        return Receipt(key=task.key, files=tuple(files), data={"card": card}, timing=timing)

    def _card(self, material: Material, held: Mapping[str, Pages], p: Mapping[str, F64], model: Model) -> tuple[Card, Calibration]:
        params = self.params
        card: Card = {"kind": params.kind, "classes": list(params.names), "model": model.facts, "split": self._split(material)}
        card["data"] = self._data(material)
        if params.classes is not None:
            return card | classes_of(p["test"], held["test"].classes, held["test"].groups, params), NONE
        card |= {"positive": params.positive, "prevalence": params.prevalence}
        raw = {side: self._judged(held[side], p[side][:, 0]) for side in held}
        seen = raw["validation"]
        calibration, losses = choose(seen.scores, seen.truth, seen.weights, seen.groups, params.seed)
        written = calibration if params.calibrate else NONE
        final = {side: Judged(written(j.scores), j.truth, j.weights, j.groups, j.seed) for side, j in raw.items()}
        card |= quality(final["test"], params.threshold)
        card["calibration"] = calibration_of(raw["test"], calibration, losses, params.calibrate)
        if params.target is not None:
            card["target"] = target_of(final["validation"], final["test"], params)
        n_train = material.side("train").classes
        return card | {"n_train": len(n_train), "n_positive_train": int((n_train == 0).sum())}, calibration

    def _judged(self, pages: Pages, scores: F64) -> Judged:
        truth = pages.classes == 0
        # As they will be written: a float32 column.
        return Judged(scores.astype(np.float32).astype(np.float64), truth, weights_for(truth, self.params.prevalence), pages.groups,
                      self.params.seed)  # fmt: skip

    def _data(self, material: Material) -> Card:
        counts = {str(k): int(v) for k, v in sorted(material.pages.group_by("label").len().iter_rows())}
        return {"n_pages": material.pages.height, **{f"n_{k}": v for k, v in counts.items()}, "max_chars": self.params.max_chars}

    def _split(self, material: Material) -> Card:
        found, params = material.split, self.params
        card: Card = {"split_by": params.split_by, "group_column": params.group_column, "near_duplicates": params.near_duplicates}
        card |= {"n_groups": len(np.unique(found.groups)), "n_near_duplicates": found.n_near}
        card["largest_group"] = int(np.bincount(found.groups).max())
        for side in ("train", "validation", "test"):
            card[f"n_{side}"] = int(found.of(side).sum())
        return card

    def _final(self, p: F64, calibration: Calibration) -> tuple[npt.NDArray[np.float32], list[str]]:
        """(score, predicted class) as they will be written."""
        if self.params.classes is not None:
            return p.max(axis=1).astype(np.float32), [self.params.names[i] for i in p.argmax(axis=1)]
        raw = p[:, 0].astype(np.float32)
        score = calibration(raw).astype(np.float32) if self.params.calibrate else raw
        return score, [self.params.names[0 if s >= self.params.threshold else 1] for s in score]

    def _held_out(self, material: Material, p: Mapping[str, F64], calibration: Calibration) -> FileEntry:
        tables = []
        for side in ("validation", "test"):
            rows = material.split.of(side)
            pages = material.pages.filter(rows)
            score, predicted = self._final(p[side], calibration)
            columns: Sequence[object] = [
                pages["id"].to_list(), [side] * pages.height, pages["label"].to_list(), material.split.groups[rows], predicted, score,
            ]  # fmt: skip
            tables.append(pa.table([pa.array(c) for c in columns], names=HELD_OUT_SCHEMA.names).cast(HELD_OUT_SCHEMA))
        return self._write_table(HELD_OUT, pa.concat_tables(tables))

    def _sample(self, model: Model, calibration: Calibration, card: Card, n_pages: int) -> FileEntry:
        """Score pages of the source, and count what each threshold would keep."""
        assert self.params.sample_pages is not None
        drawn = sampled_pages(self.folder, self.params.sample_pages)
        pages = drawn.filter("passed")
        p = model.probabilities(pages["text"].to_list()) if pages.height else np.zeros((0, len(self.params.names)))
        score, predicted = self._final(p, calibration)
        if pages.height and self.params.classes is None:
            n_chars = pages["n_chars"].to_numpy().astype(np.int64)
            thresholds = sorted({*GRID.tolist(), self.params.threshold, *_chosen(card)})
            card["sizes"] = sizes_of(score.astype(np.float64), n_chars, drawn.height, n_pages, thresholds)
        columns = [pages["id"].to_list(), pages["n_chars"].to_list(), predicted, score]
        table = pa.table([pa.array(c, f.type) for c, f in zip(columns, SCORED_SCHEMA, strict=True)], schema=SCORED_SCHEMA)
        return self._write_table(SCORED, table)

    def _write_table(self, name: str, table: pa.Table) -> FileEntry:
        out = io.BytesIO()
        pq.write_table(table, out, compression="zstd")
        return self.folder.write_bytes(name, out.getvalue(), n_rows=table.num_rows)

    def _write_card(self, card: Card, calibration: Calibration) -> list[FileEntry]:
        texts = {CARD: json.dumps(card, indent=1, sort_keys=True, ensure_ascii=False), CARD_TEXT: markdown(card)}
        texts[CALIBRATION] = json.dumps({**calibration.json(), "applied": self.params.calibrate}, sort_keys=True)
        return [self.folder.write_bytes(name, text.encode()) for name, text in texts.items()]


def _chosen(card: Card) -> list[float]:
    found = cast(dict[str, Json], card.get("target") or {}).get("threshold")
    return [found] if isinstance(found, float) else []
