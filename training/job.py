"""A training run as a JSON file, so that it can be started by torchrun, by Ray Train or by hand with nothing shared but a disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from store.artifact import Artifact
from store.errors import RecipeError
from store.fs import Folder, read_bytes
from store.params import Json, Params
from store.plan import PackPlan
from store.tokens import TokenStore
from training.params import ModelInit, TrainParams

if TYPE_CHECKING:
    from training.loop import Report
    from training.watch import Sink


class TrainJob(Params):
    """Parameters and folders of one run."""

    params: TrainParams = Field(default_factory=TrainParams, description="How to train.")
    init: ModelInit = Field(default_factory=ModelInit, description="The model to start from.")
    pack: str = Field(description="Folder of the pack artifact.")
    tokens: list[str] = Field(min_length=1, description="Folders of the token artifacts, in the plan's source order.")
    heldout: dict[str, str] = Field(
        default_factory=dict, description="Folders of token artifacts to measure bits per byte on, by name."
    )
    out_dir: str = Field(description="Folder that gets model/, metrics.jsonl and heldout.jsonl; shared by all processes.")
    state_dir: str = Field(description="Folder for checkpoints; shared by all processes.")
    tokenizer: str | None = Field(default=None, description="Folder of the tokenizer to export; None takes the starting model's.")
    watch_dir: str | None = Field(
        default=None, description="Folder of TensorBoard event files and profiles; None means state_dir/watch."
    )


def read_job(path: str) -> TrainJob:
    """The job of a JSON file; RecipeError names the first key that is wrong."""
    try:
        return TrainJob.model_validate(json.loads(read_bytes(path)))
    except json.JSONDecodeError as error:
        raise RecipeError(f"this is not JSON ({error})", where=path) from error
    except ValidationError as error:
        problem = error.errors()[0]
        raise RecipeError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}", where=path) from error


def run_job(
    job: TrainJob, report: Report | None = None, should_stop: Callable[[], bool] | None = None,
    preempted: Callable[[], bool] | None = None, observe: Sink | None = None,
) -> dict[str, Json]:  # fmt: skip
    """Open the artifacts and train; see training.loop.train."""
    from training.loop import train

    def tokens(url: str) -> TokenStore:
        return TokenStore.open(Artifact.open(Folder(url)))

    plan = PackPlan.open(Artifact.open(Folder(job.pack)))
    heldout = {name: tokens(url) for name, url in job.heldout.items()}
    return train(
        job.params, job.init, plan, [tokens(url) for url in job.tokens], job.out_dir, job.state_dir, heldout,
        tokenizer=job.tokenizer, report=report, should_stop=should_stop, preempted=preempted, observe=observe, watch_dir=job.watch_dir,
    )  # fmt: skip
