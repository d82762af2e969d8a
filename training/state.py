"""Checkpoints of a run in progress: weights and AdamW moments, sharded, without pickle, complete when their manifest exists.

Layout: ``<state_dir>/step-00000100/`` with safetensors written by torch.distributed.checkpoint (each process its own shards; readable
by any number of processes) and ``manifest.json``, written last. Everything else a run needs is a pure function of the step: the rows,
the learning rate, the seed of dropout. So a checkpoint is tensors and one number, and resuming is exact and costs one read.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn

from store.errors import ArtifactError, from_os_error
from store.fingerprint import canonical_json, sha256_hex
from store.fs import Folder
from store.models import ModelFolder
from store.params import Json
from store.plan import ARRAYS, PackPlan
from store.tokens import TokenStore
from training.parallel import Gang, unwrap
from training.params import ModelInit, TrainParams

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
NAME = re.compile(r"step-(\d{8})")
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run. ``run`` is the run's fingerprint: another run's checkpoints are refused, not resumed."""

    state_dir: str
    run: str
    keep: int

    def save(self, step: int, wrapped: nn.Module, optimizer: torch.optim.Optimizer, gang: Gang) -> None:
        """Write the state after ``step`` steps; all processes call it. ResourceError if the disk is full."""
        path = self._path(step)
        if gang.leads:
            shutil.rmtree(path, ignore_errors=True)  # what an interrupted save left
            Folder(path).make()
        gang.wait()
        writer = dcp.HuggingFaceStorageWriter(path=path, save_distributed=True)
        with _quiet():
            try:
                dcp.save(state_tensors(wrapped, optimizer), storage_writer=writer, no_dist=not dist.is_initialized())
            except OSError as error:
                raise from_os_error(error, path) from error
        gang.wait()
        if gang.leads:
            self._write_manifest(path, step, gang.size)
            self._forget()
        gang.wait()

    def load_latest(self, wrapped: nn.Module, optimizer: torch.optim.Optimizer, gang: Gang) -> int:
        """Restore the newest complete checkpoint in place and return its step; 0 if there is none."""
        step = self.latest()
        if step == 0:
            return 0
        path = self._path(step)
        self._check_files(path)
        found = _manifest(path)
        if found["n_processes"] != gang.size:
            log.warning(
                "resuming with %d processes a run of %s: equal up to rounding, not to the byte", gang.size, found["n_processes"]
            )
        with _quiet():
            dcp.load(state_tensors(wrapped, optimizer), storage_reader=dcp.HuggingFaceStorageReader(path=path),
                     no_dist=not dist.is_initialized())  # fmt: skip
        return step

    def latest(self) -> int:
        """Step of the newest complete checkpoint, 0 if there is none. Incomplete ones are passed over with a warning."""
        for step in reversed(self._steps()):
            path = self._path(step)
            if not os.path.isfile(os.path.join(path, MANIFEST)):
                log.warning("%s is incomplete (its manifest is missing) and is passed over", path)
            elif _manifest(path)["run"] != self.run:
                raise ArtifactError("this checkpoint belongs to another run", where=path,
                                    expected="the same parameters, model and data",
                                    remedy="give another state folder, or remove this one to start afresh")  # fmt: skip
            else:
                return step
        return 0

    def _check_files(self, path: str) -> None:
        sizes = {name: os.path.getsize(os.path.join(path, name)) for name in os.listdir(path) if name != MANIFEST}
        if sizes != _manifest(path)["files"]:
            raise ArtifactError("the checkpoint's files are not what its manifest lists", where=path,
                                remedy="remove this checkpoint's folder: the one before it is used")  # fmt: skip

    def _write_manifest(self, path: str, step: int, n_processes: int) -> None:
        files = {name: os.path.getsize(os.path.join(path, name)) for name in sorted(os.listdir(path))}
        body = {"format": 1, "step": step, "run": self.run, "n_processes": n_processes, "files": files}
        Folder(path).write_bytes(MANIFEST, json.dumps(body, indent=1).encode())

    def _forget(self) -> None:
        """Keep the newest ``keep`` complete checkpoints; incomplete ones are older attempts and go too."""
        complete = [s for s in self._steps() if os.path.isfile(os.path.join(self._path(s), MANIFEST))]
        for step in set(self._steps()) - set(complete[-self.keep :]):
            shutil.rmtree(self._path(step), ignore_errors=True)

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
        out[f"model.{name}"] = parameter.detach()
        out.update({f"{moment}.{name}": optimizer.state[parameter][moment] for moment in MOMENTS})
    return out


def _manifest(path: str) -> dict[str, object]:
    with open(os.path.join(path, MANIFEST), encoding="utf-8") as file:
        return dict(json.load(file))


class _quiet(warnings.catch_warnings):  # noqa: N801  reads as a statement
    """torch warns that a single process saves as a single process."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
