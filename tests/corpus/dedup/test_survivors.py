"""Clusters of many ranges against those of one: the same bytes for every rule; and the merge of rows."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.dedup.clusters import GROUP_ROWS, cluster_rows, write_clusters
from corpus.dedup.survivors import merged
from store.fs import Folder
from store.schema import CLUSTERS


@pytest.mark.parametrize("params", [
    {}, {"keep": "longest"}, {"keep": "newest"}, {"keep": "best", "by": "score"}, {"min_jaccard": 0.7}, {"minhash": False}
])  # fmt: skip
def test_the_bytes_do_not_depend_on_the_ranges(tmp_path, small, write_corpus, params) -> None:
    texts = small.corpus(6)
    dates = [f"20{n * 7 % 20:02d}-01-01" for n in range(120)]
    random = np.random.default_rng(1)
    texts = [texts[i] for i in random.permutation(120)] + texts[:40]
    first, second = write_corpus("first", texts[:40], dates=dates[:40]), write_corpus("second", texts[40:], dates=dates)
    made = [
        small.run(tmp_path, second, name=f"d{n}", earlier=(first,), **params, **({"docs_per_task": n} if n else {}))
        for n in (None, 50, 90)
    ]
    assert made[0].manifest.summary["n_duplicates"] > 20
    assert len({a.manifest.content_hash for a in made}) == 1
    assert made[1].folder.names() == made[0].folder.names()


@pytest.mark.parametrize("overlap", [False, True])
def test_rows_are_merged_in_order_of_key(tmp_path, overlap) -> None:
    random = np.random.default_rng(2)
    which = random.integers(0, 5, 1000) if overlap else np.arange(1000) // 200
    keys = np.sort(random.choice(10**6, 1000, replace=False)) - 10**5
    files = []
    for i in range(5):
        mine = keys[which == i]
        with pa.OSFile(str(tmp_path / f"{i}.arrow"), "wb") as out, pa.ipc.new_file(out, CLUSTERS) as writer:
            writer.write_table(cluster_rows(mine, mine, np.ones(len(mine)), mine > 0), max_chunksize=17)
        files.append((int(mine[0]), str(tmp_path / f"{i}.arrow")))
    assert pa.concat_tables(merged(files[::-1]))["doc_key"].to_pylist() == keys.tolist()


def test_row_groups_do_not_depend_on_portions(tmp_path) -> None:
    keys = np.arange(GROUP_ROWS + 7)
    rows = cluster_rows(keys, keys // 2 * 2, np.full(len(keys), 2), keys % 2 == 0)
    whole, counts = write_clusters(Folder(str(tmp_path / "a")), [rows])
    parts, same = write_clusters(Folder(str(tmp_path / "b")), [rows.slice(i, 300_001) for i in range(0, len(rows), 300_001)])
    assert (whole.sha256, counts) == (parts.sha256, same) and counts["n_clusters"] == -(-len(keys) // 2)
    file = pq.ParquetFile(tmp_path / "b/clusters.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [GROUP_ROWS, 7]
