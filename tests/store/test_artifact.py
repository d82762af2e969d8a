"""Artifacts: complete or absent, the same bytes whoever did what in which order, and exactly what the manifest lists."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.artifact import MANIFEST, PROVENANCE, TASKS, Artifact, Draft, Identity, Receipt
from store.errors import ArtifactError
from store.executor import Job, SerialExecutor, Task
from store.fs import Folder

IDENTITY = Identity("numbers", 2, {"least": None, "share": 0.1}, {"source": "ab" * 32})


@pytest.fixture(params=["disk", "memory"])
def root(request, tmp_path):
    return Folder(str(tmp_path / "out") if request.param == "disk" else f"memory://{uuid.uuid4().hex}")


def make(root, keys="abc", order=None, summary=None):
    draft = Draft.begin(root, IDENTITY)
    receipts = {}
    for key in order or keys:
        entry = draft.folder.write_bytes(f"x/{key}.bin", key.encode() * 10, n_rows=10)
        receipts[key] = draft.finish(Receipt(key=key, files=(entry,), counts={"read": 10, f"dropped/{key}": 1}, timing={"run": 0.5}))
    return draft.commit([receipts[k] for k in keys], summary=summary, provenance={"workers": len(keys)})


def test_a_committed_artifact_is_read_back_whole(root):
    made = make(root, summary={"n_docs": 30})
    found = Artifact.open(IDENTITY.folder(root))
    assert found.manifest == made.manifest and found.fingerprint == IDENTITY.fingerprint and found.step == "numbers"
    assert found.folder.names() == sorted([MANIFEST, PROVENANCE, "x/a.bin", "x/b.bin", "x/c.bin"])
    assert found.folder.url.endswith(f"/numbers/{IDENTITY.fingerprint[:16]}")
    assert found.manifest.counts == {"dropped/a": 1, "dropped/b": 1, "dropped/c": 1, "read": 30}
    assert found.manifest.summary == {"n_docs": 30} and found.size_bytes == 30 and [e.name for e in found.files("x/b")] == ["x/b.bin"]
    assert found.provenance()["workers"] == 3 and found.provenance()["busy_s"] == {"run": 1.5}
    assert "numpy" in found.provenance()["versions"]
    found.verify()


def test_the_manifest_names_no_path_and_no_time(tmp_path):
    texts = []
    for name in ("one", "two"):
        artifact = make(Folder(str(tmp_path / name)))
        texts.append(artifact.folder.read_bytes(MANIFEST))
        time.sleep(0.01)
    assert texts[0] == texts[1] and str(tmp_path).encode() not in texts[0]


@settings(max_examples=40, deadline=None)
@given(st.permutations(list("abcdefgh")), st.integers(0, 7))
def test_same_manifest_for_any_order_and_any_retries(order, n_again):
    """Tasks finish in any order, some twice; a killed attempt left files behind."""
    plain = make(Folder(f"memory://{uuid.uuid4().hex}"), "abcdefgh")
    root = Folder(f"memory://{uuid.uuid4().hex}")
    stray = IDENTITY.folder(root)
    stray.write_bytes("x/a.bin.tmp-0000", b"half"), stray.write_bytes("y/other.bin", b"of an older attempt")
    mixed = make(root, "abcdefgh", order=[*order, *order[:n_again]])
    assert mixed.folder.read_bytes(MANIFEST) == plain.folder.read_bytes(MANIFEST)
    assert mixed.folder.names() == plain.folder.names()


def test_without_a_manifest_there_is_no_artifact(root):
    draft = Draft.begin(root, IDENTITY)
    draft.folder.write_bytes("x/a.bin", b"1")
    with pytest.raises(ArtifactError, match="there is no complete artifact here"):
        Artifact.open(draft.folder)


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"\xff\xfe", b"[]", b"null", lambda t: t[: len(t) // 2], lambda t: t.replace(b'"counts"', b'"cuonts"'),
     lambda t: t.replace(b'"size_bytes": 10', b'"size_bytes": "ten"')],
)  # fmt: skip
def test_a_damaged_manifest_is_said_to_be_damaged(tmp_path, damage):
    artifact = make(Folder(str(tmp_path)))
    text = artifact.folder.read_bytes(MANIFEST)
    artifact.folder.write_bytes(MANIFEST, damage(text) if callable(damage) else damage)
    with pytest.raises(ArtifactError, match="the manifest is damaged"):
        Artifact.open(artifact.folder)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2), st.integers(0, 9), st.integers(1, 255))
def test_verify_finds_any_flipped_byte(tmp_path, which, at, by):
    artifact = make(Folder(str(tmp_path / uuid.uuid4().hex)))
    name = artifact.manifest.files[which].name
    body = bytearray(artifact.folder.read_bytes(name))
    body[at] ^= by
    artifact.folder.write_bytes(name, bytes(body))
    with pytest.raises(ArtifactError, match=f"{name}: the file's content is not what the manifest says"):
        artifact.verify()


def test_verify_finds_a_missing_and_a_short_file(root):
    artifact = make(root)
    artifact.folder.write_bytes("x/b.bin", b"b" * 9)
    with pytest.raises(ArtifactError, match=r"10 bytes, sha256 .* found 9 bytes"):
        artifact.verify()
    artifact.folder.remove("x/b.bin")
    with pytest.raises(ArtifactError, match=r"x/b\.bin: a file of the artifact is missing"):
        artifact.verify()


def test_a_receipt_is_whole_or_not_there(root):
    draft = Draft.begin(root, IDENTITY)
    assert draft.receipt("a") is None
    receipt = draft.finish(Receipt(key="a", counts={"read": 1}, data={"list": [1, 1.5, None, True, {"k": "v"}]}))
    assert draft.receipt("a") == receipt
    for damage in (b"", b"{", b'{"key": "a", "unknown": 1}', b"\x80"):
        draft.folder.write_bytes(f"{TASKS}/a.json", damage)
        assert draft.receipt("a") is None


def test_a_commit_refuses_files_that_are_gone(root):
    draft = Draft.begin(root, IDENTITY)
    receipt = draft.finish(Receipt(key="a", files=(draft.folder.write_bytes("x/a.bin", b"1"),)))
    draft.folder.remove("x/a.bin")
    with pytest.raises(ArtifactError, match=r"1 files of finished tasks are gone, the first is x/a\.bin"):
        draft.commit([receipt])
    assert not draft.folder.exists(MANIFEST)


def test_a_commit_cut_off_before_the_manifest_finds_its_receipts_again(tmp_path, monkeypatch):
    draft = Draft.begin(Folder(str(tmp_path)), IDENTITY)
    receipt = draft.finish(Receipt(key="a", files=(draft.folder.write_bytes("x/a.bin", b"1"),)))
    os.makedirs(draft.folder.path(MANIFEST))  # the manifest cannot be put in place
    with pytest.raises(Exception, match="directory"):
        draft.commit([receipt])
    os.rmdir(draft.folder.path(MANIFEST))
    assert draft.receipt("a") == receipt
    artifact = draft.commit([receipt])
    artifact.verify()
    assert not artifact.folder.exists(TASKS)


def test_a_commit_cut_off_before_the_manifest_keeps_the_working_files_its_receipts_stand_for(root, monkeypatch):
    draft = Draft.begin(root, IDENTITY)
    done = draft.finish(Receipt(key="a", files=(draft.folder.write_bytes("edges/a.bin", b"1"),)))
    result = draft.folder.write_bytes("result.bin", b"2")
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "write_bytes", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            draft.commit([Receipt(key="a")], files=[result])
    assert draft.receipt("a") == done and draft.folder.exists("edges/a.bin")
    artifact = draft.commit([Receipt(key="a")], files=[result])
    assert artifact.folder.names() == sorted([MANIFEST, PROVENANCE, "result.bin"])


def test_counts_and_summary_bear_on_the_content_hash(tmp_path):
    a, b = make(Folder(str(tmp_path / "a")), summary={"n": 1}), make(Folder(str(tmp_path / "b")), summary={"n": 2})
    assert a.fingerprint == b.fingerprint and a.manifest.content_hash != b.manifest.content_hash


def test_identity_is_all_of_it_and_nothing_else():
    base = Identity("s", 1, {"a": 1}, {"in": "00"})
    others = [
        Identity("t", 1, {"a": 1}, {"in": "00"}),
        Identity("s", 2, {"a": 1}, {"in": "00"}),
        Identity("s", 1, {"a": 2}, {"in": "00"}),
        Identity("s", 1, {"a": 1}, {"in": "01"}),
        Identity("s", 1, {"a": 1}, {"on": "00"}),
    ]
    assert len({i.fingerprint for i in [base, *others]}) == 6
    assert base.fingerprint == Identity("s", 1, {"a": 1}, {"in": "00"}).fingerprint


WORK = """
import sys, time
from store.artifact import Draft, Identity, Receipt
from store.executor import Job, SerialExecutor, Task
from store.fs import Folder

class Slow:
    def __init__(self, draft): self.draft = draft
    def run(self, task):
        body = task.key.encode() * 100_000
        with self.draft.folder.writing(f"x/{task.key}.bin") as out:
            for start in range(0, len(body), 1000):
                out.write(body[start : start + 1000])
                time.sleep(float(sys.argv[2]))
        return Receipt(key=task.key, files=(self.draft.folder.entry(f"x/{task.key}.bin"),), counts={"read": 1})

draft = Draft.begin(Folder(sys.argv[1]), Identity("slow", 1, {}))
tasks = [Task(f"{i:02}", {}) for i in range(8)]
seen = []
receipts = SerialExecutor(lambda now: print(now.done, flush=True)).map(Job("slow", Slow, {"draft": draft}, tasks, draft))
draft.commit(receipts)
"""


def test_kill_after_kill_ends_in_the_same_bytes(tmp_path):
    repo = str(Path(__file__).resolve().parents[2])
    env, rng = {**os.environ, "PYTHONPATH": repo}, random.Random(7)

    def start(folder, pause_s):
        return subprocess.Popen(
            [sys.executable, "-c", WORK, str(tmp_path / folder), str(pause_s)], env=env, stdout=subprocess.PIPE, text=True
        )

    with start("calm", 0) as calm:
        assert calm.wait(30) == 0 or calm.stdout.read()
    folder = Identity("slow", 1, {}).folder(Folder(str(tmp_path / "killed")))
    for n_done in (1, 3, 6):
        with start("killed", 0.0005) as worker:
            for said in worker.stdout:
                if int(said) >= n_done:
                    break
            time.sleep(rng.random() * 0.05)  # into the middle of the next file
            worker.send_signal(signal.SIGKILL)
        assert not folder.exists(MANIFEST) and len(folder.names(TASKS)) >= n_done
    with start("killed", 0) as last:
        said = [int(line) for line in last.stdout]
        assert said[-1] == 8 and len(said) < 8, "finished tasks are not done again"
    calm_folder = Identity("slow", 1, {}).folder(Folder(str(tmp_path / "calm")))
    assert folder.names() == calm_folder.names()
    assert all(folder.read_bytes(n) == calm_folder.read_bytes(n) for n in folder.names() if n != PROVENANCE)
    assert json.loads(folder.read_bytes(PROVENANCE))["finished_unix_s"] > 0


class Copy:
    """Writes what its payload says into the draft."""

    def __init__(self, draft):
        self.draft = draft

    def run(self, task):
        return Receipt(key=task.key, files=(self.draft.folder.write_bytes(f"x/{task.key}", str(task.payload["body"]).encode()),))


def test_a_job_runs_the_same_on_disk_and_in_object_storage(tmp_path):
    manifests = set()
    for root in (Folder(str(tmp_path)), Folder(f"memory://{uuid.uuid4().hex}")):
        draft = Draft.begin(root, IDENTITY)
        job = Job("copy", Copy, {"draft": draft}, [Task(k, {"body": k * 3}) for k in "ba"], draft)
        manifests.add(draft.commit(SerialExecutor().map(job)).folder.read_bytes(MANIFEST))
    assert len(manifests) == 1
    shutil.rmtree(tmp_path / "numbers")
