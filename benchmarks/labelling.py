"""Labelling through an endpoint: what a second run sends, what a kill loses, and what asking costs beside the bare HTTP client.

    python benchmarks/labelling.py [--quick] [--pages 1000] [--rounds 5]

A scripted server (benchmarks/chat_server.py) runs as a process of its own on loopback and answers at once. Pages have 3,000 characters.

* label.requests, label.second_run_requests: requests the server saw when the pages were labelled, and when they were labelled again.
* label.kept_at_kill, label.asked_twice_after_kill: a run is killed (SIGKILL) half-way and run again; answers on disk at the kill, and
  requests beyond one for each page (those under way at the kill; at most 16, the concurrency).
* label.requests_per_s: of the first run, everything included. The server shares the machine.
* label.cpu_ms_per_request, label.bare_cpu_ms_per_request: processor time of this process for a page, asked by the labeller (prompt,
  key, cache on disk, reading the answer, votes) and by httpx alone with the same bodies, in alternation; medians of the rounds.

Writes into benchmarks/results/classifier.json; the figures of its other sections stay as they were.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import httpx  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from benchmarks.chat_server import LABELS, page_text  # noqa: E402
from benchmarks.machine import RESULTS, machine_name, write_result  # noqa: E402
from corpus.labelling.ask import label_pages  # noqa: E402
from corpus.labelling.ask_params import AskParams  # noqa: E402
from corpus.labelling.request import voters_of  # noqa: E402
from store.artifact import Artifact, Draft, Identity  # noqa: E402
from store.fs import Folder  # noqa: E402
from store.params import Json  # noqa: E402

CONCURRENCY, PAGE_CHARS = 16, 3000
KILLED = "import sys; from benchmarks.labelling import ask; ask(*sys.argv[1:])"


@contextmanager
def serving() -> Iterator[str]:
    """The address of a fresh server."""
    process = subprocess.Popen([sys.executable, os.path.join(ROOT, "benchmarks", "chat_server.py")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def count(url: str) -> int:
    """Requests the server has seen."""
    with urllib.request.urlopen(url) as answer:
        return int(json.load(answer)["requests"])


def params(url: str) -> AskParams:
    """Three labels, one prompt, one model."""
    labels = [{"name": name, "about": f"pages that are {name}"} for name in LABELS]
    model = {"name": "m", "endpoint": {"url": url, "concurrency": CONCURRENCY}}
    return AskParams.model_validate({"labels": labels, "models": [model]})


def ask(url: str, pages: str, work: str, out: str) -> Artifact:
    """Label the pages into a new artifact."""
    asked = params(url)
    draft = Draft.begin(Folder(out), Identity("labels", 1, asked.identity(lambda name: name)))
    return label_pages(draft, asked, pages, Folder(work))


def bare(url: str, bodies: list[bytes]) -> None:
    """The same requests by httpx alone, as many at a time."""

    async def run() -> None:
        left = iter(bodies)
        async with httpx.AsyncClient(timeout=None, trust_env=False, limits=httpx.Limits(max_connections=CONCURRENCY)) as client:

            async def work() -> None:
                for body in left:
                    answer = await client.post(f"{url}/chat/completions", content=body, headers={"content-type": "application/json"})
                    assert json.loads(answer.json()["choices"][0]["message"]["content"])["label"] in LABELS

            await asyncio.gather(*(work() for _ in range(CONCURRENCY)))

    asyncio.run(run())


def measured(folder: str, n_pages: int, n_rounds: int) -> dict[str, Json]:
    """All figures."""
    pages = os.path.join(folder, "pages.parquet")
    texts = [(page_text(i, LABELS[i % 3]) * 40)[:PAGE_CHARS] for i in range(n_pages)]
    pq.write_table(pa.table({"id": [f"p{i}" for i in range(n_pages)], "text": texts}), pages)
    (voter,) = voters_of(params("http://127.0.0.1:1/v1"))
    bodies = [json.dumps(voter.request(i, t, 1).body(True), ensure_ascii=False).encode() for i, t in enumerate(texts)]
    ours, theirs, rates = [], [], []
    figures: dict[str, Json] = {"label.pages": n_pages, "label.concurrency": CONCURRENCY}
    with serving() as url:
        for i in range(n_rounds):
            work, begin, cpu = os.path.join(folder, f"work{i}"), time.perf_counter(), time.process_time()
            n_before = count(url)
            first = ask(url, pages, work, os.path.join(folder, f"a{i}"))
            rates.append(n_pages / (time.perf_counter() - begin))
            ours.append(1e3 * (time.process_time() - cpu) / n_pages)
            assert first.manifest.counts["labelled"] == n_pages
            n_first, cpu = count(url), time.process_time()
            bare(url, bodies)
            theirs.append(1e3 * (time.process_time() - cpu) / n_pages)
            n_bare = count(url)
            begin = time.perf_counter()
            second = ask(url, pages, work, os.path.join(folder, f"b{i}"))
            figures |= {"label.second_run_s": round(time.perf_counter() - begin, 3), "label.requests": n_first - n_before}
            figures["label.second_run_requests"] = count(url) - n_bare
            assert second.manifest == first.manifest
    figures |= {
        "label.requests_per_s": round(statistics.median(rates), 1),
        "label.cpu_ms_per_request": round(statistics.median(ours), 3),
    }
    figures |= {"label.bare_cpu_ms_per_request": round(statistics.median(theirs), 3)}
    return figures | killed(folder, pages, n_pages)


def killed(folder: str, pages: str, n_pages: int) -> dict[str, Json]:
    """A run killed half-way, and the run that goes on."""
    work = os.path.join(folder, "work-killed")
    with serving() as url:
        command = [sys.executable, "-c", KILLED, url, pages, work, os.path.join(folder, "k")]
        running = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": ROOT}, stderr=subprocess.DEVNULL)
        while count(url) < n_pages // 2:
            if running.poll() is not None:
                sys.exit("the run to be killed ended by itself")
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
        running.wait()
        with open(os.path.join(work, "answers", "answers-000.jsonl"), "rb") as file:
            n_kept = sum(1 for _ in file)
        ask(url, pages, work, os.path.join(folder, "k"))
        return {"label.kept_at_kill": n_kept, "label.asked_twice_after_kill": count(url) - n_pages}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 pages, one round; writes no result file")
    parser.add_argument("--pages", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(folder, 200 if options.quick else options.pages, 1 if options.quick else options.rounds)
    for key in sorted(figures):
        print(f"{key:<44} {figures[key]}")
    if not options.quick:
        write(figures)


def write(figures: dict[str, Json]) -> None:
    """Into the classifier's file, whose other figures, input and notes stay."""
    path = os.path.join(RESULTS, "classifier.json")
    if not os.path.exists(path):
        print("written:", write_result("classifier", "scripted server on loopback", figures, __doc__ or ""))
        return
    with open(path, encoding="utf-8") as file:
        body = json.load(file)
    kept = {k: v for k, v in body["figures"].items() if not k.startswith("label.")}
    body["figures"] = kept | figures | {"label.machine": machine_name()}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(body, file, indent=1, sort_keys=True)
        file.write("\n")
    print("written:", path)


if __name__ == "__main__":
    main()
