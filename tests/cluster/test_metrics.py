"""Counters of finished tasks and gauges of a training on the metrics port of a running session, as Prometheus reads it."""

import os
import signal
import sys
import time
import urllib.request
from collections import Counter

import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from ray import cloudpickle

from cluster.executor import RayExecutor
from cluster.metrics import GAUGES, TAGS, TrainMetrics, increments
from cluster.session import open_session
from cluster.training import run_training
from store.artifact import Draft, Identity, Receipt
from store.executor import Job, Task
from store.fs import FileEntry, Folder
from training.log import read_lines

cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Filter:
    """Keeps three of ten documents; fails the first attempt at the task "shaky"."""

    def __init__(self, draft):
        self.draft = draft

    def run(self, task):
        if task.key == "shaky" and not self.draft.folder.exists("tried"):
            self.draft.folder.write_bytes("tried", b"")
            raise ConnectionResetError("secret@example.org")
        counts = {"read": 10, "read_bytes": 5000, "kept": 3, "dropped/language/other": 6, "quarantined/null_text": 1, "n_tokens": 7}
        return Receipt(key=task.key, files=(self.draft.folder.write_bytes(f"x/{task.key}", b"abcd"),), counts=counts)


class Trainer:
    """A worker that has taken a step and measured a held-out set, and then is long at its next step."""

    def begin(self):
        self.watched = TrainMetrics("slow").__enter__()
        self.watched(7, {"loss": 2.5, "mfu": None})
        self.watched(7, {"heldout/english": 0.75})

    def end(self):
        self.watched.__exit__(None, None, None)


@pytest.fixture(scope="module")
def session():
    """A Ray whose processes report every second, not every ten, so that it also forgets gauges after two seconds, not twenty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_metrics_report_interval_ms", "1000")
        with open_session("local", n_cpus=2) as opened:
            yield opened


def scrape(url):
    """({(metric, *its own tags): value} summed over workers, the whole page)."""
    text = urllib.request.urlopen(url, timeout=5).read().decode()
    found = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("ray_definemed"):
                own = [sample.labels[t] for t in (*TAGS, "model", "set") if t in sample.labels]
                found[sample.name.removeprefix("ray_definemed_"), *own] += sample.value
    return found, text


def scraped(url, wanted):
    """What ``scrape`` finds, once ``wanted`` is among it."""
    deadline = time.monotonic() + 60
    while True:
        found, text = scrape(url)
        if all(found[k] == v for k, v in wanted.items()):
            return found, text
        assert time.monotonic() < deadline, f"{wanted} expected, found {found}"
        time.sleep(0.5)


def test_counters_reach_the_metrics_port(session, tmp_path):
    draft = Draft.begin(Folder(str(tmp_path)), Identity("filter", 1, {}))
    tasks = [*(Task(f"{i}", {}) for i in range(5)), Task("shaky", {})]
    RayExecutor().map(Job("filter", Filter, {"draft": draft}, tasks, draft))
    found, text = scraped(session.metrics_url, {
        ("tasks_total", "filter", "done", ""): 6,
        ("tasks_total", "filter", "failed", "ConnectionResetError"): 1,
        ("documents_total", "filter", "read", ""): 60,
        ("documents_total", "filter", "kept", ""): 18,
        ("documents_total", "filter", "dropped", "language/other"): 36,
        ("documents_total", "filter", "quarantined", "null_text"): 6,
        ("bytes_total", "filter", "read", ""): 30_000,
        ("bytes_total", "filter", "written", ""): 24,
    })  # fmt: skip
    assert found["busy_seconds_total", "filter", "done", ""] > 0
    assert {k[2] for k in found if k[0] == "documents_total"} == {"read", "kept", "dropped", "quarantined"}
    assert "secret@example.org" not in text, "messages may quote data"


def test_gauges_stay_until_the_training_ends(session):
    """Set once, they outlive the two seconds after which Ray forgets them; and then it does.

    A worker that a busy machine holds up for two seconds loses them for a moment, so a scrape may have to be repeated: what nobody sets
    again never comes back.
    """
    trainer = ray.remote(Trainer).remote()
    ray.get(trainer.begin.remote())
    wanted = {("train_step", "slow"): 7, ("train_loss", "slow"): 2.5, ("train_heldout", "slow", "english"): 0.75}
    scraped(session.metrics_url, wanted)
    time.sleep(4)
    found, _ = scraped(session.metrics_url, wanted)
    assert {k: v for k, v in found.items() if k[1] == "slow"} == wanted, "what is not known is not shown"
    ray.get(trainer.end.remote())
    deadline = time.monotonic() + 60
    while [k for k in scrape(session.metrics_url)[0] if k[1] == "slow"]:
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.mark.slow
def test_gauges_of_a_training_are_there_while_it_runs(session, make_job, tmp_path):
    """Scraped with every line of the log until Ray would have forgotten the first evaluation twice over; then stopped by SIGTERM."""
    job = make_job(tmp_path, max_steps=100_000, save_every_steps=None)
    seen, sent = [], []  # (seconds, {metric: value})

    def look(_):
        if sent:
            return
        found = {k[0].removeprefix("train_"): v for k, v in scrape(session.metrics_url)[0].items() if k[1] == "continued"}
        seen.append((time.monotonic(), found))
        began = next((s for s, f in seen if "heldout" in f), None)
        if began is not None and time.monotonic() - began > 5:
            sent.append(os.kill(os.getpid(), signal.SIGTERM))

    assert run_training(job, name="continued", watch=look)["status"] == "stopped"
    lines = {line["step"]: line for line in read_lines(f"{job.out_dir}/metrics.jsonl")}
    (scored,) = read_lines(f"{job.out_dir}/heldout.jsonl")
    with_score = [(s, f) for s, f in seen if "heldout" in f]  # a busy machine may lose it for a moment
    assert with_score[-1][0] - with_score[0][0] > 4, "an evaluation is shown until the next"
    shown = [f for _, f in with_score]
    assert len(shown) > 5 and {f["heldout"] for f in shown} == {scored["bits_per_byte"]}
    assert len({f["step"] for f in shown if "step" in f}) > 2
    for found in (f for f in shown if f.get("step")):
        assert set(found) == {*GAUGES, "heldout"} - {"mfu"}, "what is not known is not shown"
        for name in ("loss", "lr", "grad_norm"):  # a report may fall between two steps' gauges
            near = [lines[s][name] for s in (found["step"], found["step"] + 1) if s in lines]
            assert found[name] in near
        assert found["tokens_per_s"] > 0 and 0 <= found["data_wait"] < 1 and found["memory_bytes"] > 50e6


@given(
    st.dictionaries(
        st.sampled_from(["read", "kept", "dropped/a/b", "dropped/c", "quarantined/x", "masked/email", "n"]), st.integers(0, 99)
    )
)
def test_every_document_is_counted_once(counts):
    receipt = Receipt(key="k", files=(FileEntry(name="f", size_bytes=7, sha256=""),), counts=counts)
    found = list(increments(receipt, 1.5))
    documents = [(f"{i.outcome}/{i.reason}".rstrip("/"), i.value) for i in found if i.metric == "documents"]
    assert dict(documents) == {k: v for k, v in counts.items() if k not in ("masked/email", "n")} and len(documents) == len(
        dict(documents)
    )
    assert [(i.outcome, i.value) for i in found if i.metric == "bytes"] == [("read", 0), ("written", 7)]
    assert [i.value for i in found if i.metric == "tasks"] == [1]
