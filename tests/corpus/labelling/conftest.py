"""Pages with planted labels, the scripted server of benchmarks/chat_server.py, and how to ask it."""

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.chat_server import LABELS, Server, page_text
from corpus.labelling.ask import label_pages
from corpus.labelling.ask_params import AskParams
from store.artifact import Draft, Identity
from store.fs import Folder


@pytest.fixture
def server():
    running = Server()
    yield running
    running.close()


@dataclass
class Bench:
    """A folder with pages, and a way to ask a server about them. ``truth`` is the label of each page."""

    root: str
    server: Server
    truth: list = field(default_factory=list)
    runs: int = 0

    @property
    def pages(self):
        return f"{self.root}/pages.parquet"

    @property
    def work(self):
        return Folder(f"{self.root}/work")

    def write(self, n, texts=None):
        self.truth = [LABELS[i * 7 % 3] for i in range(n)]
        texts = [page_text(i, t) for i, t in enumerate(self.truth)] if texts is None else texts
        table = pa.table({"id": [f"p{i}" for i in range(n)], "text": pa.array(texts, pa.string())})
        pq.write_table(table, self.pages, row_group_size=64)
        return self

    def params(self, models=None, **more):
        endpoint = {"url": self.server.url, "timeout_s": 20, "attempts": 4} | more.pop("endpoint", {})
        models = [{"name": "m", "endpoint": endpoint}] if models is None else [{"name": m, "endpoint": endpoint} for m in models]
        labels = [{"name": name, "about": f"pages that are {name}"} for name in LABELS]
        return AskParams.model_validate({"labels": labels, "models": models, "unanswered": "fail", **more})

    def ask(self, params, work=None, **more):
        """Ask into a new artifact of the same identity."""
        self.runs += 1
        identity = Identity("labels", 1, params.identity(lambda url: url))
        draft = Draft.begin(Folder(f"{self.root}/run{self.runs}"), identity)
        return label_pages(draft, params, self.pages, self.work if work is None else work, **more)


@pytest.fixture
def bench(tmp_path, server):
    return Bench(str(tmp_path), server).write(24)


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch):
    """Waiting after a failure is part of the tests, half a second of it is not."""
    monkeypatch.setattr("corpus.labelling.pace.BACKOFF_S", 0.01)
