"""A disk that fills up in each phase: one sentence that names the place and what is missing, and the same bytes once there is room."""

import os
import subprocess
from pathlib import Path

import pytest

from corpus.passes import DocumentsWorker
from corpus.select import SelectParams, SelectWorker
from corpus.signature import Signature
from corpus.source import FileSource, list_units
from store.artifact import Draft, Identity
from store.errors import DefinemedError, ResourceError
from store.executor import Job, SerialExecutor, Task
from store.fs import Folder

PAGE = 4096


@pytest.fixture
def disk(tmp_path):
    """A file system of 16 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], check=False).returncode:
        pytest.skip("needs a mount of its own")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk, n_bytes):
    """Leave n_bytes."""
    info = os.statvfs(disk)
    with open(disk / "filler", "wb") as out:
        out.write(bytes(max(0, info.f_bavail * info.f_frsize - n_bytes)))


class Filling(SerialExecutor):
    """Fills the disk when a phase begins, but for ``left`` bytes; counts the tasks it was asked for that were not done yet."""

    def __init__(self, disk=None, phase="", left=0):
        super().__init__()
        self.disk, self.phase, self.left, self.todo = disk, phase, left, []

    def map(self, job):
        if job.worker.__name__ == self.phase:
            fill(self.disk, self.left)
        self.todo += [t.key for t in job.tasks if job.draft.receipt(t.key) is None]
        return super().map(job)


FEW = ["ScatterWorker", "GroupWorker", "VerifyWorker", "RowsWorker"]
OTHERS = ["JoinWorker", "AskWorker", "RootsWorker", "ShingleWorker", "PartialsWorker", "ChooseWorker"]


@pytest.mark.parametrize("phases", [FEW, pytest.param(OTHERS, marks=pytest.mark.slow)])
def test_a_disk_that_fills_up_while_duplicates_are_found(tmp_path, small, write_corpus, disk, phases) -> None:
    artifact = write_corpus("pages", small.corpus())
    whole = small.run(tmp_path, artifact, name="whole", min_jaccard=0.7, docs_per_task=60)
    for phase in phases:
        with pytest.raises(DefinemedError, match=r"the disk is full: this file needs more than the .* MB|the disk is too small") as e:
            small.run(disk, artifact, Filling(disk, phase, 5 * PAGE), name=phase, min_jaccard=0.7, docs_per_task=60)
        assert str(disk / phase) in str(e.value) and "finished work is kept" in str(e.value)
        assert not list((disk / phase).rglob("manifest.json"))
        done = {p.stem for p in (disk / phase).rglob("_tasks/*.json")}
        (disk / "filler").unlink()
        again = Filling()
        made = small.run(disk, artifact, again, name=phase, min_jaccard=0.7, docs_per_task=60)
        assert made.manifest.content_hash == whole.manifest.content_hash and not done & set(again.todo)


def test_what_the_exchange_needs_is_said_before_it_begins(small, write_corpus, disk) -> None:
    artifact = write_corpus("pages", small.corpus())
    fill(disk, 7 * PAGE)
    executor = Filling()
    with pytest.raises(ResourceError, match=r"exchanging hashes writes 0\.032 MB and more, 0\.0\d+ MB are free") as e:
        small.run(disk, artifact, executor, docs_per_task=60)  # 120 documents, 20 bands and an exact hash of two halves, 12 bytes each
    assert e.value.where and e.value.where.startswith(str(disk / "dedup")) and not executor.todo


@pytest.mark.parametrize("phase", ["DocumentsWorker", "SelectWorker"])
def test_a_disk_that_fills_up_while_pages_are_signed_or_marked(tmp_path, small, write_corpus, disk, phase) -> None:
    pages = write_corpus("pages", small.corpus() * 2)
    clusters = small.run(tmp_path, pages).path("clusters.parquet")

    def make(root, executor):
        files = [pages.path(e.name) for e in pages.files("kept/")]
        draft = Draft.begin(Folder(str(root)), Identity("step", 1, {}))
        kwargs = {"folder": draft.folder, "resources": {}, "dropped_text_share": 1.0}
        if phase == "SelectWorker":
            kwargs |= {"params": SelectParams(), "clusters": clusters, "stages": ()}
            tasks = [Task(Path(f).stem, {"file": f}) for f in files]
            return draft.commit(executor.map(Job("select", SelectWorker, kwargs, tasks, draft)))
        source = FileSource(files=tuple(files))
        kwargs |= {"source": source, "stages": (Signature(),), "on_bad_input": "fail"}
        tasks = [Task(u.key, u.model_dump(mode="json")) for u in list_units(source)]
        return draft.commit(executor.map(Job("documents", DocumentsWorker, kwargs, tasks, draft)))

    whole = make(tmp_path / "whole", SerialExecutor())
    with pytest.raises(DefinemedError, match=r"the disk is full: this file needs more than the .* MB that are free") as e:
        make(disk, Filling(disk, phase, 9 * PAGE))
    assert str(disk / "step") in str(e.value)
    done = {p.stem for p in disk.rglob("_tasks/*.json")}
    (disk / "filler").unlink()
    again = Filling()
    assert make(disk, again).manifest.content_hash == whole.manifest.content_hash and not done & set(again.todo)
