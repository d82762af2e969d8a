"""Folders on disk and in object storage (fsspec's memory:// and a client that remembers listings); atomic writes."""

import hashlib
import os
import pickle
import resource
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.errors import InputError, ResourceError
from store.fs import FileEntry, Folder, digest_file, open_input, read_bytes
from store.listing import find_inputs

names = st.lists(st.text("abcxyz-_.0", min_size=1, max_size=6).filter(lambda s: s.strip(".")), min_size=1, max_size=3).map("/".join)


class RemembersListings(MemoryFileSystem):
    """An object store's client: what it listed once it answers from memory until told otherwise."""

    protocol = "remembers"
    seen: dict = {}  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.removeprefix("remembers://"))

    def find(self, path, **options):
        return self.seen.setdefault(("find", path), super().find(path, **options))

    def exists(self, path, **options):
        return self.seen.setdefault(("exists", path), super().exists(path, **options))

    def invalidate_cache(self, path=None):
        self.seen.clear()


fsspec.register_implementation("remembers", RemembersListings, clobber=True)


@pytest.fixture(params=["disk", "file", "memory"])
def folder(request, tmp_path):
    return Folder({"disk": f"{tmp_path}/a", "file": f"file://{tmp_path}/a", "memory": f"memory://{uuid.uuid4().hex}/a"}[request.param])


def test_what_is_written_is_read_listed_and_removed(folder):
    assert folder.names() == [] and not folder.exists("x/1.bin")
    entry = folder.write_bytes("x/1.bin", b"one", n_rows=3)
    assert entry == FileEntry(name="x/1.bin", size_bytes=3, sha256=hashlib.sha256(b"one").hexdigest(), n_rows=3)
    folder.write_bytes("x/y/2.bin", b"")
    folder.write_bytes("0", b"zero")
    assert folder.names() == ["0", "x/1.bin", "x/y/2.bin"] and folder.names("x") == ["x/1.bin", "x/y/2.bin"]
    assert folder.names("nothing") == []
    assert folder.entry("x/1.bin", n_rows=3) == entry and digest_file(folder.path("0"))[0] == 4
    assert folder.read_bytes("x/1.bin") == read_bytes(folder.path("x/1.bin")) == b"one"
    assert (folder / "x").read_bytes("1.bin") == b"one" and Folder(folder.url + "/").path("0") == folder.path("0")
    assert pickle.loads(pickle.dumps(folder)) == folder
    folder.write_bytes("x/1.bin", b"two")
    assert folder.read_bytes("x/1.bin") == b"two"
    folder.remove("x"), folder.remove("x"), folder.remove("0")
    assert folder.names() == []


def test_a_failed_block_leaves_what_was_there(folder):
    folder.write_bytes("f", b"old")
    with pytest.raises(ZeroDivisionError), folder.writing("f") as out:
        out.write(b"new")
        raise ZeroDivisionError
    assert folder.read_bytes("f") == b"old" and folder.names() == ["f"]


def test_a_missing_file_is_an_input_error(folder):
    with pytest.raises(InputError, match="no such file"):
        folder.read_bytes("nothing")
    with pytest.raises(InputError, match="no such file"):
        open_input(folder.path("nothing"))


def test_an_unknown_kind_of_address_is_an_input_error():
    with pytest.raises(InputError, match="cannot open this kind of address"):
        read_bytes("gopher99://x/y")


def test_another_process_is_seen_through_a_remembered_listing():
    place = uuid.uuid4().hex
    mine, theirs = Folder(f"remembers://{place}"), Folder(f"memory://{place}")
    assert mine.names() == [] and not mine.exists("a")
    theirs.write_bytes("a", b"1")
    assert mine.names() == ["a"] and mine.exists("a")
    theirs.remove("a")
    assert mine.names() == [] and not mine.exists("a")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(names, st.binary(max_size=50), max_size=6))
def test_disk_and_object_storage_hold_the_same(tmp_path, files):
    flat = {n: b for n, b in files.items() if not any(o != n and o.startswith(n + "/") for o in files)}  # a file is no folder
    place = uuid.uuid4().hex
    pair = Folder(str(tmp_path / place)), Folder(f"memory://{place}")
    entries = [[f.write_bytes(n, b) for n, b in flat.items()] for f in pair]
    assert entries[0] == entries[1] and pair[0].names() == pair[1].names() == sorted(flat)
    assert all(f.read_bytes(n) == b for f in pair for n, b in flat.items())


def test_inputs_by_path_folder_and_pattern(tmp_path):
    place = f"memory://{uuid.uuid4().hex}"
    for base in (str(tmp_path), f"file://{tmp_path}", place):
        for name in ("b.parquet", "a.parquet", "sub/c.jsonl"):
            Folder(base).write_bytes(name, b"x")
        root = "" if not base.startswith("memory") else "memory://"
        found = {
            p: [f.removeprefix(root) for f in find_inputs(f"{base}/{p}")] for p in ("*.parquet", "", "a.parquet", "**/*.jsonl", "no")
        }
        ends = {p: [f.rpartition("/")[2] for f in fs] for p, fs in found.items()}
        assert ends == {"*.parquet": ["a.parquet", "b.parquet"], "": ["a.parquet", "b.parquet", "c.jsonl"], "a.parquet": ["a.parquet"],
                        "**/*.jsonl": ["c.jsonl"], "no": []}  # fmt: skip
        assert all(read_bytes(f) == b"x" for f in find_inputs(f"{base}/*.parquet")), "what is found can be opened"


WRITER = """
import sys, time
from store.fs import Folder
with Folder(sys.argv[1]).writing("big") as out:
    out.write(b"half"); out.flush()
    print("half-way", flush=True)
    time.sleep(60)
"""


def test_a_writer_killed_half_way_leaves_no_file_of_that_name(tmp_path):
    Folder(str(tmp_path)).write_bytes("big", b"the old one")
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": root}, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"half-way\n"
        writer.send_signal(signal.SIGKILL)
    assert (tmp_path / "big").read_bytes() == b"the old one"
    assert len(list(tmp_path.iterdir())) == 2, "the half is there under another name, for the commit to remove"


@pytest.fixture
def small_files():
    """No file may grow over 64 KiB: what a full disk looks like, without filling one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_takes_no_more_is_a_resource_error_and_leaves_nothing(tmp_path, small_files):
    folder = Folder(str(tmp_path))
    with pytest.raises(ResourceError, match=r"big: .*File too large"):
        folder.write_bytes("big", bytes(1 << 20))
    assert folder.names() == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_said_in_words(tmp_path, monkeypatch):
    real = open
    monkeypatch.setattr("builtins.open", lambda name, *a, **k: real("/dev/full" if ".tmp-" in str(name) else name, *a, **k))
    with pytest.raises(ResourceError, match=r"disk is full: .* more than the [\d,.]+ MB .* Free space or choose another --out"):
        Folder(str(tmp_path)).write_bytes("f", bytes(1 << 20))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ResourceError, match="permission denied"):
        Folder(str(tmp_path / "x")).make()
