"""Earlier documents that lose to a new one, listed; and cluster sizes where earlier corpora have members."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.dedup.clusters import CLUSTERS_FILE
from corpus.dedup.displaced import DISPLACED_FILE, _lost
from corpus.select import SelectParams, SelectWorker
from store.executor import Task
from store.fs import Folder
from store.schema import DISPLACED


def planted(small, write_corpus):
    """Ten pages; the oldest corpus has 0-5, the next 3-9, the new one longer copies of 0-3 and a shorter one of 9."""
    texts = small.corpus(2)[:10]
    oldest = write_corpus("oldest", texts[:6])
    later = write_corpus("later", [*texts[3:], texts[4]])
    new = write_corpus("new", [*(f"{t} Schluss" for t in texts[:4]), " ".join(texts[9].split()[:-1])])
    return oldest, later, new


@pytest.mark.parametrize("docs_per_task", [None, 5])
def test_who_loses_to_whom(tmp_path, small, write_corpus, docs_per_task) -> None:
    oldest, later, new = planted(small, write_corpus)
    limit = {"docs_per_task": docs_per_task} if docs_per_task else {}
    made = small.run(tmp_path, new, earlier=(oldest, later), keep="longest", **limit)
    table = pq.read_table(made.path(DISPLACED_FILE))
    assert table.schema == DISPLACED and made.manifest.summary["n_displaced"] == 5
    # Page 9 stays where it is; 4 and 5 are copies among earlier corpora, which no new page takes part in.
    assert [(r["corpus"], r["doc_key"], r["id"], r["survivor_id"]) for r in table.to_pylist()] == [
        (-2, 0, "oldest-0", "new-0"), (-2, 1, "oldest-1", "new-1"), (-2, 2, "oldest-2", "new-2"), (-2, 3, "oldest-3", "new-3"),
        (-1, 0, "later-0", "new-3"),
    ]  # fmt: skip
    assert [e.n_rows for e in made.files(DISPLACED_FILE)] == [5]


def test_nobody_loses_where_the_first_stays(tmp_path, small, write_corpus) -> None:
    oldest, later, new = planted(small, write_corpus)
    made = small.run(tmp_path, new, earlier=(oldest, later))
    assert made.manifest.summary["n_displaced"] == 0 and not made.files(DISPLACED_FILE)


def test_the_weight_of_a_survivor_counts_all_corpora_exact_and_near(tmp_path, small, write_corpus) -> None:
    oldest, later, new = planted(small, write_corpus)
    made = small.run(tmp_path, new, earlier=(oldest, later), keep="longest")
    worker = SelectWorker(Folder(str(tmp_path / "select")), SelectParams(), made.path("clusters.parquet"), (), {}, 1.0)
    receipt = worker.run(Task("000000", {"file": new.path("kept/000000.parquet")}))
    kept = pq.read_table(tmp_path / "select/domain/000000.parquet").to_pylist()
    assert {r["id"]: r["minhash_cluster_size"] for r in kept} == {"new-0": 2, "new-1": 2, "new-2": 2, "new-3": 3}
    assert receipt.counts["dropped/dedup/near_duplicate"] == 1
    # In the older corpus alone: page 4 twice, exactly; all others once.
    alone = small.run(tmp_path, later, name="alone")
    worker = SelectWorker(Folder(str(tmp_path / "alone-select")), SelectParams(), alone.path("clusters.parquet"), (), {}, 1.0)
    worker.run(Task("000000", {"file": later.path("kept/000000.parquet")}))
    kept = pq.read_table(tmp_path / "alone-select/domain/000000.parquet").to_pylist()
    assert [r["minhash_cluster_size"] for r in kept] == [1, 2, 1, 1, 1, 1, 1]


def test_all_row_groups_of_earlier_documents_are_read(tmp_path) -> None:
    keys = [-5, -4, -3, -2, -1, 3, 4]
    rows = {"doc_key": keys, "survivor_key": [3, -5, 3, 4, 4, 3, 4], "level": ["minhash"] * 7}
    pq.write_table(pa.table(rows), tmp_path / CLUSTERS_FILE, row_group_size=2)
    assert _lost(Folder(str(tmp_path)))["doc_key"].to_pylist() == [-5, -3, -2, -1]
