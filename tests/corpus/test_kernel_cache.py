"""Where compiled kernels are cached when the home folder cannot be written: never where another user may have put them."""

import os
import tempfile
from pathlib import Path

from corpus.kernel_cache import _base


def test_the_fallback_is_a_folder_that_only_we_can_write(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    usual = Path(tmp_path) / f"definemed-numba-{os.getuid()}"
    assert _base() == usual and usual.stat().st_mode & 0o077 == 0
    usual.chmod(0o777)
    assert _base() != usual and _base().stat().st_mode & 0o077 == 0
    usual.rmdir()
    usual.symlink_to(tmp_path)
    assert _base() != usual
