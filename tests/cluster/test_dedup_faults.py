"""A worker killed in each phase of deduplication on Ray, and files cut in half: the same bytes as undisturbed."""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray import cloudpickle

from cluster.executor import RayExecutor
from cluster.session import open_session
from corpus.dedup import DedupParams, connect, signatures_of
from corpus.passes import DocumentsWorker
from corpus.select import SelectParams, SelectWorker
from corpus.signature import Signature
from corpus.source import FileSource, list_units
from store.artifact import Draft, Identity
from store.executor import Job, SerialExecutor, Task
from store.fs import Folder

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test module

pytestmark = pytest.mark.slow


class Killed:
    """A worker whose process dies by SIGKILL, once, after it has done a task and before it could say so."""

    def __init__(self, worker, kwargs, marker):
        self.worker, self.marker = worker(**kwargs), Path(marker)

    def run(self, task):
        receipt = self.worker.run(task)
        try:
            self.marker.touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        except FileExistsError:
            pass
        return receipt


@dataclass
class KillingExecutor(RayExecutor):
    """Runs the tasks of one kind on Ray and kills a worker of them; the other phases run here, which is faster."""

    phase: str = ""
    marker: str = ""

    def map(self, job):
        if job.worker.__name__ != self.phase:
            return SerialExecutor().map(job)
        kwargs = {"worker": job.worker, "kwargs": dict(job.kwargs), "marker": self.marker}
        return super().map(Job(job.step, Killed, kwargs, job.tasks, job.draft, unit=job.unit, phase=job.phase))


@pytest.fixture(scope="module", autouse=True)
def session():
    with open_session("local", n_cpus=2) as opened:
        yield opened


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("pages"), np.random.default_rng(0)
    words = np.array(["".join(chr(97 + int(n) // 26**k % 26) for k in range(6)) for n in random.integers(0, 10**8, 3000)])
    texts = [" ".join(random.choice(words, 120)) for _ in range(400)]
    texts += [t.replace(" a", " b", i % 3) for i, t in enumerate(texts[:200])]
    pq.write_table(pa.table({"text": texts, "id": [f"p-{i}" for i in range(600)]}), folder / "a.parquet", row_group_size=50)
    return FileSource(files=(str(folder / "a.parquet"),), unit_docs=50)


def road(root, source, executor):
    """Signatures, dedup and selection; the content hashes of the three artifacts."""
    stage = Signature(buckets=20, hashes_per_bucket=6)
    draft = Draft.begin(Folder(str(root / "documents")), Identity("documents", 1, {"stages": [stage.model_dump(mode="json")]}))
    kwargs = {"folder": draft.folder, "source": source, "stages": (stage,), "resources": {}, "dropped_text_share": 1.0,
              "on_bad_input": "fail"}  # fmt: skip
    tasks = [Task(u.key, u.model_dump(mode="json"), u.n_docs) for u in list_units(source)]
    documents = draft.commit(executor.map(Job("documents", DocumentsWorker, kwargs, tasks, draft)))
    signatures, texts = signatures_of(documents)
    # Memory for 150 documents a task: hashes are exchanged, and candidates verified, in several parts.
    params = DedupParams(min_jaccard=0.7).model_copy(update={"task_memory_mb": 150 * 48 / 1e6})
    dedup = connect(Draft.begin(Folder(str(root / "dedup")), Identity("dedup", 1, {})), executor, signatures, params, texts)
    draft = Draft.begin(Folder(str(root / "select")), Identity("select", 1, {}))
    kwargs = {"folder": draft.folder, "params": SelectParams(), "clusters": dedup.path("clusters.parquet"), "stages": (),
              "resources": {}, "dropped_text_share": 1.0}  # fmt: skip
    tasks = [Task(f"{i:06d}", {"file": url}) for i, url in enumerate(texts)]
    select = draft.commit(executor.map(Job("select", SelectWorker, kwargs, tasks, draft)))
    return [a.manifest.content_hash for a in (documents, dedup, select)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, source):
    return road(tmp_path_factory.mktemp("undisturbed"), source, SerialExecutor())


PHASES = ["DocumentsWorker", "ScatterWorker", "GroupWorker", "JoinWorker", "RootsWorker", "ShingleWorker", "VerifyWorker",
          "ChooseWorker", "RowsWorker", "SelectWorker"]  # fmt: skip


@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_worker_changes_no_byte(tmp_path, source, undisturbed, phase):
    marker = tmp_path / "killed"
    assert road(tmp_path, source, KillingExecutor(phase=phase, marker=str(marker))) == undisturbed
    assert marker.exists()


@pytest.mark.parametrize("kind", ["signatures", "exchange", "edges", "join", "roots", "shingles", "chosen"])
def test_a_file_cut_in_half_is_named_and_made_again(tmp_path, source, undisturbed, kind, caplog):
    class Dies(SerialExecutor):
        """Ends after the phase whose files are cut, before the next one reads them."""

        def map(self, job):
            receipts = super().map(job)
            if any(f.name.startswith(f"{kind}/") for r in receipts for f in r.files):
                raise KeyboardInterrupt
            return receipts

    with pytest.raises(KeyboardInterrupt):
        road(tmp_path, source, Dies())
    cut = next(p for p in sorted(tmp_path.rglob(f"{kind}/**/*")) if p.is_file())
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    assert road(tmp_path, source, SerialExecutor()) == undisturbed
    assert str(cut) in caplog.text and "is done again" in caplog.text
