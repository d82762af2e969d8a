"""Files of object stores as memory maps: each is fetched once into a folder of this machine, checked by its sha256, and mapped.

The folder is ``DEFINEMED_CACHE`` (else ``$XDG_CACHE_HOME/definemed`` or ``~/.cache/definemed``) and holds at most
``DEFINEMED_CACHE_GB`` gigabytes of them (64 if not set). A file is named by its sha256, so equal shards of different artifacts are
one, and a changed one is another. Whatever else lies in the folder is neither counted nor touched.

Safe with several processes: a file is written under a temporary name and renamed once its content is right; processes that want the
same file wait for the one that fetches it. A map holds a shared lock on its file: what is mapped is never evicted; of the rest the
least recently used goes first. Locks are of the kernel (flock) and end with their process: the folder must lie on a local disk.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from store.errors import ArtifactError, ResourceError, from_os_error
from store.fs import CHUNK_BYTES, FileEntry, open_input

DEFAULT_GB = 64.0
OURS = re.compile(r"[0-9a-f]{64}(\.tmp-[0-9a-f]{8})?")
STALE_S = 24 * 3600  # a temporary file so old belongs to a process that was killed


def cache_folder() -> Path:
    """Where this machine keeps its copies."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(os.environ.get("DEFINEMED_CACHE") or os.path.join(base, "definemed"))


def cache_limit_bytes() -> int:
    """The most bytes the folder may hold."""
    given = os.environ.get("DEFINEMED_CACHE_GB")
    try:
        limit = float(given) if given else DEFAULT_GB
    except ValueError:
        limit = -1.0
    if not 0 < limit < float("inf"):
        raise ResourceError(f"DEFINEMED_CACHE_GB is {given}", where="environment", expected="a number of gigabytes above 0")
    return int(limit * 1e9)


def map_cached(url: str, entry: FileEntry, dtype: np.dtype[np.uint32]) -> npt.NDArray[np.uint32]:
    """The file at ``url``, whose size and sha256 ``entry`` gives, as a read-only map of its local copy.

    Raises ArtifactError if what is fetched is not what ``entry`` says, ResourceError if the cache has no room for it.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / entry.sha256
        while True:
            mapped = _map(path, entry, dtype)
            if mapped is not None:
                return mapped
            # One fetch of a file at a time; whoever waited finds it there.
            with _exclusive(folder / f"{entry.sha256}.lock"):
                if not _whole(path, entry):
                    _fetch(url, path, entry)
    except OSError as error:
        raise from_os_error(error, str(folder)) from error


def _map(path: Path, entry: FileEntry, dtype: np.dtype[np.uint32]) -> npt.NDArray[np.uint32] | None:
    """Map a file that is there, under a shared lock that lives as long as the map; None if it is not there (any more)."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            if not _is_still(path, file) or not _whole(path, entry):
                return None
            os.utime(path)
            return np.memmap(file, dtype=dtype, mode="r")  # mmap duplicates the descriptor, and the lock belongs to both
    except FileNotFoundError:
        return None


def _whole(path: Path, entry: FileEntry) -> bool:
    return path.exists() and path.stat().st_size == entry.size_bytes


def _is_still(path: Path, file: IO[bytes]) -> bool:
    """Whether the name still means the open file: it may have been evicted while the lock was awaited."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(url: str, path: Path, entry: FileEntry) -> None:
    temporary = path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex[:8]}")
    try:
        with _exclusive(path.parent / "room.lock"):  # room is made and taken in one go
            _make_room(path.parent, entry.size_bytes, url)
            with open(temporary, "wb") as out:
                out.truncate(entry.size_bytes)  # the sizes of what others are fetching count too
        _copy(url, temporary, entry)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _copy(url: str, temporary: Path, entry: FileEntry) -> None:
    digest, size = hashlib.sha256(), 0
    with open_input(url) as source, open(temporary, "r+b") as out:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            out.write(chunk)
        out.truncate(size)
        out.flush()
        os.fsync(out.fileno())
    if size != entry.size_bytes:
        raise ArtifactError(f"{size} bytes in the store, {entry.size_bytes} in the manifest", where=url,
                            remedy="remove the artifact's folder and run the recipe again")  # fmt: skip
    if digest.hexdigest() != entry.sha256:
        raise ArtifactError("the file's content is not what the manifest says (sha256)", where=url,
                            remedy="remove the artifact's folder and run the recipe again")  # fmt: skip


def _make_room(folder: Path, size_bytes: int, url: str) -> None:
    """Remove the least recently used files that nobody has mapped, until ``size_bytes`` more fit."""
    limit = cache_limit_bytes()
    found = sorted((s.st_mtime, s.st_size, p) for p in folder.iterdir() if OURS.fullmatch(p.name) and (s := _stat(p)))
    used = sum(size for _, size, _ in found)
    for changed, size, path in found:
        if used + size_bytes <= limit:
            return
        if ".tmp-" in path.name and time.time() - changed < STALE_S:
            continue
        if _evict(path):
            used -= size
    if used + size_bytes > limit:
        raise ResourceError(
            f"the cache has no room for {size_bytes / 1e9:.2f} GB: {used / 1e9:.2f} of {limit / 1e9:.2f} GB are in use", where=url,
            remedy=f"set DEFINEMED_CACHE_GB higher, or DEFINEMED_CACHE to a larger disk than that of {folder}",
        )  # fmt: skip


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _evict(path: Path) -> bool:
    """Remove a file nobody has mapped; False if somebody has."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass
    return True


def require_room(entries: list[FileEntry], where: str) -> None:
    """ResourceError if files together are larger than the whole cache: said before the first is fetched."""
    total, limit = sum({e.sha256: e.size_bytes for e in entries}.values()), cache_limit_bytes()
    if total > limit:
        raise ResourceError(f"{total / 1e9:.2f} GB do not fit the cache of {limit / 1e9:.2f} GB", where=where,
                            remedy="set DEFINEMED_CACHE_GB higher, and DEFINEMED_CACHE to a disk that has the room")  # fmt: skip
