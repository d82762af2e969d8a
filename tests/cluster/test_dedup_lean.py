"""``definemed dedup lean`` against datasketch: what it writes are the sketches that datasketch makes of the same words."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasketch import LeanMinHash, MinHash, MinHashLSH
from typer.testing import CliRunner

from cluster.cli import app
from corpus.passes import DocumentsWorker
from corpus.signature import Signature
from corpus.source import FileSource, list_units
from store.artifact import Draft, Identity
from store.errors import InputError
from store.executor import Job, SerialExecutor, Task
from store.fs import Folder

PAGES = [" ".join(f"{'abcdefgh'[i % 8]}{'xyz'[k % 3]}wort" + "o" * (k * i % 11) for k in range(40)) for i in range(30)]


def signed(folder, stage):
    pq.write_table(pa.table({"text": PAGES, "id": [f"p-{i}" for i in range(30)]}), folder / "a.parquet", row_group_size=20)
    source = FileSource(files=(str(folder / "a.parquet"),))
    params = {"stages": [{**stage.model_dump(mode="json"), "version": Signature.version}]}
    draft = Draft.begin(Folder(str(folder)), Identity("documents", 1, params))
    kwargs = {"folder": draft.folder, "source": source, "stages": (stage,), "resources": {}, "dropped_text_share": 1.0,
              "on_bad_input": "fail"}  # fmt: skip
    tasks = [Task(u.key, u.model_dump(mode="json"), u.n_docs) for u in list_units(source)]
    return draft.commit(SerialExecutor().map(Job("documents", DocumentsWorker, kwargs, tasks, draft))).folder.path("")


def test_sketches_are_datasketchs(tmp_path) -> None:
    artifact = signed(tmp_path, Signature(family="datasketch", keep_minima=True, ngram=3, seed=5))
    shown = CliRunner().invoke(app, ["dedup", "lean", artifact, "--to", str(tmp_path / "x" / "lean.parquet")], catch_exceptions=False)
    assert "30 sketches of 112 values, seed 5" in shown.output
    rows = pq.read_table(tmp_path / "x" / "lean.parquet").to_pylist()
    assert [r["id"] for r in rows] == [f"p-{i}" for i in range(30)]
    lsh = MinHashLSH(num_perm=112, params=(14, 8))
    for page, row in zip(PAGES, rows, strict=True):
        sketch, words = MinHash(112, seed=5), page.split()
        sketch.update_batch([" ".join(words[i : i + 3]).encode() for i in range(len(words) - 2)])
        found, wanted = LeanMinHash.deserialize(row["lean_minhash"]), LeanMinHash(sketch)
        written = bytearray(wanted.bytesize())
        wanted.serialize(written)
        assert found == wanted and bytes(written) == row["lean_minhash"] and found.jaccard(sketch) == 1.0
        lsh.insert(row["id"], found)
        assert row["id"] in lsh.query(sketch)


@pytest.mark.parametrize("stage", [Signature(keep_minima=True), Signature(family="datasketch")])
def test_other_signatures_are_refused(tmp_path, stage) -> None:
    with pytest.raises(InputError, match="no sketches of datasketch"):
        CliRunner().invoke(app, ["dedup", "lean", signed(tmp_path, stage), "--to", str(tmp_path / "o")], catch_exceptions=False)
    assert not (tmp_path / "o").exists()
