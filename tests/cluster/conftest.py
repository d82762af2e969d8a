"""A small training job for the tests of training under Ray."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from store.fs import Folder
from store.tokens import TokenStore
from training.job import TrainJob
from training.params import ModelInit, TrainParams

PARAMS = TrainParams(
    learning_rate=2e-2, rows_per_step=8, micro_batch_rows=4, max_steps=12, eval_rows=8, cpu_threads=1, precision="fp32",
    save_every_steps=4, max_failures=0,
)  # fmt: skip


def _training_fixtures():
    """The small world of the training room's tests; tests are no package, so it is loaded by path."""
    path = Path(__file__).parent.parent / "training" / "conftest.py"
    spec = importlib.util.spec_from_file_location("training_world", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["training_world"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make_job(tmp_path_factory):
    made, root = _training_fixtures(), Folder(str(tmp_path_factory.mktemp("world")))
    rng = np.random.default_rng(0)
    store = TokenStore.open(made.write_tokens(root, "train", made.chain_docs(rng, 80)))
    held = made.write_tokens(root, "held", made.chain_docs(rng, 20)).folder.url
    pack = made.write_pack(root, made.pack([store])).folder.url

    def job(folder: Path, tokens: str = store.artifact.folder.url, **params) -> TrainJob:
        return TrainJob(
            params=PARAMS.model_copy(update=params), init=ModelInit(hidden_size=32, n_layers=2, n_heads=2, intermediate_size=64),
            pack=pack, tokens=[tokens], heldout={"chain": held}, out_dir=str(folder / "out"), state_dir=str(folder / "state"),
        )  # fmt: skip

    return job
