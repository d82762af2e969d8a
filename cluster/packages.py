"""Are the packages that are installed the ones this project needs? Answered from their metadata, importing none of them."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

FASTTEXT = "fasttext-community"


@dataclass(frozen=True)
class Mismatch:
    """A requirement that is not met. ``found`` is None if the package is missing."""

    name: str
    wanted: str
    found: str | None


def requirements() -> list[Requirement]:
    """What the project requires: its installed metadata, or the checkout's pyproject.toml; extras left out."""
    try:
        texts = metadata.requires("definemed") or []
    except metadata.PackageNotFoundError:
        with open(Path(__file__).resolve().parent.parent / "pyproject.toml", "rb") as file:
            texts = tomllib.load(file)["project"]["dependencies"]
    found = [Requirement(t) for t in texts]
    return [r for r in found if r.marker is None or r.marker.evaluate({"extra": ""})]


def out_of_range(wanted: Sequence[Requirement]) -> list[Mismatch]:
    """The requirements that are not met."""
    wrong = []
    for requirement in wanted:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(Mismatch(requirement.name, str(requirement.specifier), None))
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(Mismatch(requirement.name, str(requirement.specifier), version))
    return wrong


def fasttext_findings() -> list[str]:
    """What is wrong with ``import fasttext``; empty if it is fasttext-community's own files.

    Several distributions write the same files, pip lets the last one win, and ``pip check`` sees nothing.
    """
    owners = sorted({d for name in ("fasttext", "fasttext_pybind") for d in metadata.packages_distributions().get(name, [])})
    if FASTTEXT not in owners:
        return [f"{FASTTEXT} is not installed" + (f"; {', '.join(owners)} is" if owners else "")]
    problems = [f"{owner} is installed over {FASTTEXT}" for owner in owners if owner != FASTTEXT]
    changed = changed_files(metadata.distribution(FASTTEXT))
    if changed:
        problems.append(f"files of {FASTTEXT} were overwritten: {', '.join(changed)}")
    return problems


def changed_files(distribution: metadata.Distribution) -> list[str]:
    """Code files whose content is not what the distribution's RECORD says."""
    changed = []
    for file in distribution.files or []:
        if file.suffix not in (".py", ".so") or file.hash is None:
            continue
        path = Path(str(file.locate()))
        digest = hashlib.new(file.hash.mode, path.read_bytes()).digest() if path.is_file() else b""
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
            changed.append(str(file))
    return changed


def torch_build() -> tuple[str, str | None] | None:
    """(version, CUDA version or None) of the installed torch, read from its version file; None without torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    version = re.search(r"__version__ = '([^']+)'", text)
    cuda = re.search(r"^cuda\b[^=]*= '([^']+)'", text, re.MULTILINE)
    return (version.group(1) if version else "?", cuda.group(1) if cuda else None)
