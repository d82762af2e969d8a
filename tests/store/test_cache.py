"""Shards of an object store are mapped from a local cache: checked, bounded, and safe with several processes."""

import hashlib
import multiprocessing
import os
import time
import uuid

import numpy as np
import pytest

from store.artifact import Draft, Identity
from store.cache import STALE_S, cache_folder, map_cached
from store.errors import ArtifactError, InputError, ResourceError
from store.fs import Folder
from store.tokens import TOKEN_DTYPE, TokenStore, write_token_shard


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache's folder; a test says its limit in bytes."""
    monkeypatch.setenv("DEFINEMED_CACHE", str(tmp_path / "cache"))
    return lambda limit: monkeypatch.setenv("DEFINEMED_CACHE_GB", str(limit / 1e9))


def placed(number, n=1000):
    """(URL, entry) of a file of 4 n bytes in a store: fsspec's memory, which is as remote to the cache as any."""
    body = np.full(n, number, "<u4").tobytes()
    folder = Folder(f"memory://{uuid.uuid4().hex}")
    return folder.path("x.bin"), folder.write_bytes("x.bin", body)


def files():
    return sorted(p.name for p in cache_folder().iterdir() if not p.name.endswith(".lock"))


def test_what_is_there_is_not_fetched_again(cache):
    cache(10**6)
    url, entry = placed(7)
    first = map_cached(url, entry, TOKEN_DTYPE)
    assert first.tolist() == [7] * 1000 and not first.flags.writeable
    assert map_cached("memory://gone/x.bin", entry, TOKEN_DTYPE).tolist() == [7] * 1000
    assert files() == [entry.sha256]


@pytest.mark.parametrize(("change", "says"), [({"sha256": "0" * 64}, r"not what the manifest says \(sha256\)"),
                                              ({"size_bytes": 3996}, "4000 bytes in the store, 3996 in the manifest"),
                                              ({"size_bytes": 4004}, "4000 bytes in the store, 4004 in the manifest")])  # fmt: skip
def test_what_is_not_as_the_manifest_says_never_gets_in(cache, change, says):
    cache(10**6)
    url, entry = placed(7)
    with pytest.raises(ArtifactError, match=says):
        map_cached(url, entry.model_copy(update=change), TOKEN_DTYPE)
    assert files() == []


def test_a_damaged_copy_is_fetched_again(cache):
    cache(10**6)
    url, entry = placed(7)
    map_cached(url, entry, TOKEN_DTYPE)
    (cache_folder() / entry.sha256).write_bytes(b"cut")
    assert map_cached(url, entry, TOKEN_DTYPE).tolist() == [7] * 1000


def test_the_least_recently_used_goes_first_and_the_limit_holds(cache):
    cache(10_000)  # two files of 4,000 bytes
    (url_a, a), (url_b, b), (url_c, c) = placed(1), placed(2), placed(3)
    for url, entry in ((url_a, a), (url_b, b), (url_a, a)):
        map_cached(url, entry, TOKEN_DTYPE)
        time.sleep(0.02)
    map_cached(url_c, c, TOKEN_DTYPE)
    assert files() == sorted([a.sha256, c.sha256])


def test_what_is_mapped_stays_and_a_full_cache_says_so(cache):
    cache(10_000)
    (url_a, a), (url_b, b), (url_c, c) = placed(1), placed(2), placed(3)
    held = [map_cached(url_a, a, TOKEN_DTYPE).view(np.ndarray), map_cached(url_b, b, TOKEN_DTYPE)]
    with pytest.raises(ResourceError, match=r"no room for 0\.00 GB.*DEFINEMED_CACHE_GB"):
        map_cached(url_c, c, TOKEN_DTYPE)
    assert files() == sorted([a.sha256, b.sha256])
    held.pop(0)
    assert map_cached(url_c, c, TOKEN_DTYPE)[0] == 3 and files() == sorted([b.sha256, c.sha256]) and held[0][0] == 2


def test_the_rest_of_a_killed_process_is_removed_when_it_is_old(cache):
    cache(5_000)
    cache_folder().mkdir()
    rest = cache_folder() / ("1" * 64 + ".tmp-00000000")
    rest.write_bytes(bytes(4000))
    url, entry = placed(1)
    with pytest.raises(ResourceError):
        map_cached(url, entry, TOKEN_DTYPE)
    old = time.time() - STALE_S - 1
    os.utime(rest, (old, old))
    map_cached(url, entry, TOKEN_DTYPE)
    assert files() == [entry.sha256]


def test_what_is_not_the_caches_own_is_neither_counted_nor_removed(cache):
    """The folder also holds compiled kernels and models, and may be any folder of the user's."""
    cache(5_000)
    cache_folder().mkdir()
    (cache_folder() / "numba").mkdir()
    others = [cache_folder() / "lid.176.ftz", cache_folder() / "thesis.tex", cache_folder() / ("a" * 64 + ".txt")]
    for path in others:
        path.write_bytes(bytes(4000))
        os.utime(path, (1, 1))
    for number in (1, 2):  # the second needs the room of the first
        url, entry = placed(number)
        map_cached(url, entry, TOKEN_DTYPE)
    assert files() == sorted([entry.sha256, "numba", *(p.name for p in others)])
    assert all(p.stat().st_size == 4000 for p in others)


def test_a_limit_that_is_no_number_is_refused(cache, monkeypatch):
    monkeypatch.setenv("DEFINEMED_CACHE_GB", "viel")
    with pytest.raises(ResourceError, match="DEFINEMED_CACHE_GB is viel"):
        map_cached(*placed(1), TOKEN_DTYPE)


def test_an_absent_file_is_named(cache):
    cache(10**6)
    with pytest.raises(InputError, match="no such file"):
        map_cached("memory://nowhere/x.bin", placed(1)[1], TOKEN_DTYPE)


# ------------------------------------------------------------------------------------------------------- several processes and S3


def store_of(folder, n_shards=3):
    draft, entries = Draft.begin(folder, Identity("tokens", 2, {})), []
    for s in range(n_shards):
        n = np.full(10, 100, np.int32)
        entries += write_token_shard(draft.folder, f"{s:05d}", np.arange(1000, dtype=np.uint32) + s, np.arange(10), n, n)
    return draft.commit(files=entries, summary={"vocab_size": 2000, "eos_id": 0})


def test_a_store_on_s3_is_mapped_from_the_cache(s3, cache):
    cache(13_000)
    artifact = store_of(Folder(f"s3://{s3}/out"))
    store = TokenStore.open(artifact)
    assert [store.tokens(d)[0] for d in (0, 9, 10, 29)] == [0, 900, 1, 902] and len(files()) == 3
    assert all(isinstance(s.base, np.memmap) for s in store.shards)
    cache(11_000)
    with pytest.raises(ResourceError, match="do not fit the cache"):
        TokenStore.open(artifact)
    cache(13_000)
    del store
    artifact.folder.write_bytes("tokens/00001.bin", bytes(4000))
    assert TokenStore.open(artifact).tokens(10)[0] == 1  # the copy is what the manifest says
    (cache_folder() / artifact.files("tokens/")[1].sha256).unlink()
    with pytest.raises(ArtifactError, match=r"tokens/00001\.bin.*sha256"):
        TokenStore.open(artifact)


def test_an_empty_shard_needs_no_copy(s3, cache):
    cache(10)
    draft = Draft.begin(Folder(f"s3://{s3}/out"), Identity("tokens", 2, {}))
    none = np.zeros(0, np.int32)
    entries = write_token_shard(draft.folder, "00000", np.zeros(0, np.uint32), np.zeros(0, np.int64), none, none)
    assert TokenStore.open(draft.commit(files=entries)).n_docs == 0


def _read(url, entry, queue):
    mapped = map_cached(url, entry, TOKEN_DTYPE)
    queue.put((hashlib.sha256(mapped.tobytes()).hexdigest(), os.getpid()))


def test_several_processes_fetch_a_file_once_and_read_it_whole(s3, cache):
    cache(10**8)
    body = np.arange(2_000_000, dtype="<u4").tobytes()
    entry = Folder(f"s3://{s3}").write_bytes("x.bin", body)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    running = [context.Process(target=_read, args=(f"s3://{s3}/x.bin", entry, queue)) for _ in range(3)]
    for process in running:
        process.start()
    found = [queue.get(timeout=120) for _ in running]
    for process in running:
        process.join(timeout=60)
    assert {digest for digest, _ in found} == {entry.sha256} and len({pid for _, pid in found}) == 3
    assert files() == [entry.sha256]
