"""The peers of benchmarks/trainer.py: bare PyTorch loops, transformers' Trainer, and the rows that all of them train on.

Every peer has ``step()``: its next optimizer step, timed. So all of them take turns with ours, step by step. Deterministic kernels,
which our loop asks for while it runs, are off in theirs.
"""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property
from glob import glob
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from corpus.packing import MixtureEntry, plan
from corpus.sample.generate import file_plan, write_web_file
from corpus.sample.params import SampleParams
from store.artifact import Artifact, Draft, Identity
from store.fs import Folder
from store.plan import PackPlan
from store.tokens import TokenStore, write_token_shard
from training.families import block_mask
from training.heldout import tensors
from training.loss import linear_cross_entropy
from training.model import build_model
from training.optimizer import build_optimizer
from training.order import RowOrder
from training.params import ModelInit, TrainParams
from training.rows import IGNORE, RowReader
from training.schedule import learning_rate

EOS = 0


@dataclass(frozen=True)
class Spent:
    """Seconds of wall time and of processor time (all threads of this process)."""

    wall_s: float
    cpu_s: float


@dataclass
class Clock:
    """Started when made."""

    wall: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=time.process_time)

    def stop(self) -> Spent:
        return Spent(time.perf_counter() - self.wall, time.process_time() - self.cpu)


@dataclass(frozen=True)
class World:
    """The rows of the benchmark."""

    plan: PackPlan
    stores: list[TokenStore]
    about: str
    vocab_size: int

    @cached_property
    def reader(self) -> RowReader:
        return RowReader(self.plan, self.stores, self.vocab_size)

    def batches(self, p: TrainParams) -> Iterator[tuple[tuple[Tensor, ...], int]]:
        """(tensors of a step's rows, its number of targets), in the order of our loop."""
        order = RowOrder.plan(self.plan.n_rows, p.rows_per_step, epochs=p.epochs, max_steps=p.max_steps, seed=p.seed)
        for step in range(order.n_steps):
            rows = order.rows(step)
            yield tensors(self.reader.read(rows), torch.device("cpu")), self.reader.n_targets(rows)

    def model(self, init: ModelInit) -> Any:
        return build_model(init, folder=None, seq_len=self.plan.seq_len, vocab_size=self.vocab_size, eos_id=EOS, attention="sdpa")

    def n_parameters(self, init: ModelInit) -> int:
        return sum(p.numel() for p in self.model(init).parameters())


def make_world(scratch: str, data: str | None, seq_len: int, vocab_size: int, n_pages: int) -> World:
    """Pages as a token store and its pack plan."""
    texts = _pages(scratch, data, n_pages)
    docs = [[zlib.crc32(w.encode()) % (vocab_size - 1) + 1 for w in t.split()] + [EOS] for t in texts]
    lengths = np.array([len(d) for d in docs], np.int32)
    tokens = np.fromiter((i for d in docs for i in d), np.uint32, int(lengths.sum()))
    draft = Draft.begin(Folder(scratch), Identity("tokens", 1, {"n": len(docs)}))
    files = write_token_shard(draft.folder, "00000", tokens, np.arange(len(docs)), lengths, lengths * 7)
    store = TokenStore.open(Artifact.open(draft.commit(files=list(files), summary={"vocab_size": vocab_size, "eos_id": EOS}).folder))
    packed, _ = plan({"pages": store}, [MixtureEntry(name="pages")], seq_len, 1)
    about = f"{len(docs):,} pages {'of real text' if data else 'of the built-in sample'}, {len(tokens):,} words, rows of {seq_len}"
    return World(packed, [store], about, vocab_size)


def _pages(scratch: str, data: str | None, n_pages: int) -> list[str]:
    if data is None:
        made = SampleParams(n_docs=n_pages, docs_per_file=n_pages)
        write_web_file(made, file_plan(made)[0].index, f"{scratch}/web.parquet", f"{scratch}/truth.parquet")
    files = sorted(glob(f"{data}/web/*.parquet")) if data else [f"{scratch}/web.parquet"]
    texts: list[str] = []
    for name in files:
        texts += pq.read_table(name, columns=["text"])["text"].to_pylist()[: n_pages - len(texts)]
    return texts


@contextmanager
def any_kernel() -> Iterator[None]:
    """Without deterministic kernels."""
    were = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(were, warn_only=True)


class BareLoop:
    """What a careful person writes by hand: rows ready in memory, same mask, fused AdamW, clipping, a loss to look at.

    Args:
        whole: torch's cross_entropy over the logits of all positions; else our fused loss.
    """

    def __init__(self, world: World, p: TrainParams, init: ModelInit, *, whole: bool) -> None:
        torch.set_num_threads(p.cpu_threads)
        self.p, self.model, self.whole = p, world.model(init).train(), whole
        self.optimizer = build_optimizer(p, self.model)
        self.batches, self.losses = list(world.batches(p)), list[float]()
        self.dtype = torch.bfloat16 if p.precision == "bf16" else torch.float32

    def step(self) -> Spent:
        """One step, timed."""
        with any_kernel():
            clock = Clock()
            batch, n_targets = self.batches[len(self.losses)]
            loss = self._loss(*batch) / n_targets
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.p.clip_norm or float("inf"))
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.p, len(self.losses), len(self.batches))
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.losses.append(loss.item())
            return clock.stop()

    def _loss(self, ids: Tensor, positions: Tensor, piece: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            hidden = self.model.model(
                input_ids=ids, position_ids=positions, attention_mask=block_mask(piece), use_cache=False
            ).last_hidden_state.flatten(0, 1)
            if self.whole:
                logits = self.model.lm_head(hidden).float()
                return torch.nn.functional.cross_entropy(logits, labels.flatten(), ignore_index=IGNORE, reduction="sum")
        return linear_cross_entropy(hidden, self.model.lm_head.weight, labels.flatten(), self.dtype)


class HuggingFace:
    """transformers' Trainer on the same rows, in the same order, with the same optimizer and schedule.

    It runs in a thread that holds still between its steps: a step is what happens from one "step begins" to the next, the reading of
    the next rows and the logging of the loss included.
    """

    def __init__(self, world: World, p: TrainParams, init: ModelInit, folder: str) -> None:
        self.world, self.p, self.folder = world, p, folder
        self.model = world.model(init).train()
        if p.precision == "bf16":  # by hand: the Trainer's own way is a state of the process, which ours has too
            self.model.forward = torch.autocast("cpu", torch.bfloat16)(self.model.forward)
        self.losses: list[float] = []
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._last: Spent | None = None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, daemon=True).start()
        self._done.acquire()  # until it holds still before its first step: it seeds torch, which the others draw weights from

    def step(self) -> Spent:
        """Let the thread take one step."""
        with any_kernel():
            self._go.release()
            self._done.acquire()
        if self._error is not None or self._last is None:
            raise RuntimeError("transformers' Trainer failed") from self._error
        return self._last

    def _run(self) -> None:
        try:
            torch.set_num_threads(self.p.cpu_threads)  # holds for one thread
            trainer = self._trainer()
            with open(os.devnull, "w") as quiet, redirect_stdout(quiet):
                trainer.train()
            self.losses = [float(line["loss"]) for line in trainer.state.log_history if "loss" in line]
        except BaseException as error:  # raised again by step
            self._error = error
        self._done.release()

    def _trainer(self) -> Any:
        from torch.utils.data import SequentialSampler
        from transformers import Trainer, TrainerCallback, TrainingArguments

        clock: list[Clock] = []

        class Turns(TrainerCallback):
            def on_step_begin(_, *__: Any, **___: Any) -> None:  # noqa: N805  self is the peer
                if clock:
                    self._last = clock.pop().stop()
                self._done.release()
                self._go.acquire()
                clock.append(Clock())

            def on_train_end(_, *__: Any, **___: Any) -> None:  # noqa: N805
                self._last = clock.pop().stop()

        class InOrder(Trainer):
            def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
                return SequentialSampler(self.train_dataset)

        n_steps = self.p.max_steps or 0
        optimizer = build_optimizer(self.p, self.model)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate(self.p, min(step, n_steps - 1), n_steps) / self.p.learning_rate
        )
        arguments = TrainingArguments(
            output_dir=self.folder, per_device_train_batch_size=self.p.rows_per_step, max_steps=n_steps, use_cpu=True,
            max_grad_norm=self.p.clip_norm or 0.0, logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True,
            remove_unused_columns=False, dataloader_num_workers=0,
        )  # fmt: skip
        return InOrder(model=self.model, args=arguments, train_dataset=self._rows(), data_collator=_collate, callbacks=[Turns()],
                       optimizers=(optimizer, schedule))  # fmt: skip

    def _rows(self) -> list[dict[str, Tensor]]:
        names = ("input_ids", "position_ids", "piece", "labels")
        return [dict(zip(names, row, strict=True)) for batch, _ in self.world.batches(self.p) for row in zip(*batch, strict=True)]


def _collate(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """A batch as transformers wants it: a mask of four dimensions, labels that it shifts itself."""
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    batch["attention_mask"] = block_mask(batch.pop("piece"))
    ours = batch["labels"]
    batch["labels"] = torch.cat([torch.full_like(ours[:, :1], IGNORE), ours[:, :-1]], dim=1)
    return batch
