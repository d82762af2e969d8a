"""One run at a time in an output folder: two would write the same temporary files and logs.

The lock is the kernel's (flock), so it ends with the process that holds it, also after kill -9. Object stores have no such lock; there,
runs must be kept apart by the user.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from store.errors import ResourceError
from store.fs import Folder

LOCK = ".lock"


@contextmanager
def only_run(out: Folder) -> Iterator[None]:
    """Hold the output folder; ResourceError at once if another process does."""
    if not out.is_local:
        yield
        return
    handle = os.open(out.make().path(LOCK), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ResourceError(
                "another run is using this output folder", where=out.url, remedy="wait for it, or give another --out"
            ) from error
        yield
    finally:
        os.close(handle)
