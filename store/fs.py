"""Folders and files, local or in object storage (store/objects.py), with atomic writes.

A ``Folder`` is a small picklable value (a URL); file systems are opened where they are used. A file is written under a temporary
name and renamed (local), or uploaded whole when it is complete (object stores, where an upload becomes visible at once), so a
reader never meets half a file. Every write returns a ``FileEntry`` with size and sha256.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import io
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from pydantic import BaseModel, ConfigDict

from store.errors import DefinemedError, ResourceError, from_os_error, is_disk_full
from store.objects import open_fs, open_object, protocol_of

CHUNK_BYTES = 1 << 20


class FileEntry(BaseModel):
    """A file of an artifact. ``name`` is relative to the artifact; ``n_rows`` where rows have a meaning."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    size_bytes: int
    sha256: str
    n_rows: int | None = None


@dataclass(frozen=True)
class Folder:
    """A folder, by path or URL (``s3://bucket/x``, ``hf://datasets/...``, ``/data/x``)."""

    url: str

    def __truediv__(self, name: str) -> Folder:
        return Folder(f"{self.url.rstrip('/')}/{name}")

    @property
    def is_local(self) -> bool:
        return "://" not in self.url or self.url.startswith("file://")

    def absolute(self) -> Folder:
        """The same folder by a path that does not depend on the current directory: workers and libraries have their own."""
        return Folder(os.path.abspath(self.url.removeprefix("file://"))) if self.is_local else self

    def path(self, name: str) -> str:
        """The path or URL of ``name`` in this folder."""
        base = self.url.removeprefix("file://") if self.is_local else self.url
        return f"{base.rstrip('/')}/{name}" if name else base

    def exists(self, name: str = "") -> bool:
        if self.is_local:
            return os.path.exists(self.path(name))
        fs, path = open_fs(self.path(name))
        fs.invalidate_cache()  # other processes write here, and object stores' clients remember listings
        return bool(fs.exists(path))

    def read_bytes(self, name: str) -> bytes:
        return read_bytes(self.path(name))

    def write_bytes(self, name: str, data: bytes, n_rows: int | None = None) -> FileEntry:
        """Write a whole file atomically."""
        with self.writing(name) as out:
            out.write(data)
        return FileEntry(name=name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), n_rows=n_rows)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """A binary file that appears under ``name`` only if the block ends without an error."""
        target = self.path(name)
        try:
            if self.is_local:
                with _writing_local(target) as out:
                    yield out
            else:
                # Uploading once, at the end, keeps a failed block from leaving a partial object behind.
                buffer = io.BytesIO()
                yield buffer
                fs, path = open_fs(target)
                with fs.open(path, "wb") as remote:
                    remote.write(buffer.getvalue())
        except OSError as error:
            raise self._refused(error, target) from error

    def _refused(self, error: OSError, target: str) -> DefinemedError:
        """The user's view of a failed write; of a full disk with what was not enough (what was written of the file is gone again)."""
        found, free = from_os_error(error, target), self.free_bytes()
        if not is_disk_full(error) or free is None:
            return found
        return ResourceError(f"{found.what}: this file needs more than the {free / 1e6:,.3f} MB that are free", where=target,
                             remedy=found.remedy)  # fmt: skip

    def free_bytes(self) -> int | None:
        """Bytes that may still be written here; None where nobody can tell."""
        return shutil.disk_usage(self.path("")).free if self.is_local and self.exists() else None

    def entry(self, name: str, n_rows: int | None = None) -> FileEntry:
        """Size and sha256 of a file that is there, read once."""
        size, digest = digest_file(self.path(name))
        return FileEntry(name=name, size_bytes=size, sha256=digest, n_rows=n_rows)

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if it is not there."""
        if self.is_local:
            return os.path.getsize(self.path(name)) if os.path.isfile(self.path(name)) else None
        fs, path = open_fs(self.path(name))
        fs.invalidate_cache()
        return int(fs.info(path)["size"]) if fs.exists(path) else None

    def names(self, prefix: str = "") -> list[str]:
        """All files below ``prefix``, relative to this folder, sorted; an absent folder has none."""
        root = self.path(prefix)
        if self.is_local:
            found = [os.path.join(d, f) for d, _, files in os.walk(root) for f in files]
            return sorted(os.path.relpath(f, self.path("")) for f in found)
        fs, path = open_fs(root)
        fs.invalidate_cache()
        base = open_fs(self.path(""))[1].rstrip("/")
        return sorted(p[len(base) + 1 :] for p in fs.find(path)) if fs.exists(path) else []

    def remove(self, name: str) -> None:
        """Remove a file or folder if it is there."""
        target = self.path(name)
        if self.is_local:
            if os.path.isdir(target):
                shutil.rmtree(target)
            elif os.path.exists(target):
                os.remove(target)
            return
        fs, path = open_fs(target)
        if fs.exists(path):
            fs.rm(path, recursive=True)

    def make(self) -> Folder:
        """Create the folder if it is local (object stores have none)."""
        if self.is_local:
            try:
                os.makedirs(self.path(""), exist_ok=True)
            except OSError as error:
                raise from_os_error(error, self.url) from error
        return self


@contextmanager
def _writing_local(target: str) -> Iterator[IO[bytes]]:
    os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
    # A unique temporary name: two attempts at the same task (a retry after a lost node) never write one file together.
    temporary = f"{target}.tmp-{uuid.uuid4().hex[:8]}"
    try:
        with open(temporary, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, target)
    except BaseException:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise


def open_input(url: str) -> IO[bytes]:
    """Open a file for reading, local or remote; a missing one is an InputError."""
    try:
        if "://" not in url or url.startswith("file://"):
            return open(url.removeprefix("file://"), "rb")
        return open_object(url)
    except OSError as error:
        raise from_os_error(error, url) from error


@functools.cache
def local_copy(url: str) -> str:
    """A path for libraries that open files themselves: of the file, or of a copy that lives as long as this process."""
    if not protocol_of(url):
        return url.removeprefix("file://")
    folder = tempfile.mkdtemp(prefix="definemed-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = os.path.join(folder, url.rsplit("/", 1)[-1])
    with open_input(url) as source, open(path, "wb") as target:
        shutil.copyfileobj(source, target, CHUNK_BYTES)
    return path


def read_bytes(url: str) -> bytes:
    """The whole content of a file."""
    with open_input(url) as file:
        return file.read()


def digest_file(url: str) -> tuple[int, str]:
    """(size in bytes, sha256) of a file, read in chunks."""
    digest, size = hashlib.sha256(), 0
    with open_input(url) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()
