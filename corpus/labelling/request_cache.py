"""Answers on disk: what was paid for once is not asked again, whatever happens to the process.

A folder of JSON Lines files. A line is an answer as it was read: the request's key (a sha256), the label or the name of the failure,
and the tokens the server counted. Neither the page nor the text of the answer is in it. Files are only appended to. Every line is
handed to the operating system as it is written, so it outlives a killed process; it is forced to disk (fsync) after at most 64 lines or
a second, and at the end, so a power cut costs at most those. A process writes one file, under a lock of the kernel that ends with the
process; others read it. A torn last line is cut off when the file is written to again; damaged lines are counted, named in the log, and
passed over.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from corpus.labelling.answer import FAILURES, READER, Verdict
from store.errors import ResourceError, from_os_error
from store.fs import Folder

ANSWERS = "answers"
"""The folder of the cache below a step's working folder."""
FILE = "answers-{:03d}.jsonl"
MAX_FILES = 1000
SYNC_LINES, SYNC_S = 64, 1.0
NAME = re.compile(r"answers-\d{3}\.jsonl")
KEY = re.compile(r"[0-9a-f]{64}")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cached:
    """An answer: the verdict, and the tokens the server counted (-1: not said)."""

    verdict: Verdict
    tokens_in: int = -1
    tokens_out: int = -1


@dataclass
class RequestCache:
    """Answers by key; made by ``open_cache``, or empty and in memory."""

    answers: dict[bytes, Cached] = field(default_factory=dict)
    _file: IO[bytes] | None = None
    _path: str = ""
    _unsynced: int = 0
    _synced_s: float = 0.0

    def get(self, key: str) -> Cached | None:
        """The answer to a request, if it is known."""
        return self.answers.get(bytes.fromhex(key))

    def put(self, key: str, answer: Cached) -> None:
        """Remember an answer; when this returns, it outlives the process."""
        self.answers[bytes.fromhex(key)] = answer
        if self._file is None:
            return
        verdict = answer.verdict
        line = {"key": key, "label": verdict.label, "failure": verdict.failure, "in": answer.tokens_in, "out": answer.tokens_out,
                "reader": READER}  # fmt: skip
        try:
            rest = memoryview(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
            while rest:  # a nearly full disk takes a part; the next write says that it is full
                rest = rest[self._file.write(rest) :]
            self._unsynced += 1
            if self._unsynced >= SYNC_LINES or time.monotonic() - self._synced_s >= SYNC_S:
                self._sync()
        except OSError as error:
            raise from_os_error(error, self._path) from error

    def _sync(self) -> None:
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._unsynced, self._synced_s = 0, time.monotonic()

    def __len__(self) -> int:
        return len(self.answers)


@contextmanager
def open_cache(work: Folder) -> Iterator[RequestCache]:
    """The cache in a local folder, open for reading and writing.

    Raises ResourceError if the folder is not on a local disk: appending and locks need one.
    """
    if not work.is_local:
        raise ResourceError("the cache of answers needs a local disk", where=work.url,
                            remedy="choose a local --out for recipes that ask a language model")  # fmt: skip
    root = work.absolute().make().path("")
    try:
        file, path = _own_file(root)
        with file:
            _cut_torn_line(file)
            cache = RequestCache(_read_all(root), file, path)
            try:
                yield cache
            finally:
                os.fsync(file.fileno())
    except OSError as error:
        raise from_os_error(error, root) from error


def read_cache(work: Folder) -> RequestCache:
    """The cache for looking only: nothing is made or locked."""
    root = work.absolute().path("") if work.is_local else ""
    return RequestCache(_read_all(root) if os.path.isdir(root) else {})


def _own_file(root: str) -> tuple[IO[bytes], str]:
    """The first file that no other process writes, locked."""
    for number in range(MAX_FILES):
        path = os.path.join(root, FILE.format(number))
        # Unbuffered: a write is the operating system's as soon as it returns.
        file = open(path, "a+b", buffering=0)  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file, path
        except BlockingIOError:
            file.close()
    raise ResourceError(f"{MAX_FILES} processes write answers here already", where=root)


def _cut_torn_line(file: IO[bytes]) -> None:
    """What a killed process or a full disk left after the last whole line."""
    size = file.seek(0, os.SEEK_END)
    at = size
    while at > 0:
        begin = max(0, at - 4096)
        file.seek(begin)
        found = file.read(at - begin).rfind(b"\n")
        if found >= 0:
            at = begin + found + 1
            break
        at = begin
    if at < size:
        file.truncate(at)
    file.seek(0, os.SEEK_END)


def _read_all(root: str) -> dict[bytes, Cached]:
    """Answers of all files in order of their names; of two answers to a request the first stays."""
    found: dict[bytes, Cached] = {}
    for name in sorted(n for n in os.listdir(root) if NAME.fullmatch(n)):
        path = os.path.join(root, name)
        n_bad = 0
        with open(path, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):  # another process is writing it
                    continue
                if (answer := _parsed(line)) is None:
                    n_bad += 1
                elif answer[1] is not None:
                    found.setdefault(answer[0], answer[1])
        if n_bad:
            log.warning("%s: %d damaged lines were passed over; what they held is asked again", path, n_bad)
    return found


def _parsed(line: bytes) -> tuple[bytes, Cached | None] | None:
    """(key, answer), the answer None if it is a failure as an earlier reader saw it; None if the line is damaged."""
    try:
        data = json.loads(line)
        key, label, failure = data["key"], data["label"], data["failure"]
        tokens_in, tokens_out, reader = int(data["in"]), int(data["out"]), int(data["reader"])
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(key, str) or not KEY.fullmatch(key) or (label is None) == (failure not in FAILURES):
        return None
    if label is not None and not isinstance(label, str):
        return None
    known = label is not None or reader == READER
    return bytes.fromhex(key), Cached(Verdict(label, failure), tokens_in, tokens_out) if known else None
