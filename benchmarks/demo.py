"""The demo as a user runs it: how long the first and the second run take, and what the models score.

    python benchmarks/demo.py [--out FOLDER] [--quick]

Runs recipes/demo.yaml twice through the command line into an empty folder. Writes benchmarks/results/demo.json. --quick takes 1,500
pages and stops after the corpus (under a minute); it writes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from benchmarks.machine import Watched, write_result  # noqa: E402
from benchmarks.road import find_run  # noqa: E402
from store.fs import Folder  # noqa: E402
from store.params import Json  # noqa: E402

MEASURES = ("bits_per_byte", "acc", "correct")


def main() -> None:
    """Run twice, read the scores, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=os.path.join(ROOT, "out-demo"), help="output folder, emptied first")
    parser.add_argument("--quick", action="store_true", help="1,500 pages, corpus only; writes no result file")
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    os.makedirs(options.out)
    command = [sys.executable, "-m", "cluster.cli", "run", "demo", "--out", options.out, "--address", "local"]
    command += ["--set", "corpus.source.sample.n_docs=1500", "--until", "select"] if options.quick else []
    first, second = (Watched(command, os.path.join(options.out, f"demo-{i}.log")) for i in (1, 2))
    if first.returncode or second.returncode:
        sys.exit(f"the demo failed: see {options.out}/demo-1.log")
    figures: dict[str, Json] = {
        "demo.first_run_s": round(first.wall_s, 1), "demo.second_run_s": round(second.wall_s, 2),
        "demo.peak_mb": round(first.peak_bytes / 1e6, 1),
    }  # fmt: skip
    figures |= {} if options.quick else score_figures(options.out)
    for name, value in figures.items():
        print(f"{name:<60} {value}")
    if not options.quick:
        print("written:", write_result("demo", "built-in sample, 6,000 pages", figures, __doc__ or ""))


def score_figures(out: str) -> dict[str, Json]:
    """scores.<model>.<metric> and its standard error."""
    evaluation = find_run(out).artifact(Folder(out), "evaluate")
    assert evaluation
    scores = json.loads(evaluation.folder.read_bytes("scores.json"))
    figures: dict[str, Json] = {}
    for metric in scores["metrics"]:
        if metric["measure"] in MEASURES:
            for model in scores["models"]:
                key = f"scores.{model}.{metric['set']}.{metric['measure']}".replace(" ", "_")
                figures[key] = metric["values"][model]["value"]
                figures[f"{key}.stderr"] = metric["values"][model]["stderr"]
    return figures


if __name__ == "__main__":
    main()
