"""The whole loop of labels on real pages, with a language model behind a server: pages, answers, people, classifier, scores.

    python benchmarks/labelling_real.py --data FOLDER --endpoint URL --model NAME [--about WORDS] [--out FOLDER] [--sheet 200]
                                        [--files N] [--quick]

Starts no server. FOLDER has web/ and truth/ (topic_hint: medical, other, unsure). recipes/finemed-de-labelled.yaml is run through the
command line on the pages of the articles that benchmarks/label_model.py shows to no model. Three runs:

1. until the classifier, which learns from the model's labels alone.
2. A blind sheet of --sheet pages is exported, filled and imported by `definemed labels`, and the recipe run again with it. Truth
   stands for people here: topic_hint fills the column label, "unsure" leaves it empty.
3. Another rule of votes, which needs all answers again: it must send nothing.

* real.pages, real.requests, real.s_per_page, real.without_label: of both rounds; seconds of asking, other load of the machine included.
* real.kappa, real.f1, real.precision, real.recall: the model against truth on all pages asked (unsure left out), as they were drawn.
* real.sheet_*: the same from the sheet, as `labels agree` prints it: weighed to all pages drawn.
* real.share_*: share of medical pages by the model's and by people's labels, and the truth's among the German pages.
* real.second_run_requests: of the second run; real.other_vote_requests: of the third.
* real.card_*: what the second run's card says of its own test pages, against the labels it has.
* real.classifier_*, real.classifier_people_*: scores against truth on pages of articles of which no page was labelled (first and second
  run's classifier); at 0.5, with _target at the threshold that the card has chosen. Intervals (95 %) are of articles.

Writes benchmarks/results/labelling_real.json.
"""

from __future__ import annotations

import argparse
import csv
import glob
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402

from benchmarks.label_model import is_for_model  # noqa: E402
from benchmarks.machine import Figures, write_result  # noqa: E402
from corpus.classifier.card import quality  # noqa: E402
from corpus.classifier.metrics import Judged  # noqa: E402
from corpus.labelling.agreement import Compared  # noqa: E402
from store.artifact import Artifact  # noqa: E402
from store.fs import Folder  # noqa: E402
from store.run import RunRecord  # noqa: E402

RECIPE, LABELS, SEED = "finemed-de-labelled", ("medical", "other"), 1
N_SCORED = 40_000
"""Pages of the source drawn for the card, of which those of unlabelled articles judge the classifier."""


class Loop:
    """Where everything lies, and how a run is made."""

    def __init__(self, options: argparse.Namespace, out: str) -> None:
        self.options, self.out = options, out
        self.pages, self.truth = os.path.join(out, "pages"), pl.read_parquet(f"{options.data}/truth/web.parquet").unique("id")
        os.makedirs(self.pages, exist_ok=True)
        self.truth = self.truth.filter(~is_for_model(self.truth["source"]))
        for at, file in enumerate(sorted(glob.glob(f"{options.data}/web/*.parquet"))[: 2 if options.quick else options.files]):
            frame = pl.read_parquet(file).join(self.truth.select("id"), on="id", how="semi")
            frame.write_parquet(os.path.join(self.pages, f"{at:03}.parquet"), row_group_size=2000)

    def command(self, *words: str) -> str:
        """What a command of definemed prints; the log is kept."""
        done = subprocess.run([sys.executable, "-m", "cluster.cli", *words], capture_output=True, text=True, env=self.env(), cwd=ROOT)
        with open(os.path.join(self.out, "log.txt"), "a", encoding="utf-8") as file:
            file.write(f"$ definemed {' '.join(words)}\n{done.stdout}{done.stderr}\n")
        if done.returncode:
            sys.exit(f"definemed {words[0]} failed: see {self.out}/log.txt\n{done.stderr[-2000:]}")
        return done.stdout

    def env(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": ROOT, "NO_COLOR": "1", "COLUMNS": "300"}

    def run(self, *sets: str, until: str | None) -> tuple[str, RunRecord, float]:
        """(folder, record, seconds) of a run."""
        rounds = ["corpus.labelling.sample.rounds.0.n=100", "corpus.labelling.sample.rounds.1.n=40"] if self.options.quick else []
        every = [
            f'corpus.source.files=["{os.path.abspath(self.pages)}/*.parquet"]', "corpus.source.expect_docs=null",
            f"corpus.labelling.ask.models.0.name={self.options.model}",
            f"corpus.labelling.ask.models.0.endpoint.url={self.options.endpoint}",
            f"corpus.classifier.sample_pages={N_SCORED}", *rounds, *sets,
        ]  # fmt: skip
        before, begin = set(glob.glob(f"{self.out}/runs/*")), time.perf_counter()
        self.command("run", RECIPE, "--out", self.out, "--address", "local", *(["--until", until] if until else []),
                     *[part for s in every for part in ("--set", s)])  # fmt: skip
        (folder,) = set(glob.glob(f"{self.out}/runs/*")) - before
        return folder, RunRecord.read(Folder(folder)), time.perf_counter() - begin

    def artifacts(self, record: RunRecord, kind: str) -> list[Artifact]:
        """Of a step, or of its rounds."""
        names = [s.name for s in record.steps if s.name == kind or s.name.startswith(f"{kind}/")]
        found = [record.artifact(Folder(self.out), n) for n in names]
        return [a for a in found if a is not None]

    def requests(self, record: RunRecord) -> int:
        """Requests that the rounds of a run sent; a step that was there before sent none."""
        cached = {s.fingerprint for s in record.steps if s.cached}
        made = [a for a in self.artifacts(record, "label-answers") if a.manifest.fingerprint not in cached]
        return sum(int(str(a.provenance()["requests_sent"])) for a in made)


def main() -> None:
    """Run the loop, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with web/ and truth/")
    parser.add_argument("--endpoint", required=True, help="address up to /v1")
    parser.add_argument("--model", required=True, help="the model's name, as the server knows it")
    parser.add_argument("--about", default="", help="what the model is, for the result file")
    parser.add_argument("--out", help="folder for the runs; default: a temporary one")
    parser.add_argument("--files", type=int, help="of FOLDER/web, the first ones; default: all")
    parser.add_argument("--sheet", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="a quarter of the pages, 140 asked; writes no result file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        figures = measure(Loop(options, os.path.abspath(options.out or temporary)), options.sheet)
    for key, value in figures.items():
        print(f"{key:<44} {value}")
    if not options.quick:
        source = f"real pages; {options.about or options.model}"
        print("written:", write_result("labelling_real", source, {f"real.{k}": v for k, v in figures.items()}, __doc__ or ""))


def measure(loop: Loop, n_sheet: int) -> Figures:
    """All figures."""
    run, first, first_s = loop.run(until="classifier")
    figures = asked(loop, first) | {"first_run_s": round(first_s, 1)}
    people = fill(loop, run, n_sheet)
    end, second, second_s = loop.run(f"corpus.labelling.people={people}", until="classifier")
    figures |= {"second_run_s": round(second_s, 1), "second_run_requests": loop.requests(second)}
    figures |= sheet_figures(json.loads(loop.command("labels", "agree", end, "--json")))
    _, third, _ = loop.run("corpus.labelling.ask.vote=unanimous", until="label-answers")
    figures["other_vote_requests"] = loop.requests(third)
    (summary,) = (a.manifest.summary for a in loop.artifacts(second, "labels") if "agreement" in a.manifest.summary)
    figures |= shares(loop, summary)
    loop.command("classifier", "page", end, "--html", os.path.join(loop.out, "classifier.html"))
    return figures | card_figures(loop, second) | judged(loop, first, "classifier") | judged(loop, second, "classifier_people")


def asked(loop: Loop, record: RunRecord) -> Figures:
    """Pages and answers of both rounds, and the model against truth on all of them."""
    answers = loop.artifacts(record, "label-answers")
    made = [a.provenance() for a in answers]
    counts = [a.manifest.counts for a in answers]
    n = sum(c["read"] for c in counts)
    out: Figures = {
        "pages": n, "requests": sum(int(str(p["requests_sent"])) for p in made),
        "s_per_page": round(sum(float(str(p["asked_s"])) for p in made) / n, 3),
        "without_label": n - sum(c["labelled"] for c in counts),
        "tokens_in": sum(int(str(p["tokens_in"])) for p in made),
    }  # fmt: skip
    votes = pl.concat([pl.read_parquet(a.path("votes.parquet")) for a in answers]).select("id", said="label")
    both = votes.join(loop.truth.select("id", "topic_hint"), on="id").filter(pl.col("topic_hint") != "unsure").sort("id")
    found = Compared.of(LABELS, both["topic_hint"].to_list(), both["said"].to_list()).json(SEED)
    out |= {"source_pages": sum(pl.scan_parquet(f).select(pl.len()).collect().item() for f in glob.glob(f"{loop.pages}/*.parquet"))}
    out |= {"judged_pages": both.height} | with_limits(found, "kappa", "")
    row = found["by_label"][0]  # type: ignore[index, call-overload]
    for name in ("precision", "recall", "f1"):
        out |= with_limits(row, name, "")
    return out


def with_limits(found: object, name: str, prefix: str) -> Figures:
    """A figure with its limits."""
    assert isinstance(found, dict)
    return {f"{prefix}{name}{end}": found.get(f"{name}{end}") for end in ("", "_low", "_high")}


def fill(loop: Loop, run: str, n: int) -> str:
    """A sheet as people would fill it, from truth; the imported file."""
    sheet, filled, people = (os.path.join(loop.out, f) for f in ("sheet.csv", "filled.csv", "people.jsonl"))
    loop.command("labels", "export", run, "--n", str(n), "--to", sheet, "--blind", "--force")
    truth = dict(loop.truth.select("id", "topic_hint").iter_rows())
    with open(sheet, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=";", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    for row in rows:
        label = truth[row["id"].removeprefix("'")]
        writer.writerow({**row, "label": "" if label == "unsure" else label, "annotator": "truth"})
    with open(filled, "w", encoding="utf-8-sig", newline="") as file:
        file.write(out.getvalue())
    loop.command("labels", "import", filled, "--run", run, "--to", people, "--force")
    return people


def sheet_figures(agreement: dict[str, object]) -> Figures:
    """As `labels agree` says."""
    sample = agreement["sample"]
    assert isinstance(sample, dict)
    out: Figures = {"sheet_pages": sample["n"]} | with_limits(sample, "kappa", "sheet_")
    for name in ("precision", "recall", "f1"):
        out |= with_limits(sample["by_label"][0], name, "sheet_")
    return out


def shares(loop: Loop, summary: object) -> Figures:
    """The share of medical pages of the corpus by who labelled, in percent of the pages judged, and the truth's."""
    assert isinstance(summary, dict)
    out: Figures = {}
    for who in ("model", "people"):
        (row,) = (r for r in summary[f"shares_by_{who}"] if r["label"] == LABELS[0])
        out |= {f"share_by_{who}{end}": round(row[f"share{end}"], 5) for end in ("", "_low", "_high")}
    german = loop.truth.filter(pl.col("lang") == "deu")["topic_hint"]
    sure = german.filter(german != "unsure")
    share = float((sure == LABELS[0]).mean() or 0)
    return out | {"share_in_truth": round(share, 5), "share_unsure": round(1 - len(sure) / len(german), 5)}


def card_figures(loop: Loop, record: RunRecord) -> Figures:
    """What the card says: of its test pages, of the threshold, of the corpus at it."""
    (classifier,) = loop.artifacts(record, "classifier")
    card = json.loads(classifier.folder.read_bytes("card.json"))
    out: Figures = {f"card_{k}": card[k] for k in ("f1", "f1_low", "f1_high", "n_test", "n_positive_test")}
    return out | {f"card_target_{k}": v for k, v in card["target"].items() if isinstance(v, int | float)}


def judged(loop: Loop, record: RunRecord, name: str) -> Figures:
    """A classifier against truth, on drawn pages of articles of which no page was labelled, at 0.5 and at the card's threshold."""
    (classifier,) = loop.artifacts(record, "classifier")
    labelled = pl.concat([pl.read_parquet(a.path("pages.parquet"), columns=["id"]) for a in loop.artifacts(record, "label-sample")])
    taken = loop.truth.join(labelled, on="id", how="semi")["source"].unique()
    pages = pl.read_parquet(classifier.path("sample.parquet")).select("id", "score").join(loop.truth, on="id")
    pages = pages.filter(~pl.col("source").is_in(taken.to_list()), pl.col("topic_hint") != "unsure").sort("id")
    groups = pages["source"].rank("dense").to_numpy().astype(np.int64)
    truth = (pages["topic_hint"] == LABELS[0]).to_numpy()
    case = Judged(pages["score"].to_numpy().astype(np.float64), truth, np.ones(len(truth)), groups)
    out: Figures = {f"{name}_pages": len(truth), f"{name}_positive": int(truth.sum())}
    target = json.loads(classifier.folder.read_bytes("card.json"))["target"]["threshold"]
    keys: Sequence[str] = ("precision", "recall", "f1")
    for end, threshold in (("", 0.5), ("_target", target)):
        if threshold is None:
            continue
        found = quality(case, float(threshold))
        for key in keys:
            out |= {f"{name}{end}_{k}": v for k, v in with_limits(found, key, "").items()}
        out[f"{name}{end}_threshold"] = float(threshold)
    return out | {f"{name}_{k}": v for k, v in with_limits(quality(case, 0.5), "average_precision", "").items()}


if __name__ == "__main__":
    main()
