"""The search of fastText's settings: seeded random trials, one halving, judged on the validation pages.

Trial 0 is the recipe's own settings; trial i is drawn by (seed, i) alone, so a longer search begins with the shorter one. All trials
learn from a third of the training groups; the best third of the trials from all. Two classes are judged by average precision, more by
log loss (negated). Trials are independent tasks, so they run side by side and survive a restart.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from corpus.classifier.fasttext_model import SETTINGS, fit_fasttext
from corpus.classifier.material import Material
from corpus.classifier.metrics import Ranked, average_precision, weights_for
from corpus.classifier.model import Model, Pages
from corpus.classifier.params import ClassifierParams
from corpus.passes import peak_rss_mb
from store.artifact import Receipt
from store.executor import Task
from store.fs import Folder
from store.params import Json

SHARE, KEEP = 1 / 3, 3
SPACE: dict[str, tuple[Json, ...]] = {
    "epoch": (5, 10, 15, 25, 50), "dim": (8, 16, 32, 64), "word_ngrams": (1, 2, 3), "min_count": (1, 2, 3, 5),
    "characters": ("0-0", "0-0", "3-5", "2-4"), "bucket": (50_000, 200_000, 1_000_000),
}  # fmt: skip
LR = (0.05, 1.0)


def trial(params: ClassifierParams, number: int) -> ClassifierParams:
    """The settings of a trial: a function of the seed and the number."""
    if number == 0:
        return params
    rng = np.random.default_rng([params.seed, number])
    low, high = np.log(LR)
    found: dict[str, Json] = {"lr": round(float(np.exp(rng.uniform(low, high))), 3)}
    for name, values in SPACE.items():
        found[name] = values[int(rng.integers(len(values)))]
    found["minn"], found["maxn"] = (int(c) for c in str(found.pop("characters")).split("-"))
    return params.model_copy(update=found)


def settings_of(params: ClassifierParams) -> dict[str, Json]:
    """fastText's settings."""
    return {name: getattr(params, name) for name in SETTINGS}


class SearchWorker:
    """One trial a task: {"trial": number, "whole": whether it learns from all training pages}. The score is in the receipt."""

    def __init__(self, folder: Folder, params: ClassifierParams) -> None:
        self.folder, self.params = folder, params
        self.material: Material | None = None

    def run(self, task: Task) -> Receipt:
        begin = time.perf_counter()
        if self.material is None:
            self.material = Material.read(self.folder, self.params)
        number, whole = int(str(task.payload["trial"])), bool(task.payload["whole"])
        settings = trial(self.params, number)
        train = self.material.side("train") if whole else self.material.part_of_training(SHARE)
        found = score(fit_fasttext(settings, train), self.material.side("validation"), self.params)
        timing = {"search": time.perf_counter() - begin, "peak_rss_mb": peak_rss_mb()}
        data: dict[str, Json] = {"trial": number, "n_train": len(train), "score": round(found, 6), **settings_of(settings)}
        return Receipt(key=task.key, data=data, timing=timing)


def score(model: Model, pages: Pages, params: ClassifierParams) -> float:
    """Average precision of the positive class; of several classes, the mean log of the probability of the true one."""
    p = model.probabilities(pages.texts)
    if params.classes is not None:
        return float(np.log(np.clip(p[np.arange(len(p)), pages.classes], 1e-6, 1.0)).mean())
    truth = pages.classes == 0
    return average_precision(*Ranked.of(p[:, 0]).curve(truth, weights_for(truth, params.prevalence)))


def survivors(results: Sequence[Mapping[str, Json]]) -> list[int]:
    """The numbers of the best third of trials, best first; of equal ones the earlier."""
    order = sorted(results, key=lambda r: (-float(str(r["score"])), int(str(r["trial"]))))
    return [int(str(r["trial"])) for r in order[: -(-len(order) // KEEP)]]
