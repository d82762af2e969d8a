"""``definemed tokens``: the ledger of a run from its folder alone, and shards out and in through the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from cluster.recipe import Recipe, resolved
from corpus.packing import MixtureEntry, plan
from corpus.tokenizer import tokenizer_digest, train_tokenizer
from store.artifact import Artifact, Draft, Identity
from store.errors import RecipeError
from store.fs import Folder
from store.run import RunRecord, StepRecord
from store.tokens import TokenStore, write_token_shard
from training.order import RowOrder

TABLE = {1: 1, 2: 2, 5: 5}


@pytest.fixture
def run(tmp_path: Path) -> tuple[Folder, Artifact]:
    """(folder of a run, its pack artifact): two sources, one of them rehydrated; nothing is trained yet."""
    root, rng = Folder(str(tmp_path)), np.random.default_rng(0)
    data = [{"set": "domain", "rehydrate": TABLE}, {"set": "general", "share": 0.2}]
    train = {"init": {"hidden_size": 32}, "data": data, "seq_len": 64, "rows_per_step": 4, "epochs": 2, "seed": 5}
    recipe = Recipe.model_validate({
        "name": "small", "tokens": {"tokenizer": {"vocab_size": 600}}, "models": {"m": {"train": train}},
        "corpus": {"source": {"files": ["x.parquet"]}, "stages": [{"stage": "signature"}],
                   "select": {"sets": {"domain": {}, "general": {}}}},
    })  # fmt: skip
    steps, stores = [], {}
    for name in ("domain", "general"):
        n = rng.integers(2, 90, 300).astype(np.int32)
        draft = Draft.begin(root / "artifacts", Identity("tokens", 2, {"set": name}))
        sizes = rng.choice([1, 2, 3, 9], 300)
        files = write_token_shard(draft.folder, "00000", np.zeros(int(n.sum()), np.uint32), np.arange(300), n, n, sizes)
        stores[name] = TokenStore.open(draft.commit(files=files))
        steps.append(_step(f"tokens/{name}", root, stores[name].artifact))
    entries = [MixtureEntry(name="domain", rehydrate=TABLE), MixtureEntry(name="general", share=0.2)]
    packed, summary = plan(stores, entries, 64, 1)
    draft = Draft.begin(root / "artifacts", Identity("pack", 2, {}))
    artifact = draft.commit(files=packed.write(draft.folder), summary=summary)
    steps.append(_step("pack/m", root, artifact))
    folder = root / "runs" / "small-00000000"
    RunRecord(name="small", run_id="00000000", status="failed", recipe=resolved(recipe), steps=tuple(steps), started_unix_s=0.0,
              elapsed_s=0.0, machine={}).write(folder)  # fmt: skip
    return folder, artifact


def _step(name: str, root: Folder, artifact: Artifact) -> StepRecord:
    place = artifact.folder.url.removeprefix(root.url + "/")
    return StepRecord(
        name=name, kind=artifact.step, folder=place, fingerprint=artifact.fingerprint, inputs={}, cached=False, elapsed_s=1.0
    )


def test_the_ledger_of_a_run_from_its_folder(run: tuple[Folder, Artifact]) -> None:
    folder, artifact = run
    sources = {s["name"]: s for s in artifact.manifest.summary["sources"]}
    order = RowOrder.plan(artifact.manifest.summary["n_rows"], 4, epochs=2, max_steps=None, seed=5)
    said = json.loads(CliRunner().invoke(app, ["tokens", "ledger", folder.url, "--json"]).stdout)
    assert (said["model"], said["step"], said["n_steps"]) == ("m", order.n_steps, order.n_steps)
    for source in said["sources"]:
        assert source["tokens"] == 2 * sources[source["name"]]["tokens"]
        assert source["epochs"] == source["tokens"] / sources[source["name"]]["size_tokens"]
    rows = said["rehydration"]["domain"]
    assert [r["tokens"] for r in rows] == [2 * r["tokens"] for r in sources["domain"]["rehydration"]]
    assert list(said["rehydration"]) == ["domain"]
    early = json.loads(CliRunner().invoke(app, ["tokens", "ledger", folder.url, "--json", "--step", "3"]).stdout)
    assert 0 < sum(s["tokens"] for s in early["sources"]) <= 3 * 4 * 64
    assert sum(r["tokens"] for r in early["rehydration"]["domain"]) == early["sources"][0]["tokens"]
    shown = CliRunner().invoke(app, ["tokens", "ledger", folder.url, "--step", "3"]).stdout
    assert f"m after 3 of {order.n_steps} steps" in shown and "clusters from 5, x 5" in shown


def test_what_the_ledger_cannot_say(run: tuple[Folder, Artifact]) -> None:
    with pytest.raises(RecipeError, match="no model other is trained"):
        CliRunner().invoke(app, ["tokens", "ledger", run[0].url, "--model", "other"], catch_exceptions=False)


def test_shards_go_out_and_come_back(tmp_path: Path) -> None:
    tokenizer = str(tmp_path / "tokenizer")
    train_tokenizer(iter(["Fieber und Husten. " * 20]), 520, Folder(tokenizer))
    draft = Draft.begin(Folder(str(tmp_path)), Identity("tokens", 2, {}))
    two, tokens = np.array([2, 3], np.int32), np.array([5, 0, 6, 7, 0], np.uint32)
    files = write_token_shard(draft.folder, "00000", tokens, np.arange(2), two, two * 4, np.array([4, 9]))
    made = draft.commit(files=files, summary={"vocab_size": 520, "eos_id": 0, "tokenizer": tokenizer_digest(tokenizer)})
    for kind in ("datatrove", "megatron"):
        to, back = str(tmp_path / kind), str(tmp_path / f"back-{kind}")
        out = CliRunner().invoke(app, ["tokens", "export", made.folder.url, "--to", to, "--format", kind], catch_exceptions=False)
        assert "5 tokens in 1 shards" in out.stdout
        command = ["tokens", "import", to, "--to", back, "--format", kind, "--tokenizer", tokenizer]
        out = CliRunner().invoke(app, command, catch_exceptions=False)
        assert "2 documents, 5 tokens" in out.stdout
        (folder,) = Path(back, "tokens").iterdir()
        store = TokenStore.open(Artifact.open(Folder(str(folder))))
        assert store.shards[0].tolist() == tokens.tolist() and store.cluster_sizes.tolist() == [4, 9]
    with pytest.raises(RecipeError, match="there is no format parquet; expected one of datatrove, megatron"):
        CliRunner().invoke(app, ["tokens", "export", made.folder.url, "--to", "x", "--format", "parquet"], catch_exceptions=False)
