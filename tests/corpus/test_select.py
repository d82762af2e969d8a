"""Selection: first rule that fits, duplicates out with their level, held-out parts by id, nothing unaccounted for."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.select import ClustersFile, Duplicates, SelectParams, SelectWorker, SetRule, assign
from store.errors import InputError
from store.executor import Task
from store.fs import Folder
from store.schema import CLUSTERS, DOCUMENT


def kept_file(path, n, scores):
    columns = {f.name: pa.nulls(n, f.type) for f in DOCUMENT}
    columns["doc_key"] = pa.array(range(n), pa.int64())
    columns["id"] = pa.array([f"id-{i}" for i in range(n)])
    columns["text"] = pa.array([f"Text {i}" for i in range(n)], pa.large_string())
    columns["score"] = pa.array(scores, pa.float32())
    pq.write_table(pa.table(columns), path)


def clusters_file(path, rows):
    pq.write_table(pa.table([list(c) for c in zip(*rows, strict=True)], schema=CLUSTERS), path)
    return str(path)


def select(tmp_path, n, scores, params, clusters=None):
    kept_file(tmp_path / "k.parquet", n, scores)
    worker = SelectWorker(Folder(str(tmp_path / "out")), params, clusters, (), {}, 1.0)
    receipt = worker.run(Task("000000", {"file": str(tmp_path / "k.parquet")}))
    found = {f.name.split("/")[0]: pq.read_table(tmp_path / "out" / f.name).to_pylist() for f in receipt.files}
    return receipt, found


def test_sets_by_score_and_what_no_set_takes(tmp_path):
    params = SelectParams(sets={"domain": SetRule(column="score", min=0.5), "general": SetRule(column="score", max=0.1)})
    receipt, found = select(tmp_path, 5, [0.9, 0.5, 0.3, 0.1, 0.0], params)
    assert [r["id"] for r in found["domain"]] == ["id-0", "id-1"]
    # 0.1 is not exactly a float32: a bound compares with the column's own precision.
    assert {r["id"] for r in found["general"]} | {r["id"] for r in found["dropped"]} == {"id-2", "id-3", "id-4"}
    assert {(r["stage"], r["reason"]) for r in found["dropped"]} == {("select", "no_set")}
    assert sum(v for k, v in receipt.counts.items() if k.startswith(("kept", "dropped"))) == receipt.counts["read"] == 5


def test_duplicates_go_survivors_stay_with_their_cluster_size(tmp_path):
    clusters = clusters_file(tmp_path / "c.parquet", [(1, 1, 3, "exact"), (2, 1, 3, "exact"), (4, 1, 3, "minhash")])
    receipt, found = select(tmp_path, 6, [1.0] * 6, SelectParams(sets={"all": SetRule()}), clusters)
    assert [r["id"] for r in found["all"]] == ["id-0", "id-1", "id-3", "id-5"]
    assert {r["id"]: r["minhash_cluster_size"] for r in found["all"]}["id-1"] == 3
    assert {r["id"]: r["reason"] for r in found["dropped"]} == {"id-2": "exact_duplicate", "id-4": "near_duplicate"}
    assert receipt.counts["dropped/dedup/exact_duplicate"] == 1


def test_a_file_reads_the_clusters_of_its_own_keys(tmp_path):
    """Row groups of ten members: the same verdicts, and no more of the file in memory than the documents' keys touch."""
    rows = [(k, k // 3 * 3, 3, "exact") for k in range(-60, 240)]
    pq.write_table(pa.table([list(c) for c in zip(*rows, strict=True)], schema=CLUSTERS), tmp_path / "c.parquet", row_group_size=10)
    kept_file(tmp_path / "k.parquet", 25, [1.0] * 25)
    clusters = ClustersFile(str(tmp_path / "c.parquet"))
    found = clusters.of(pq.ParquetFile(tmp_path / "k.parquet"))
    assert found.keys.tolist() == list(range(30)) and clusters.of(pq.ParquetFile(tmp_path / "k.parquet")) is found
    for mine, whole in zip(found.judge(np.arange(25)), Duplicates.read(str(tmp_path / "c.parquet")).judge(np.arange(25)), strict=True):
        assert mine.tolist() == whole.tolist()
    assert not len(ClustersFile(None).of(pq.ParquetFile(tmp_path / "k.parquet")).keys)


def test_held_out_and_shares_are_drawn_by_id_and_stay_when_documents_are_added(tmp_path):
    params = SelectParams(sets={"all": SetRule(share=0.5, heldout=0.2)})
    few, found_few = select(tmp_path, 1000, [1.0] * 1000, params)
    _, found_many = select(tmp_path, 3000, [1.0] * 3000, params)
    for name in ("all", "all-heldout"):
        assert {r["id"] for r in found_few[name]} <= {r["id"] for r in found_many[name]}
    n_all, n_heldout = few.counts["kept/all"], few.counts["kept/all-heldout"]
    assert 350 < n_all < 450 and 60 < n_heldout < 140
    assert few.counts["dropped/select/not_sampled"] == 1000 - n_all - n_heldout


def test_lookup_of_keys_agrees_with_a_dictionary():
    rng = np.random.default_rng(1)
    keys = np.unique(rng.integers(0, 10_000, 3000))
    survivors = keys[rng.integers(0, len(keys), len(keys))]
    exact = rng.random(len(keys)) < 0.5
    table = Duplicates(keys, survivors, np.full(len(keys), 2, np.int32), exact)
    asked = rng.integers(0, 10_000, 5000)
    verdict, size = table.judge(asked)
    truth = {int(k): (int(s), bool(e)) for k, s, e in zip(keys, survivors, exact, strict=True)}
    for key, v, n in zip(asked.tolist(), verdict.tolist(), size.tolist(), strict=True):
        survivor, is_exact = truth.get(key, (key, False))
        assert v == (-1 if survivor == key else 0 if is_exact else 1)
        assert n == (2 if key in truth else 1)


def test_a_rule_on_a_column_that_is_not_there_says_which_stage_is_missing():
    batch = pa.RecordBatch.from_pydict({"text": ["x"]})
    with pytest.raises(InputError, match="score_medical does not exist"):
        assign(batch, SelectParams(sets={"domain": SetRule(column="score_medical", min=0.5)}))


def test_a_rule_on_a_column_without_numbers_is_refused_without_quoting_it():
    batch = pa.RecordBatch.from_pydict({"text": ["Erika Mustermann"]})
    with pytest.raises(InputError, match="the column text holds no numbers") as error:
        assign(batch, SelectParams(sets={"domain": SetRule(column="text", min=0.5)}))
    assert "Mustermann" not in str(error.value)


def test_further_columns_must_fit_too():
    columns = {
        "score": pa.array([0.9, 0.9, 0.9, 0.2], pa.float32()),
        "register": ["lay", "professional", None, "lay"],
        "fine": [0.7, 0.4, 0.9, 0.9],
    }
    batch = pa.RecordBatch.from_pydict(columns)

    def first(**rule):
        return (assign(batch, SelectParams(sets={"a": SetRule(**rule)}))[0] == 0).tolist()

    assert first(where={"register": "lay"}) == [True, False, False, True]
    assert first(column="score", min=0.5, where={"register": ("lay", "professional")}) == [True, True, False, False]
    assert first(where={"fine": {"min": 0.5, "max": 0.8}}) == [True, False, False, False]
    assert first(where={"register": "lay", "fine": {"min": 0.8}}) == [False, False, False, True]
    for where, message in (
        ({"register": {"min": 0.5}}, "holds no numbers"),
        ({"fine": "lay"}, "holds no labels"),
        ({"x": "y"}, "x does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            first(where=where)
