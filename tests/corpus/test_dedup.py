"""Clusters against brute force on small signatures, and against planted duplicates in real pages."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.dedup import CLUSTERS_FILE, BandWorker, DedupParams, band_tasks, connect, count_bands, group_edges
from corpus.minhash import NEVER
from corpus.signature import Signature
from store.artifact import Artifact, Draft, Identity
from store.errors import ArtifactError, InputError
from store.executor import Job, SerialExecutor, Task
from store.fs import Folder
from store.schema import CLUSTERS, signature_schema

DATA = Path(os.environ.get("DEFINEMED_DATA", Path(__file__).parents[2] / "../shared/data"))
N = int(NEVER)
Row = tuple[int, tuple[int, int], list[int], int]

# (exact hash, bands, characters): few values, so that groups and chains are common; all ones must match nothing.
ROWS = st.lists(
    st.tuples(
        st.sampled_from([(0, 0), (0, 1), (N, 1), (N, N), *((7, i) for i in range(2, 12))]),
        st.lists(st.sampled_from([N, *range(12)]), min_size=3, max_size=3),
        st.integers(0, 3),
    ),
    min_size=1, max_size=14,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(ROWS, st.sampled_from(["first", "longest"]), st.booleans(), st.booleans(), st.integers(1, 20))
def test_clusters_equal_brute_force(tmp_path_factory, rows, keep, exact, minhash, docs_per_task) -> None:
    rows = [(1000 - 3 * i, *r) for i, r in enumerate(rows)]  # files need not be in order of key
    params = DedupParams(keep=keep, exact=exact, minhash=minhash, docs_per_task=docs_per_task)
    tmp_path = tmp_path_factory.mktemp("dedup")
    artifact = run(tmp_path, [rows[::2], rows[1::2]], params)
    assert table(artifact).to_pylist() == brute_force(rows, params)
    assert [f.name for f in artifact.manifest.files] == [CLUSTERS_FILE]
    assert artifact.folder.names() == [CLUSTERS_FILE, "manifest.json", "provenance.json"]  # no edges are left


def test_the_artifact_does_not_depend_on_files_or_tasks(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [(i, (i, int(random.integers(40))), random.integers(0, 60, 3).tolist(), 9) for i in range(100)]
    one = run(tmp_path / "one", [rows], DedupParams())
    two = run(tmp_path / "two", [rows[50:], rows[:30], rows[30:50]], DedupParams(docs_per_task=7))
    assert one.manifest.content_hash == two.manifest.content_hash
    assert one.fingerprint == two.fingerprint


def test_summary_and_levels(tmp_path: Path) -> None:
    rows = [(1, (5, 5), [1, 2, 3], 10), (2, (5, 5), [1, 2, 3], 10), (3, (6, 6), [1, 9, 9], 12), (4, (7, 7), [8, 8, 8], 1)]
    artifact = run(tmp_path, [rows], DedupParams())
    assert table(artifact).schema == CLUSTERS
    assert table(artifact)["level"].to_pylist() == ["exact", "exact", "minhash"]
    assert artifact.manifest.summary == {
        "n_docs": 4, "n_clusters": 1, "n_duplicates": 2, "largest_cluster": 3,
        "cluster_sizes": {"2": 0, "3-4": 1, "5-9": 0, "10-99": 0, "100+": 0},
    }  # fmt: skip
    longest = run(tmp_path / "longest", [rows], DedupParams(keep="longest"))
    assert table(longest)["survivor_key"].to_pylist() == [3, 3, 3]


def test_a_killed_run_continues_with_the_bands_that_are_missing(tmp_path: Path) -> None:
    rows = [(i, (i, i), [i // 2, i // 3, i], 1) for i in range(12)]
    files, draft = write(tmp_path, [rows]), begin(tmp_path)
    done = BandWorker(files, draft.folder).run(Task("band-01-000-of-001", {"band": 1, "part": 0, "n_parts": 1}))
    draft.finish(done)
    assert table(connect(draft, SerialExecutor(), files, 12, DedupParams())).to_pylist() == brute_force(rows, DedupParams())


def test_a_killed_run_may_go_on_with_parts_of_another_size(tmp_path: Path) -> None:
    rows = [(i, (i // 2, 7), [100 + i, 200 + i, i // 4], 1) for i in range(8)]
    files, draft = write(tmp_path, [rows]), begin(tmp_path)
    first_halves = [t for t in band_tasks(3, 8, DedupParams(docs_per_task=4)) if t.payload["part"] == 0]
    SerialExecutor().map(Job("dedup", BandWorker, {"files": files, "out": draft.folder}, first_halves, draft))
    assert table(connect(draft, SerialExecutor(), files, 8, DedupParams())).to_pylist() == brute_force(rows, DedupParams())


def test_one_hash_for_all_costs_linear_edges() -> None:
    keys = np.arange(1_000_000)[::-1].copy()
    edges = group_edges(keys, np.full((1_000_000, 1), 5, np.uint64))
    assert len(edges) == 999_999
    assert not edges[:, 0].any()
    assert (edges[:, 1] == np.arange(1, 1_000_000)).all()


def test_wrong_inputs_are_named(tmp_path: Path) -> None:
    rows: list[Row] = [(1, (1, 1), [1, 2, 3], 1)]
    files = write(tmp_path, [rows])
    with pytest.raises(ArtifactError, match="hold 1 documents"):
        connect(begin(tmp_path), SerialExecutor(), files, 2, DedupParams())
    pq.write_table(pa.table([[1], [[1, 1]], [[1, 2]], [1]], schema=signature_schema(2)), tmp_path / "two.parquet")
    with pytest.raises(ArtifactError, match=r"\[2, 3\] bands"):
        count_bands([*files, str(tmp_path / "two.parquet")])
    pq.write_table(pa.table({"doc_key": [1]}), tmp_path / "none.parquet")
    with pytest.raises(InputError, match="minhash_bands"):
        count_bands([str(tmp_path / "none.parquet")])


def test_no_duplicates_is_an_empty_table(tmp_path: Path) -> None:
    artifact = run(tmp_path, [[(1, (1, 1), [1, 2, 3], 1), (2, (2, 2), [4, 5, 6], 1)]], DedupParams())
    assert table(artifact).num_rows == 0
    assert artifact.manifest.summary["n_clusters"] == 0


@pytest.mark.skipif(not DATA.is_dir(), reason="the development data is not here")
def test_planted_duplicates_are_found(tmp_path: Path) -> None:
    files, ids = sign_pages(tmp_path)
    artifact = connect(begin(tmp_path), SerialExecutor(), files, len(ids), DedupParams())
    clusters = pl.from_arrow(table(artifact)).select("doc_key", "survivor_key")
    truth = pl.read_parquet(DATA / "truth/web.parquet").join(ids, on="id").join(clusters, on="doc_key", how="left")
    origin = truth.select(dup_group="id", origin="survivor_key")
    copies = truth.filter(pl.col("dup_kind").is_not_null()).join(origin, on="dup_group")
    hit = copies.with_columns(hit=(pl.col("survivor_key") == pl.col("origin")).fill_null(False))
    recall = dict(hit.group_by("edit_rate").agg(pl.col("hit").mean()).iter_rows())
    assert recall[0.0] == 1.0
    assert recall[0.002] > 0.99 and recall[0.005] > 0.98 and recall[0.01] > 0.97 and recall[0.02] > 0.93
    # A share of 0.08 of words changed leaves a Jaccard similarity near (1 - 0.08)^5 / (2 - (1 - 0.08)^5) = 0.49: not duplicates.
    assert recall[0.08] < 0.2

    bands = pl.concat([pl.read_parquet(f) for f in files])
    pairs = pl.read_parquet(DATA / "truth/web_pairs.parquet")
    for side in ("a", "b"):
        sides = bands.select("doc_key", pl.col("minhash_bands").alias(f"bands_{side}"))
        pairs = pairs.join(ids.join(sides, on="doc_key").drop("doc_key"), left_on=f"id_{side}", right_on="id")
    met = (pairs["bands_a"].to_numpy() == pairs["bands_b"].to_numpy()).any(axis=1)
    jaccard = pairs["jaccard"].to_numpy()
    for low, high in ((0.4, 0.5), (0.7, 0.8), (0.8, 0.9), (0.9, 1.01)):
        inside = (jaccard >= low) & (jaccard < high)
        theory = 1 - (1 - jaccard[inside] ** 8) ** 14
        # The truth's words are \w+ of the raw text, ours are of simplified text: the same to within a few hundredths.
        assert abs(met[inside].mean() - theory.mean()) < 0.05, low


def sign_pages(folder: Path) -> tuple[list[str], pl.DataFrame]:
    apply, files, ids = Signature().open({}), [], []
    for unit, page in enumerate(sorted((DATA / "web").glob("*.parquet"))):
        pages = pq.read_table(page, columns=["text", "id"]).combine_chunks()
        keys = np.arange(len(pages)) + (unit << 32)
        marks = apply(pages.select(["text"]).to_batches()[0]).columns
        files.append(str(folder / page.name))
        pq.write_table(pa.table([keys, *marks.values()], schema=signature_schema(14)), files[-1])
        ids.append(pl.DataFrame({"doc_key": keys, "id": pages["id"].to_pylist()}))
    return files, pl.concat(ids)


def brute_force(rows: list[Row], params: DedupParams) -> list[dict[str, object]]:
    """Every pair compared; components by repeated merging."""
    of = {r[0]: {r[0]} for r in rows}
    for key, exact, bands, _ in rows:
        for other, other_exact, other_bands, _ in rows:
            same = params.exact and exact == other_exact != (N, N)
            met = params.minhash and any(a == b != N for a, b in zip(bands, other_bands, strict=True))
            if same or met:
                joined = of[key] | of[other]
                for member in joined:
                    of[member] = joined
    by_key = {r[0]: r for r in rows}
    out = []
    for key in sorted(by_key):
        cluster = of[key]
        if len(cluster) > 1:
            survivor = min(cluster) if params.keep == "first" else min(cluster, key=lambda k: (-by_key[k][3], k))
            level = "exact" if by_key[key][1] == by_key[survivor][1] else "minhash"
            out.append({"doc_key": key, "survivor_key": survivor, "cluster_size": len(cluster), "level": level})
    return out


def run(tmp_path: Path, shards: list[list[Row]], params: DedupParams) -> Artifact:
    files = write(tmp_path, shards)
    return connect(begin(tmp_path), SerialExecutor(), files, sum(map(len, shards)), params)


def begin(tmp_path: Path) -> Draft:
    return Draft.begin(Folder(str(tmp_path / "out")), Identity("dedup", 1, {}, {"signatures": "f" * 64}))


def write(tmp_path: Path, shards: list[list[Row]]) -> list[str]:
    tmp_path.mkdir(exist_ok=True)
    files = []
    for i, rows in enumerate(shards):
        files.append(str(tmp_path / f"{i}.parquet"))
        columns = [[r[c] for r in rows] for c in range(4)]
        pq.write_table(pa.table(columns, schema=signature_schema(3)), files[-1], row_group_size=5)
    return files


def table(artifact: Artifact) -> pa.Table:
    return pq.read_table(artifact.path(CLUSTERS_FILE))
