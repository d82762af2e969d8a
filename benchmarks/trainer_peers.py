"""The peers of benchmarks/trainer.py: a bare PyTorch loop, transformers' Trainer, and the rows that all of them train on."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterator
from contextlib import redirect_stdout
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


class BareLoop:
    """What a careful person writes by hand: rows ready in memory, same mask, same loss, fused AdamW, clipping, a loss to look at."""

    def __init__(self, world: World, p: TrainParams, init: ModelInit) -> None:
        torch.set_num_threads(p.cpu_threads)
        self.p, self.model = p, world.model(init).train()
        self.optimizer = build_optimizer(p, self.model)
        self.batches, self.losses = list(world.batches(p)), list[float]()
        self.dtype = torch.bfloat16 if p.precision == "bf16" else torch.float32

    def step(self) -> Spent:
        """One step, timed. Deterministic kernels, which our loop asks for, are off here."""
        were = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(False)
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
        spent = clock.stop()
        torch.use_deterministic_algorithms(were)
        return spent

    def _loss(self, ids: Tensor, positions: Tensor, piece: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            hidden = self.model.model(
                input_ids=ids, position_ids=positions, attention_mask=block_mask(piece), use_cache=False
            ).last_hidden_state
        return linear_cross_entropy(hidden.flatten(0, 1), self.model.lm_head.weight, labels.flatten(), self.dtype)


class HuggingFace:
    """transformers' Trainer on the same rows, in the same order, with the same optimizer and schedule."""

    def __init__(self, world: World, p: TrainParams, init: ModelInit, folder: str) -> None:
        self.world, self.p, self.folder = world, p, folder
        self.model = world.model(init).train()
        self.losses: list[float] = []

    def run(self) -> list[Spent]:
        """Time of each step, from its beginning to the next one's."""
        from accelerate.state import AcceleratorState
        from torch.utils.data import SequentialSampler
        from transformers import Trainer, TrainerCallback, TrainingArguments

        spent: list[Spent] = []
        clock: list[Clock] = []

        class Timer(TrainerCallback):
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                if clock:
                    spent.append(clock.pop().stop())
                clock.append(Clock())

        class InOrder(Trainer):
            def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
                return SequentialSampler(self.train_dataset)

        torch.set_num_threads(self.p.cpu_threads)
        n_steps = self.p.max_steps or 0
        optimizer = build_optimizer(self.p, self.model)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate(self.p, min(step, n_steps - 1), n_steps) / self.p.learning_rate
        )
        arguments = TrainingArguments(
            output_dir=self.folder, per_device_train_batch_size=self.p.rows_per_step, max_steps=n_steps,
            bf16=self.p.precision == "bf16", use_cpu=True, max_grad_norm=self.p.clip_norm or 0.0, logging_steps=1, save_strategy="no",
            report_to=[], disable_tqdm=True, remove_unused_columns=False, dataloader_num_workers=0,
        )  # fmt: skip
        trainer = InOrder(model=self.model, args=arguments, train_dataset=self._rows(), data_collator=_collate, callbacks=[Timer()],
                          optimizers=(optimizer, schedule))  # fmt: skip
        with open(os.devnull, "w") as quiet, redirect_stdout(quiet):
            trainer.train()
        AcceleratorState._reset_state(reset_partial_state=True)  # its precision would bind the next run of this process
        self.losses = [float(line["loss"]) for line in trainer.state.log_history if "loss" in line]
        return spent

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
