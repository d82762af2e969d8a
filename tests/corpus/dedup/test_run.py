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

from corpus.dedup import DedupParams, connect
from corpus.dedup.clusters import CLUSTERS_FILE
from corpus.dedup.exchange import Cut, GroupWorker
from corpus.dedup.grouping import BYTES_PER_DOC
from corpus.dedup.signatures import Signatures
from corpus.minhash import NEVER
from corpus.signature import Signature
from store.artifact import Artifact, Draft, Identity
from store.errors import StepError
from store.executor import Job, Progress, SerialExecutor
from store.fs import Folder
from store.schema import CLUSTERS, band_name, signature_schema

DATA = Path(os.environ.get("DEFINEMED_DATA", Path(__file__).parents[3] / "../shared/data"))
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
    params = limited(docs_per_task, keep=keep, exact=exact, minhash=minhash)
    tmp_path = tmp_path_factory.mktemp("dedup")
    artifact = run(tmp_path, [rows[::2], rows[1::2]], params)
    assert table(artifact).to_pylist() == brute_force(rows, params)
    assert [f.name for f in artifact.manifest.files] == [CLUSTERS_FILE]
    assert artifact.folder.names() == [CLUSTERS_FILE, "manifest.json", "provenance.json"]  # no edges are left


def test_the_artifact_does_not_depend_on_files_or_tasks(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [(i, (i, int(random.integers(40))), random.integers(0, 60, 3).tolist(), 9) for i in range(100)]
    one = run(tmp_path / "one", [rows], DedupParams())
    two = run(tmp_path / "two", [rows[50:], rows[:30], rows[30:50]], limited(7))
    assert one.manifest.content_hash == two.manifest.content_hash
    assert one.fingerprint == two.fingerprint


def test_summary_and_levels(tmp_path: Path) -> None:
    rows = [(1, (5, 5), [1, 2, 3], 10), (2, (5, 5), [1, 2, 3], 10), (3, (6, 6), [1, 9, 9], 12), (4, (7, 7), [8, 8, 8], 1)]
    artifact = run(tmp_path, [rows], DedupParams())
    assert table(artifact).schema == CLUSTERS
    assert table(artifact)["level"].to_pylist() == ["exact", "exact", "minhash"]
    assert artifact.manifest.summary == {
        "n_docs": 4, "n_earlier": 0, "n_displaced": 0, "n_clusters": 1, "n_duplicates": 2, "largest_cluster": 3,
        "cluster_sizes": {"2": 0, "3-4": 1, "5-9": 0, "10-99": 0, "100+": 0},
    }  # fmt: skip
    longest = run(tmp_path / "longest", [rows], DedupParams(keep="longest"))
    assert table(longest)["survivor_key"].to_pylist() == [3, 3, 3]


@pytest.mark.parametrize("docs_per_task", [4, 100])
def test_a_killed_run_continues_with_what_is_missing(tmp_path: Path, docs_per_task: int) -> None:
    rows = [(i, (i, i), [i // 2, i // 3, i], 1) for i in range(12)]
    files, draft, params = write(tmp_path, [rows[:6], rows[6:]]), begin(tmp_path), limited(docs_per_task)

    class Dies(SerialExecutor):
        def map(self, job: Job):
            super().map(Job(job.step, job.worker, job.kwargs, job.tasks[:2], job.draft))
            if job.worker is GroupWorker:
                raise KeyboardInterrupt
            return super().map(job)

    with pytest.raises(KeyboardInterrupt):
        connect(draft, Dies(), files, params)
    assert table(connect(draft, SerialExecutor(), files, params)).to_pylist() == brute_force(rows, params)


def test_a_killed_run_may_go_on_with_parts_of_another_size(tmp_path: Path) -> None:
    rows = [(i, (i // 2, 7), [100 + i, 200 + i, i // 4], 1) for i in range(8)]
    files, draft, params = write(tmp_path, [rows]), begin(tmp_path), limited(100)
    cut = Cut.of(files, params, 3)
    first = cut.group_tasks(8)[:2]
    SerialExecutor().map(
        Job("dedup", GroupWorker, {"signatures": files, "cut": cut, "scattered": [], "out": draft.folder}, first, draft)
    )
    assert table(connect(draft, SerialExecutor(), files, limited(4))).to_pylist() == brute_force(rows, params)


def test_wrong_inputs_are_named(tmp_path: Path) -> None:
    rows: list[Row] = [(1, (1, 1), [1, 2, 3], 1)]
    good = write(tmp_path, [rows])
    with pytest.raises(StepError, match="holds 1 documents"):
        connect(begin(tmp_path), SerialExecutor(), Signatures(good.files, (2,)), DedupParams())
    pq.write_table(pa.table([[1], *([1],) * 4, [1]], schema=signature_schema(2)), tmp_path / "two.parquet")
    with pytest.raises(StepError, match=r"no column band_002.*two\.parquet|two\.parquet.*no column band_002"):
        connect(begin(tmp_path), SerialExecutor(), Signatures((*good.files, str(tmp_path / "two.parquet")), (1, 1)), DedupParams())
    body = Path(good.files[0]).read_bytes()
    (tmp_path / "half.parquet").write_bytes(body[: len(body) // 2])
    with pytest.raises(StepError, match=r"half\.parquet.*damaged"):
        connect(begin(tmp_path), SerialExecutor(), Signatures((good.files[0], str(tmp_path / "half.parquet")), (1, 1)), DedupParams())


def test_no_duplicates_is_an_empty_table(tmp_path: Path) -> None:
    artifact = run(tmp_path, [[(1, (1, 1), [1, 2, 3], 1), (2, (2, 2), [4, 5, 6], 1)]], DedupParams())
    assert table(artifact).num_rows == 0
    assert artifact.manifest.summary["n_clusters"] == 0


@pytest.mark.skipif(not DATA.is_dir(), reason="the development data is not here")
def test_planted_duplicates_are_found(tmp_path: Path) -> None:
    files, ids = sign_pages(tmp_path)
    artifact = connect(begin(tmp_path), SerialExecutor(), files, DedupParams())
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

    names = [band_name(b) for b in range(14)]
    bands = pl.concat([pl.read_parquet(f) for f in files.files]).with_columns(minhash_bands=pl.concat_list(names))
    pairs = pl.read_parquet(DATA / "truth/web_pairs.parquet")
    for side in ("a", "b"):
        sides = bands.select("doc_key", pl.col("minhash_bands").alias(f"bands_{side}"))
        pairs = pairs.join(ids.join(sides, on="doc_key").drop("doc_key"), left_on=f"id_{side}", right_on="id")
    met = np.any([(pairs["bands_a"].list.get(b) == pairs["bands_b"].list.get(b)).to_numpy() for b in range(14)], axis=0)
    jaccard = pairs["jaccard"].to_numpy()
    for low, high in ((0.4, 0.5), (0.7, 0.8), (0.8, 0.9), (0.9, 1.01)):
        inside = (jaccard >= low) & (jaccard < high)
        theory = 1 - (1 - jaccard[inside] ** 8) ** 14
        # The truth's words are \w+ of the raw text, ours are of simplified text: the same to within a few hundredths.
        assert abs(met[inside].mean() - theory.mean()) < 0.05, low


def sign_pages(folder: Path) -> tuple[Signatures, pl.DataFrame]:
    apply, files, sizes, ids = Signature().open({}), [], [], []
    for unit, page in enumerate(sorted((DATA / "web").glob("*.parquet"))):
        pages = pq.read_table(page, columns=["text", "id"]).combine_chunks()
        keys = np.arange(len(pages)) + (unit << 32)
        marks = apply(pages.select(["text"]).to_batches()[0]).columns
        files.append(str(folder / page.name))
        pq.write_table(pa.table([keys, *marks.values()], schema=signature_schema(14)), files[-1])
        sizes.append(len(pages))
        ids.append(pl.DataFrame({"doc_key": keys, "id": pages["id"].to_pylist()}))
    return Signatures(tuple(files), tuple(sizes)), pl.concat(ids)


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
    return connect(begin(tmp_path), SerialExecutor(), write(tmp_path, shards), params)


def limited(n_docs: int, **values: object) -> DedupParams:
    """Parameters whose tasks hold n_docs documents: a memory no user may ask for, set past validation."""
    return DedupParams(**values).model_copy(update={"task_memory_mb": n_docs * BYTES_PER_DOC / 1e6})


def begin(tmp_path: Path) -> Draft:
    return Draft.begin(Folder(str(tmp_path / "out")), Identity("dedup", 1, {}, {"signatures": "f" * 64}))


def write(tmp_path: Path, shards: list[list[Row]]) -> Signatures:
    tmp_path.mkdir(exist_ok=True)
    files = []
    for i, rows in enumerate(shards):
        files.append(str(tmp_path / f"{i}.parquet"))
        columns = [[r[0], *r[1], *r[2], r[3]] for r in rows]
        pq.write_table(
            pa.table([list(c) for c in zip(*columns, strict=True)] or [[]] * 7, schema=signature_schema(3)), files[-1], row_group_size=5
        )
    return Signatures(tuple(files), tuple(map(len, shards)))


def table(artifact: Artifact) -> pa.Table:
    return pq.read_table(artifact.path(CLUSTERS_FILE))


@pytest.mark.parametrize("docs_per_task", [30, 1000])
def test_progress_counts_documents_not_documents_times_bands(tmp_path: Path, docs_per_task: int) -> None:
    rows = [(i, (i // 2, 7), [100 + i, 200 + i, i // 4], 1) for i in range(100)]
    seen: list[Progress] = []
    shards = [rows[a : a + 10] for a in range(0, 100, 10)]
    connect(begin(tmp_path), SerialExecutor(seen.append), write(tmp_path, shards), limited(docs_per_task))
    totals = {now.phase: now.total for now in seen}
    assert totals["grouping by hash"] == 100 and totals.get("exchanging hashes", 100) == 100
    for phase, total in totals.items():  # each phase ends with all of its documents done, and no phase has more than there are
        done = [now.done for now in seen if now.phase == phase]
        assert done == sorted(done) and done[-1] == total <= 100, phase
    assert {now.name.split(", ")[0] for now in seen} == {"dedup"} and {now.unit for now in seen} == {"documents"}
    assert ("joining proposals: round 1" in totals) == (docs_per_task == 30)
