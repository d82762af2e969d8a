"""Counters of finished tasks, by themselves and on the metrics port of a running session."""

import re
import sys
import time
import urllib.request

import ray
from hypothesis import given
from hypothesis import strategies as st
from ray import cloudpickle

from cluster.executor import RayExecutor
from cluster.metrics import TAGS, TrainMetrics, increments
from cluster.session import open_session
from store.artifact import Draft, Identity, Receipt
from store.executor import Job, Task
from store.fs import FileEntry, Folder

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
    """A worker that has taken a step and measured a held-out set."""

    def step(self):
        self.watched = TrainMetrics("continued")
        self.watched(7, {"loss": 2.5, "mfu": None, "tokens_per_s": 1234.0})
        self.watched(7, {"heldout/english": 0.75})


def scraped(port, wanted):
    """{(metric, step, outcome, reason): value} summed over workers, once ``wanted`` is among them."""
    deadline = time.monotonic() + 60
    while True:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
        found = {}
        for name, labels, value in re.findall(r"^ray_(definemed_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
            tags = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            key = (name, *((tags[t] for t in TAGS) if "outcome" in tags else (tags["model"], tags.get("set", ""))))
            found[key] = found.get(key, 0) + float(value)
        if all(found.get(k) == v for k, v in wanted.items()):
            return found, text
        assert time.monotonic() < deadline, f"{wanted} expected, found {found}"
        time.sleep(1)


def test_counters_reach_the_metrics_port(tmp_path):
    with open_session("local", n_cpus=2):
        draft = Draft.begin(Folder(str(tmp_path)), Identity("filter", 1, {}))
        tasks = [*(Task(f"{i}", {}) for i in range(5)), Task("shaky", {})]
        RayExecutor().map(Job("filter", Filter, {"draft": draft}, tasks, draft))
        trainer = ray.remote(Trainer).remote()
        ray.get(trainer.step.remote())
        port = ray.nodes()[0]["MetricsExportPort"]
        found, text = scraped(port, {
            ("definemed_tasks_total", "filter", "done", ""): 6,
            ("definemed_tasks_total", "filter", "failed", "ConnectionResetError"): 1,
            ("definemed_documents_total", "filter", "read", ""): 60,
            ("definemed_documents_total", "filter", "kept", ""): 18,
            ("definemed_documents_total", "filter", "dropped", "language/other"): 36,
            ("definemed_documents_total", "filter", "quarantined", "null_text"): 6,
            ("definemed_bytes_total", "filter", "read", ""): 30_000,
            ("definemed_bytes_total", "filter", "written", ""): 24,
            ("definemed_train_step", "continued", ""): 7, ("definemed_train_loss", "continued", ""): 2.5,
            ("definemed_train_tokens_per_s", "continued", ""): 1234, ("definemed_train_heldout", "continued", "english"): 0.75,
        })  # fmt: skip
        assert found["definemed_busy_seconds_total", "filter", "done", ""] > 0
        assert {k[2] for k in found if k[0] == "definemed_documents_total"} == {"read", "kept", "dropped", "quarantined"}
        assert not [k for k in found if k[0] == "definemed_train_mfu"], "what is not known is not shown"
        assert "secret@example.org" not in text, "messages may quote data"


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
