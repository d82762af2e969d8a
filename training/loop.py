"""The training loop: pack plan, token stores and a model in, a Hugging Face folder out.

What is guaranteed about bytes: the same parameters, plan, stores and model give the same files in ``out_dir`` on the same kind of CPU
(or GPU) with the same library versions and the same number of processes, after any number of interruptions. Threads per process are a
parameter (cpu_threads), so the machine's core count does not matter. Another number of processes sees the same rows in the same steps
and the same loss weights, but sums gradients in another order: equal up to rounding, not to the byte.

One step: the global batch of rows_per_step rows is cut into micro-batches, dealt to the processes in turn; the loss is the sum of nats
over the batch divided by the number of its targets (not a mean of means), which is known from the plan without communication.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from store.artifact import Artifact
from store.errors import DefinemedError, from_os_error, is_disk_full
from store.models import MODEL
from store.params import Json
from store.plan import PackPlan
from store.tokens import TokenStore
from training.attention import attention_on
from training.export import export, rehearse
from training.heldout import HeldOut, Score
from training.interrupt import Interruptions
from training.log import HELDOUT, METRICS, TIMING, RunLog, StepLog
from training.lora import add_adapters, first_values
from training.model import PackedLM, build_model, find_model
from training.optimizer import build_optimizer
from training.order import RowOrder
from training.parallel import Gang, has_bf16, reproducible, unwrap
from training.params import ModelInit, TrainParams
from training.rows import RowReader
from training.schedule import learning_rate
from training.shards import empty_model, materialise
from training.spikes import SpikeRule
from training.state import Checkpoints, run_fingerprint
from training.step import StepHook, Stepper
from training.watch import Sink, Watch

log = logging.getLogger(__name__)

LAST_WRITE_S = 60.0  # a write in flight when the run fails gets this long to become a checkpoint
Report = Callable[[dict[str, Json]], None]


def train(
    params: TrainParams,
    init: ModelInit,
    plan: PackPlan,
    stores: Sequence[TokenStore],
    out_dir: str,
    state_dir: str,
    heldout: Mapping[str, TokenStore] | None = None,
    *,
    tokenizer: str | None = None,
    report: Report | None = None,
    should_stop: Callable[[], bool] | None = None,
    preempted: Callable[[], bool] | None = None,
    observe: Sink | None = None,
    watch_dir: str | None = None,
) -> dict[str, Json]:
    """Train, or go on where ``state_dir`` says an earlier call stopped. Every process of the gang calls it with the same arguments.

    Args:
        stores: in the plan's source order.
        out_dir: gets model/, metrics.jsonl and heldout.jsonl. Local, or shared by the gang's machines.
        state_dir: gets checkpoints and timing.jsonl. Local, or shared by the gang's machines.
        heldout: stores whose bits per byte are measured at start, every eval_every_steps and at the end.
        tokenizer: folder whose tokenizer is exported with the model; None takes that of the model the run starts from.
        report: called on every process at the same steps (evaluations, checkpoints, the end) with the latest figures.
        should_stop: asked before every step, beside SIGTERM; True saves a checkpoint and returns.
        preempted: asked by all processes at the same step every few seconds; True saves a checkpoint and goes on.
        observe: called on the first process with every step's figures (training.watch).
        watch_dir: gets TensorBoard event files and profiles if asked for; None means state_dir/watch.

    Returns:
        status ("finished" or "stopped"), n_steps, n_rows, n_tokens, n_targets, final_loss, n_parameters, n_processes, and ``heldout``:
        {name: {"start": score, "end": score}}. Deterministic.

    Raises:
        InputError, ArtifactError, ResourceError: the inputs do not fit together, or the machine lacks something (disk space, too).
        StepError: the loss is not a number.
    """
    gang = Gang.join(params)
    with reproducible(gang.device, params.cpu_threads), Interruptions(should_stop, preempted) as interruptions:
        run = _Run.prepare(params, init, plan, stores, dict(heldout or {}), out_dir, state_dir, gang, observe, watch_dir)
        try:
            return run.go(report or (lambda _: None), interruptions, tokenizer)
        except OSError as error:
            if is_disk_full(error):  # met by a log; checkpoints and the export say more
                raise from_os_error(error, out_dir) from error
            raise
        finally:
            run.watch.close()


@dataclass
class _Run:
    params: TrainParams
    gang: Gang
    folder: str | None
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    order: RowOrder
    heldout: list[HeldOut]
    checkpoints: Checkpoints
    out_dir: str
    logs: dict[str, RunLog]
    n_parameters: int
    stepper: Stepper
    watch: Watch
    spikes: SpikeRule | None
    last: dict[str, Json] = field(default_factory=dict)

    @classmethod
    def prepare(
        cls, params: TrainParams, init: ModelInit, plan: PackPlan, stores: Sequence[TokenStore], heldout: dict[str, TokenStore],
        out_dir: str, state_dir: str, gang: Gang, observe: Sink | None, watch_dir: str | None,
    ) -> _Run:  # fmt: skip
        if params.verify_tokens and gang.leads:
            verify([s.artifact for s in stores])
        if params.precision == "bf16" and gang.leads and gang.device.type == "cpu" and not has_bf16():
            log.warning("this CPU has no bfloat16 arithmetic and emulates it: train.precision: fp32 is much faster here")
        folder = find_model(init)
        wrapped, n_parameters = _load(params, init, folder, plan, stores, gang)
        config = unwrap(wrapped).model.config
        rows = int(config.vocab_size)
        for path in (out_dir, state_dir):
            os.makedirs(path, exist_ok=True)
        places = {METRICS: out_dir, HELDOUT: out_dir, TIMING: state_dir}
        logs = {n: RunLog(os.path.join(d, n), gang.leads) for n, d in places.items()}
        optimizer = build_optimizer(params, wrapped)
        # What looks at every step. Hooks see the same deterministic values on every process; the log comes last.
        spikes = None if params.spikes is None else SpikeRule(params.spikes)
        watch = Watch.open(params, config.to_dict(), plan, n_devices=gang.size, device=gang.device, timing=logs[TIMING],
                           folder=watch_dir or os.path.join(state_dir, "watch"), observe=observe, active=gang.leads)  # fmt: skip
        hooks: list[StepHook] = [*([spikes] if spikes else []), StepLog(logs[METRICS], spikes), watch]
        return cls(
            params, gang, folder, wrapped, optimizer,
            RowOrder.plan(plan.n_rows, params.rows_per_step, epochs=params.epochs, max_steps=params.max_steps, seed=params.seed),
            [HeldOut(n, s, seq_len=plan.seq_len, max_rows=params.eval_rows, vocab_size=rows) for n, s in sorted(heldout.items())],
            Checkpoints(state_dir, run_fingerprint(params, init, folder, plan, stores, heldout), params.keep_checkpoints, gang,
                        background=params.save_in_background),
            out_dir, logs, n_parameters, Stepper(params, gang, wrapped, optimizer, RowReader(plan, stores, rows), hooks),
            watch, spikes,
        )  # fmt: skip

    def go(self, report: Report, interruptions: Interruptions, tokenizer: str | None) -> dict[str, Json]:
        tokenizer = tokenizer or _own_tokenizer(self.folder)
        if tokenizer is not None and self.gang.leads:
            rehearse(unwrap(self.wrapped).model.config, tokenizer)
        try:
            done = self._steps(report, interruptions)
            self.checkpoints.wait()
        except BaseException:
            self.checkpoints.saver.join(LAST_WRITE_S)
            raise
        if done < self.order.n_steps:
            log.info("stopped after step %d of %d; the checkpoint is saved", done, self.order.n_steps)
            return self._summary("stopped", done)
        try:
            export(self.wrapped, self.gang, os.path.join(self.out_dir, MODEL), dtype=getattr(torch, self.params.save_dtype),
                   tokenizer=tokenizer, source=self.folder, lora=self.params.lora)  # fmt: skip
        except DefinemedError:
            self._keep(done)
            raise
        return self._summary("finished", done)

    def _keep(self, done: int) -> None:
        """Save the end of a run whose model could not be written, so that the same command need not take a step again."""
        try:
            self.checkpoints.save(done, self.wrapped, self.optimizer)
            self.checkpoints.wait()
        except DefinemedError as error:
            log.warning("the last steps could not be saved: %s", error.sentence())

    def _steps(self, report: Report, interruptions: Interruptions) -> int:
        """Steps until the end or a stop; returns how many are done in all."""
        first = self.checkpoints.load_latest(self.wrapped, self.optimizer)
        if first:
            log.info("resuming after step %d of %d", first, self.order.n_steps)
        for name, file in self.logs.items():
            # Times are kept whatever the checkpoint; only a line torn by a kill goes, or the next would be written onto it.
            file.cut(self.order.n_steps if name == TIMING else first if first else -1)
        self.gang.wait()
        if self.spikes is not None:
            self.spikes.restore(self.logs[METRICS].lines(), first)
        self.watch.begin(first)
        if first == 0:
            self._evaluate(0, report)
        for step in range(first, self.order.n_steps):
            stop, save, failed = interruptions.look(self.gang, failed=self.checkpoints.failed)
            if failed:
                self.checkpoints.wait()
            if stop or save:
                self.checkpoints.save(step, self.wrapped, self.optimizer)
                self.checkpoints.wait()
            if stop:
                return step
            self._step(step)
            self._pause(step + 1, report)
        return self.order.n_steps

    def _step(self, step: int) -> None:
        record = self.stepper.run(step, self.order.rows(step), learning_rate(self.params, step, self.order.n_steps))
        self.last = record.figures()

    def _pause(self, done: int, report: Report) -> None:
        """What falls due after ``done`` steps: evaluation, checkpoint. Evaluated first, so that a checkpoint's log is complete."""
        final = done == self.order.n_steps
        evaluated = final or _due(done, self.params.eval_every_steps)
        if evaluated:
            self._evaluate(done, report)
        if not final and _due(done, self.params.save_every_steps):
            self.checkpoints.save(done, self.wrapped, self.optimizer)
            if not evaluated:
                report({**self.last, "n_steps": self.order.n_steps})

    def _evaluate(self, done: int, report: Report) -> None:
        figures: dict[str, Json] = {**self.last, "step": done, "n_steps": self.order.n_steps}
        for held in self.heldout:
            score: Score = held.score(self.wrapped, self.gang, self.params.micro_batch_rows)
            self.logs[HELDOUT].write({"step": done, "name": held.name, **score.as_json()})
            figures[f"heldout/{held.name}"] = score.bits_per_byte
        self.watch.scores(done, figures)
        report(figures)

    def _summary(self, status: str, done: int) -> dict[str, Json]:
        self.gang.wait()
        metrics, scores = self.logs[METRICS].lines(), self.logs[HELDOUT].lines()
        held: dict[str, Json] = {}
        for name in (h.name for h in self.heldout):
            mine = [{k: v for k, v in line.items() if k != "name"} for line in scores if line["name"] == name]
            held[name] = {"start": mine[0], "end": mine[-1]}  # type: ignore[dict-item]
        places = [self.order.rows(s) for s in range(done)]
        n_rows = sum(len(p) for p in places)
        return {
            "status": status, "n_steps": done, "n_rows": n_rows, "n_tokens": n_rows * self.stepper.reader.plan.seq_len,
            "n_targets": sum(self.stepper.reader.n_targets(p) for p in places), "final_loss": metrics[-1]["loss"] if metrics else None,
            "n_parameters": self.n_parameters, "n_processes": self.gang.size, "heldout": held,
            "n_skipped": sum(1 for line in metrics if line.get("skipped")),
        }  # type: ignore[dict-item]  # fmt: skip


def verify(artifacts: Sequence[Artifact]) -> None:
    """Compare every file with its manifest; ArtifactError names the first that differs."""
    for artifact in artifacts:
        artifact.verify()


def _load(
    params: TrainParams, init: ModelInit, folder: str | None, plan: PackPlan, stores: Sequence[TokenStore], gang: Gang
) -> tuple[nn.Module, int]:
    """(the model spread over the gang, its number of parameters without adapters)."""
    how: dict[str, Any] = {
        "folder": folder, "seq_len": plan.seq_len, "vocab_size": max(s.summary("vocab_size") for s in stores),
        "eos_id": stores[0].summary("eos_id"), "attention": attention_on(gang.device, params.attn_implementation, params.precision),
    }  # fmt: skip
    model = empty_model(init, **how) if gang.shards else build_model(init, **how)
    n_parameters = sum(p.numel() for p in model.parameters())
    adapters: dict[str, torch.Tensor] = {}
    if params.lora is not None:
        add_adapters(model, params.lora, params.seed)
        adapters = first_values(model, params.seed)
    if params.gradient_checkpointing:
        _recompute(model)
    if params.compile:
        for layer in model.get_decoder().layers:
            layer.compile()
    model.train()
    wrapped = gang.spread(PackedLM(model, torch.bfloat16 if params.precision == "bf16" else torch.float32))
    if gang.shards:
        materialise(wrapped, gang, folder, adapters, lambda: build_model(init, **how))
    return wrapped, n_parameters


def _recompute(model: PreTrainedModel) -> None:
    """Activation checkpointing under the name of the transformers version at hand (renamed in 5.23)."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _own_tokenizer(folder: str | None) -> str | None:
    return folder if folder is not None and os.path.isfile(os.path.join(folder, "tokenizer_config.json")) else None


def _due(done: int, every: int | None) -> bool:
    return every is not None and done % every == 0
