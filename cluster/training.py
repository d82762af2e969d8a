"""The training room under Ray Train: a gang of workers that each call training.job.run_job.

Ray Train starts the processes, opens their process group, restarts them after a crash and carries figures to its own metrics.
Everything else stays the room's: checkpoints lie in the job's state_dir, which all workers share, so a restarted gang (or another run,
by torchrun or in-process) goes on from there. Ray's own resume, by a repeated ``name``, is not used: it would silently hand back an old
run's result.

SIGTERM, to the driver or to a worker, saves and ends with status "stopped". When Ray says that a machine of the gang will be taken, the
gang saves and goes on; Ray Train starts it again when the machine is gone, which does not count as a failure.

A single worker returns an error of the user as a value: raised, it would make Ray Train restart the worker max_failures times to meet
the same error again. A worker of several has to raise, because the others wait for it in a collective; the error arrives the same.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import ray.exceptions
import ray.train

from cluster.interruption import CatchSigterm, Signals, owned
from cluster.metrics import TrainMetrics
from store.errors import DefinemedError, StepError
from store.params import Json
from training.job import TrainJob, run_job
from training.log import METRICS, read_lines

Watch = Callable[[dict[str, Json]], None]
POLL_S = 0.5
# OpenMP threads that spin while they wait collapse when others want the cores, as Ray's own processes do: two busy neighbours on two
# cores left 1.2 k of 17 k tokens/s; sleeping threads kept 4.9 k, for 4 % on an idle machine. Read when OpenMP is loaded, so not later.
WAITING = {"OMP_WAIT_POLICY": "passive"}
# How often the controller looks at the workers. Its default of 2 s is what a short run would wait for at its end.
HEALTH_CHECK = ("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")


def run_training(
    job: TrainJob,
    n_workers: int = 1,
    use_gpu: bool = False,
    storage: str | None = None,
    name: str = "train",
    *,
    watch: Watch | None = None,
) -> dict[str, Json]:
    """Train on a gang of Ray workers and return training.loop.train's summary. ray.init must have been called.

    Args:
        job: its folders must be reachable by every worker under the same path.
        n_workers: processes; each takes job.params.cpu_threads CPUs, and one GPU with ``use_gpu``.
        storage: folder for Ray Train's own bookkeeping, local or shared; None uses job.state_dir.
        name: of the model; tag of its metrics, and prefix of the run's name, made unique for each call.
        watch: called in this process with each new line of metrics.jsonl while the gang works, a few times a second at most.

    Raises:
        the job's own DefinemedError (InputError, ...) as the worker met it.
        StepError: the gang kept crashing; with the worker's own words.
    """
    from ray.train.torch import TorchTrainer  # loads torch: 1.3 s that the command line need not wait for

    os.environ.setdefault(*HEALTH_CHECK)
    owner = uuid.uuid4().hex
    trainer = TorchTrainer(
        _work,
        train_loop_config={"job": job.model_dump_json(by_alias=True), "owner": owner, "name": name},
        scaling_config=ray.train.ScalingConfig(
            num_workers=n_workers,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": job.params.cpu_threads, **({"GPU": 1} if use_gpu else {})},
        ),
        run_config=ray.train.RunConfig(
            name=f"{name}-{owner[:8]}",
            storage_path=storage or job.state_dir,
            worker_runtime_env={"env_vars": WAITING},
            callbacks=[CatchSigterm()],  # type: ignore[list-item]  # developer interface, see there
            failure_config=ray.train.FailureConfig(max_failures=job.params.max_failures),
        ),
    )
    try:
        with owned(job.state_dir, owner), _watching(job, watch):
            result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        cause = _cause(error)
        if isinstance(cause, DefinemedError):
            raise cause from error
        raise StepError(
            f"training failed: {type(cause).__name__}: {cause}",
            where=f"step {name}",
            remedy="if the cause was outside (memory, a lost machine), run the recipe again: it goes on from the last checkpoint",
        ) from error
    except ray.exceptions.RayError as error:
        raise StepError(
            f"the training gang could not be started: {str(error).strip().splitlines()[-1]}", where=f"step {name}"
        ) from error
    status, value = result.return_value
    if status == "error":
        raise value
    return value


def _work(config: dict[str, str]) -> tuple[str, Any]:
    """A worker's whole life: ("summary", dict) or ("error", DefinemedError)."""
    job = TrainJob.model_validate_json(config["job"])
    signals = Signals(job.state_dir, config["owner"])
    try:
        leads = ray.train.get_context().get_world_rank() == 0
        with TrainMetrics(config["name"]) if leads else nullcontext() as observe:
            return "summary", run_job(job, report=_report, should_stop=signals.stop, preempted=signals.preempted, observe=observe)
    except DefinemedError as error:
        if ray.train.get_context().get_world_size() > 1:
            raise  # the other workers wait in a collective: the whole gang has to come down
        return "error", error


def _report(figures: dict[str, Json]) -> None:
    """Numbers to Ray Train; every worker calls it at the same steps (it is a barrier)."""
    ray.train.report({k: v for k, v in figures.items() if v is not None})


def _cause(error: BaseException) -> BaseException:
    """What the first failed worker raised, without Ray's wrapping."""
    failures = getattr(error, "worker_failures", None)
    cause: BaseException = failures[min(failures)] if failures else error
    while isinstance(inner := getattr(cause, "_base_exc", None) or getattr(cause, "cause", None), BaseException):
        cause = inner
    return cause


def _watching(job: TrainJob, watch: Watch | None) -> AbstractContextManager[None]:
    return nullcontext() if watch is None else _tail(f"{job.out_dir}/{METRICS}", watch)


@contextmanager
def _tail(path: str, watch: Watch) -> Iterator[None]:
    """Hand new lines of ``path`` to ``watch`` from a thread until the block ends."""
    done, seen = threading.Event(), 0

    def follow() -> None:
        nonlocal seen
        while True:
            last = done.wait(POLL_S)
            lines = read_lines(path)
            seen = min(seen, len(lines))  # a restarted gang cuts the file back
            for line in lines[seen:]:
                watch(line)  # type: ignore[arg-type]
            seen = len(lines)
            if last:
                return

    thread = threading.Thread(target=follow, name="train-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
