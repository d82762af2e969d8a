"""Where compiled kernels are cached: a folder named after the content of all of corpus' sources.

numba notices a change of a kernel's own file but not of a kernel it calls in another file, so an upgrade could go on running old
machine code and give other bytes than a fresh machine. With the folder keyed by content, changed sources are compiled anew.
NUMBA_CACHE_DIR, if set, is left alone.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"
OWN = "DEFINEMED_NUMBA_CACHE"  # the value we set, so that a changed checkout in the same shell is noticed


def use_kernel_cache() -> None:
    """Point numba to this version's cache, unless the user pointed it elsewhere."""
    given = os.environ.get(VARIABLE)
    if given is not None and given != os.environ.get(OWN):
        return
    folder = _base() / sources_digest()
    os.environ[VARIABLE] = os.environ[OWN] = str(folder)
    numba = sys.modules.get("numba")
    if numba is not None:
        numba.config.CACHE_DIR = str(folder)


def sources_digest() -> str:
    """16 hexadecimal digits of the content of every source file of this room."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _base() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(base) / "definemed" / "numba"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a read-only home: compile once per boot instead
        folder = Path(tempfile.gettempdir()) / f"definemed-numba-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        # numba unpickles what it finds: a folder that another user put there first must not be read.
        if found.st_uid != os.getuid() or found.st_mode & 0o022 or folder.is_symlink():
            folder = Path(tempfile.mkdtemp(prefix="definemed-numba-"))
    return folder
