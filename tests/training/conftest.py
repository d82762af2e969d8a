"""A small world for the trainer: token artifacts of known content, a pack plan over them, and a tokenizer folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from store.artifact import Artifact, Draft, Identity
from store.fs import Folder
from store.plan import PackPlan
from store.tokens import TokenStore, write_token_shard

VOCAB, EOS, SEQ = 512, 0, 64


def write_tokens(root: Folder, name: str, docs: list[np.ndarray], n_shards: int = 2, vocab: int = VOCAB) -> Artifact:
    """A complete tokens artifact; each document as given (its end-of-text id included)."""
    draft = Draft.begin(root, Identity("tokens", 1, {"name": name}))
    files = []
    for s, part in enumerate(np.array_split(np.arange(len(docs)), n_shards)):
        lengths = np.array([len(docs[i]) for i in part], np.int32)
        tokens = np.concatenate([docs[i] for i in part] or [np.zeros(0)]).astype(np.uint32)
        files += write_token_shard(draft.folder, f"{s:05d}", tokens, part.astype(np.int64), lengths, lengths * 3)
    return draft.commit(files=files, summary={"vocab_size": vocab, "eos_id": EOS})


def chain_docs(rng: np.random.Generator, n: int, longest: int = 150) -> list[np.ndarray]:
    """Documents of a sparse Markov chain, so that there is something to learn."""
    follow = np.random.default_rng(7).integers(1, VOCAB, (VOCAB, 2))
    out = []
    for length in rng.integers(2, longest, n):
        doc = [int(rng.integers(1, VOCAB))]
        while len(doc) < length - 1:
            doc.append(int(follow[doc[-1], rng.integers(2)]))
        out.append(np.array([*doc, EOS], np.uint32))
    return out


def pack(stores: list[TokenStore], seq_len: int = SEQ) -> PackPlan:
    """Documents of all stores in turn, cut where a row is full: every token in exactly one piece."""
    rows: list[list[tuple[int, int, int, int]]] = [[]]
    left = seq_len
    for s, store in enumerate(stores):
        for doc, length in enumerate(store.lengths.tolist()):
            at = 0
            while at < length:
                n = min(left, length - at)
                if n == 1 and length > 1 and left < 3:  # leave a little padding so that it is tested too
                    rows.append([])
                    left = seq_len
                    continue
                rows[-1].append((s, doc, at, n))
                at, left = at + n, left - n
                if left == 0:
                    rows.append([])
                    left = seq_len
    rows = [r for r in rows if r]
    flat = np.array([p for r in rows for p in r], np.int64)
    offsets = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
    return PackPlan(seq_len, offsets, flat[:, 0].astype(np.uint16), flat[:, 1], flat[:, 2], flat[:, 3].astype(np.int32))


def write_pack(root: Folder, plan: PackPlan) -> Artifact:
    draft = Draft.begin(root, Identity("pack", 1, {}))
    return draft.commit(files=plan.write(draft.folder), summary={"seq_len": plan.seq_len})


@dataclass(frozen=True)
class World:
    stores: list[TokenStore]
    heldout: TokenStore
    plan: PackPlan
    pack_url: str
    root: str

    def urls(self) -> list[str]:
        return [s.artifact.folder.url for s in self.stores]


@pytest.fixture
def torchrun(tmp_path: Path) -> Callable[..., list[str]]:
    """Runs the text of a script in ``n`` processes under torchrun and returns the lines they printed."""
    root = Path(__file__).parents[2]

    def run(script: str, *arguments: str, n: int = 2, max_restarts: int = 0) -> list[str]:
        path = tmp_path / "script.py"
        path.write_text(script, encoding="utf-8")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n), "--max-restarts",
                   str(max_restarts), str(path), *arguments]  # fmt: skip
        env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        done = subprocess.run(command, env=env, cwd=root, text=True, capture_output=True, timeout=180, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.splitlines()

    return run


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = Folder(str(tmp_path_factory.mktemp("world")))
    rng = np.random.default_rng(0)
    stores = [TokenStore.open(write_tokens(root, f"train-{i}", chain_docs(rng, 60 + i))) for i in range(2)]
    held = TokenStore.open(write_tokens(root, "heldout", chain_docs(rng, 30)))
    plan = pack(stores)
    return World(stores, held, plan, write_pack(root, plan).folder.url, root.url)


@pytest.fixture(scope="session")
def make_tokens():
    """write_tokens, for tests with documents of their own."""
    return write_tokens


@pytest.fixture(scope="session")
def make_plan():
    """pack, for tests with documents of their own."""
    return pack
