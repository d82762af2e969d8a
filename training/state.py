"""Checkpoints of a run in progress: weights and AdamW moments, sharded, without pickle, complete when their manifest exists.

Layout: ``<state_dir>/step-00000100/`` with safetensors written by torch.distributed.checkpoint (each process its own shards; readable
by any number of processes) and ``manifest.json``: step, run, number of processes, size and sha256 of every file. It is written last,
when all processes are done. Everything else a run needs is a pure function of the step: the rows, the learning rate, the seed of
dropout. So a checkpoint is tensors and one number, and resuming is exact and costs one read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn

from store.errors import ArtifactError, DefinemedError, ResourceError, from_os_error
from store.fingerprint import canonical_json, sha256_hex
from store.fs import Folder
from store.models import ModelFolder
from store.params import Json
from store.plan import ARRAYS, PackPlan
from store.tokens import TokenStore
from training.parallel import Gang, unwrap
from training.params import ModelInit, TrainParams
from training.saver import Saver, n_bytes, read_shards, write_shards

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
NAME = re.compile(r"step-(\d{8})")
MOMENTS = ("exp_avg", "exp_avg_sq", "step")
FORMAT = 2


class Checkpoints:
    """The checkpoints of one run. ``run`` is the run's fingerprint: another run's checkpoints are refused, not resumed.

    Args:
        keep: complete checkpoints kept; while one is written there is one more.
        background: write in a thread while training goes on (see training.saver).
    """

    def __init__(self, state_dir: str, run: str, keep: int, gang: Gang, *, background: bool) -> None:
        self.state_dir, self.run, self.keep, self.gang = state_dir, run, keep, gang
        self.saver = Saver(gang, background=background)
        self._damaged: set[int] = set()
        self._newest = 0

    def save(self, step: int, wrapped: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Begin to write the state after ``step`` steps; all processes call it.

        Errors of the write, ResourceError if the disk is full among them, are raised by the next ``save`` or ``wait``. What a failed
        write left is removed; the checkpoints before it stay.
        """
        self.wait()
        if step == self._newest:
            return
        path, state = self._path(step), state_tensors(wrapped, optimizer)
        full = False
        if self.gang.leads:
            shutil.rmtree(path, ignore_errors=True)  # what an interrupted save left
            full = shutil.disk_usage(self.state_dir).free < n_bytes(state)
            Folder(path).make()
        if self.gang.any(full):  # refused before a byte is written, on every process alike
            raise self._explain(OSError(errno.ENOSPC, "no space"), path, n_bytes(state))
        self._newest = step
        self.saver.start(state, lambda copy: self._write(step, path, copy))

    @property
    def failed(self) -> bool:
        """Whether a write went wrong on this process; ``wait``, called by all, raises how."""
        return self.saver.failed

    def wait(self) -> None:
        """Until the checkpoint in flight is complete on all processes; raises what went wrong, on all of them."""
        self.saver.join()
        failed = self.gang.any(self.saver.failed)
        self.saver.wait()
        if failed:
            raise ResourceError("another process could not write its part of the checkpoint", where=self.state_dir)

    def load_latest(self, wrapped: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Restore the newest sound checkpoint in place and return its step; 0 if there is none. All processes call it.

        Incomplete and damaged ones are passed over with a warning that names what is wrong; the next save removes them.
        ArtifactError if a checkpoint belongs to another run.
        """
        while step := int(self.gang.sum(_number(self._latest() if self.gang.leads else 0))[0]):
            path = self._path(step)
            problem = self._problem(path)
            if problem is not None:
                log.warning("%s is damaged (%s) and is passed over", path, problem)
            if not self.gang.any(problem is not None):
                break
            self._damaged.add(step)
        if step == 0:
            return 0
        found = _manifest(path)
        if found["n_processes"] != self.gang.size:
            log.warning("resuming with %d processes a run of %s: equal up to rounding, not to the byte",
                        self.gang.size, found["n_processes"])  # fmt: skip
        read_shards(path, state_tensors(wrapped, optimizer), self.saver.group)
        self._newest = step
        return step

    def _latest(self) -> int:
        """Step of the newest checkpoint with a manifest that is not known to be damaged; 0 if there is none."""
        for step in reversed(self._steps()):
            path = self._path(step)
            if step in self._damaged:
                continue
            if not os.path.isfile(os.path.join(path, MANIFEST)):
                log.warning("%s is incomplete (its manifest is missing) and is passed over", path)
                self._damaged.add(step)
            else:
                return step
        return 0

    def _problem(self, path: str) -> str | None:
        """What is wrong with a checkpoint, or None. The processes share its files out: together they read each once."""
        try:
            manifest = _manifest(path)
            run, files = manifest["run"], dict(manifest["files"])
        except (ValueError, KeyError, TypeError, OSError):
            return f"{MANIFEST} cannot be read"
        if run != self.run:
            raise ArtifactError("this checkpoint belongs to another run", where=path, expected="the same parameters, model and data",
                                remedy="give another state folder, or remove this one to start afresh")  # fmt: skip
        for number, (name, (size, digest)) in enumerate(sorted(files.items())):
            file = os.path.join(path, name)
            if not os.path.isfile(file):
                return f"{name} is missing"
            if os.path.getsize(file) != size:
                return f"{name} has {os.path.getsize(file)} bytes, its manifest lists {size}"
            if number % self.gang.size == self.gang.rank and _sha256(file) != digest:
                return f"{name} is not what its manifest lists (sha256)"
        return None

    def _write(self, step: int, path: str, state: dict[str, Tensor]) -> None:
        """In the thread: shards, then the manifest, then the oldest go."""
        size = n_bytes(state)
        try:
            write_shards(path, state, self.saver.group)
            files = self._digests(path)
            if self.gang.leads:
                body = {"format": FORMAT, "step": step, "run": self.run, "n_processes": self.gang.size, "files": files}
                Folder(path).write_bytes(MANIFEST, json.dumps(body, indent=1).encode())
                self._forget(step)
        except (OSError, DefinemedError) as error:
            if self.gang.leads:
                shutil.rmtree(path, ignore_errors=True)
            raise self._explain(error, path, size) from error

    def _explain(self, error: OSError | DefinemedError, path: str, size: int) -> DefinemedError:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            kept = self._steps()
            return ResourceError(
                f"the disk is full: a checkpoint takes {size / 1e9:.3g} GB",
                where=path,
                expected=f"room for {self.keep + 1} of them (keep_checkpoints and the one being written)",
                remedy="free space or choose another folder, and run again: it goes on after step "
                f"{max((s for s in kept if self._path(s) != path), default=0)}",
            )
        return from_os_error(error, path) if isinstance(error, OSError) else error

    def _digests(self, path: str) -> dict[str, Any]:
        """File name to [bytes, sha256]; every process reads what it wrote."""
        mine = [n for n in sorted(os.listdir(path)) if n.startswith(f"shard-{self.gang.rank + 1:05d}-")]
        found = {n: [os.path.getsize(os.path.join(path, n)), _sha256(os.path.join(path, n))] for n in mine}
        if self.saver.group is None:
            return found
        everyone: list[Any] = [None] * self.gang.size
        dist.all_gather_object(everyone, found, group=self.saver.group)
        return {name: entry for part in everyone for name, entry in part.items()}

    def _forget(self, newest: int) -> None:
        """Keep the ``keep`` newest; damaged ones, attempts that were cut off and steps after ``newest`` (of a run set back) go too."""
        steps = [s for s in self._steps() if s not in self._damaged and s <= newest]
        complete = [s for s in steps if os.path.isfile(os.path.join(self._path(s), MANIFEST))]
        for step in set(self._steps()) - set(complete[-self.keep :]):
            shutil.rmtree(self._path(step), ignore_errors=True)
        self._damaged.clear()

    def _steps(self) -> list[int]:
        names = os.listdir(self.state_dir) if os.path.isdir(self.state_dir) else []
        return sorted(int(m.group(1)) for n in names if (m := NAME.fullmatch(n)))

    def _path(self, step: int) -> str:
        return os.path.join(self.state_dir, f"step-{step:08d}")


def run_fingerprint(
    params: TrainParams,
    init: ModelInit,
    folder: str | None,
    plan: PackPlan,
    stores: Sequence[TokenStore],
    heldout: Mapping[str, TokenStore],
) -> str:
    """What a checkpoint belongs to: parameters, plan, tokens and the starting model (its config and its files' sizes)."""
    start: Json = None
    if folder is not None:
        names = sorted(n for n in os.listdir(folder) if n.endswith(".safetensors"))
        config = ModelFolder.open(folder).config
        start = [
            sha256_hex(repr(sorted(config.items(), key=lambda i: i[0])).encode()),
            *[os.path.getsize(os.path.join(folder, n)) for n in names],
        ]
    arrays: list[Json] = [sha256_hex(getattr(plan, n).tobytes()) for n in ARRAYS]
    return sha256_hex(canonical_json({
        "params": params.identity(lambda url: url), "init": {**init.identity(lambda url: url), "from_": None}, "start": start,
        "plan": [plan.seq_len, *arrays], "stores": [s.artifact.manifest.content_hash for s in stores],
        "heldout": {n: s.artifact.manifest.content_hash for n, s in heldout.items()},
    }))  # fmt: skip


def state_tensors(wrapped: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Name to tensor, sharing memory with the model and the optimizer, so that loading into it restores them in place."""
    out: dict[str, Tensor] = {}
    for name, parameter in unwrap(wrapped).model.named_parameters():
        if not parameter.requires_grad:
            continue  # frozen: it is what the run started from
        out[f"model.{name}"] = parameter.detach()
        out.update({f"{moment}.{name}": optimizer.state[parameter][moment] for moment in MOMENTS})
    return out


def _manifest(path: str) -> dict[str, Any]:
    with open(os.path.join(path, MANIFEST), encoding="utf-8") as file:
        return dict(json.load(file))


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _number(value: int) -> npt.NDArray[np.float64]:
    return np.array([float(value)])
