"""Rehydration: documents count by the size of their cluster, epochs count weighted tokens, and the ledger says what was seen."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from corpus.packing import MixtureEntry, plan
from corpus.packing.mixture import select
from store.artifact import Draft, Identity
from store.errors import RecipeError
from store.fs import Folder
from store.plan import rehydration_classes
from store.tokens import TokenStore, write_token_shard

FINEWEB2 = {1: 1, 2: 2, 3: 3, 5: 5, 100: 8, 1000: 1}


def store_of(root: Path, name: str, lengths: list[int], sizes: list[int]) -> TokenStore:
    n = np.array(lengths, np.int32)
    draft = Draft.begin(Folder(str(root)), Identity("tokens", 1, {"name": name}))
    keys = np.arange(len(n)) * 7
    files = write_token_shard(draft.folder, "00000", np.zeros(int(n.sum()), np.uint32), keys, n, n * 4, np.array(sizes, np.int64))
    return TokenStore.open(draft.commit(files=files))


def seen(packed, n_docs: int) -> list[int]:
    return np.bincount(packed.doc[packed.start == 0], minlength=n_docs).tolist()


def test_a_table_is_read_as_fineweb2_reads_it(tmp_path: Path) -> None:
    sizes = [1, 2, 3, 4, 5, 99, 100, 999, 1000, 10**9]
    store = store_of(tmp_path, "a", [3] * 10, sizes)
    packed, summary = plan({"a": store}, [MixtureEntry(name="a", rehydrate=FINEWEB2)], 16, 1)
    assert seen(packed, 10) == [1, 2, 3, 3, 5, 5, 8, 8, 1, 1]
    (source,) = summary["sources"]
    assert (source["tokens"], source["size_tokens"], source["weighted_tokens"], source["epochs"]) == (111, 30, 111, 1.0)
    rows = source["rehydration"]
    assert [(r["cluster_size"], r["weight"], r["size_documents"], r["documents"], r["tokens"]) for r in rows] == [
        (1, 1, 1, 1, 3), (2, 2, 1, 2, 6), (3, 3, 2, 6, 18), (5, 5, 2, 10, 30), (100, 8, 2, 16, 48), (1000, 1, 2, 2, 6),
    ]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 2000)), min_size=1, max_size=40),
    st.dictionaries(st.integers(2, 1500), st.integers(0, 9), max_size=5),
    st.floats(0.05, 3.0),
)
def test_every_document_is_seen_by_its_weight_within_an_epoch(docs, table, epochs) -> None:
    table = dict(sorted({1: 1, **table}.items()))
    lengths, sizes = (np.array(c, np.int64) for c in zip(*docs, strict=True))
    keys = np.arange(len(docs)) * 5
    weight = np.array([table[max(k for k in table if k <= n)] for n in sizes.tolist()])
    assert np.array_equal(weight, np.array(list(table.values()))[rehydration_classes(sizes, table)])
    total = int((lengths * weight).sum())
    times = select(lengths, keys, epochs * total, 9, weight)
    real = lengths > 0
    assert (times[real] >= int(epochs) * weight[real]).all() and (times <= np.ceil(epochs) * weight).all()
    assert not times[~real].any() and not times[weight == 0].any()
    assert abs(int((times * lengths).sum()) - epochs * total) <= lengths.max() / 2 + 1e-6


def test_weights_of_one_change_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    store = store_of(tmp_path, "a", rng.integers(1, 40, 500).tolist(), rng.integers(1, 50, 500).tolist())
    for epochs in (1.0, 0.4, 2.5):
        plain, _ = plan({"a": store}, [MixtureEntry(name="a", epochs=epochs)], 64, 1)
        ones, _ = plan({"a": store}, [MixtureEntry(name="a", epochs=epochs, rehydrate={1: 1, 7: 1})], 64, 1)
        assert all(np.array_equal(getattr(plain, n), getattr(ones, n)) for n in ("row_offsets", "doc", "start", "length"))


def test_shares_and_limits_count_weighted_tokens(tmp_path: Path) -> None:
    stores = {"a": store_of(tmp_path, "a", [10] * 300, [2] * 300), "b": store_of(tmp_path, "b", [10] * 50, [3] * 50)}
    entries = [MixtureEntry(name="a", rehydrate=FINEWEB2), MixtureEntry(name="b", share=0.5, max_epochs=2, rehydrate=FINEWEB2)]
    _, summary = plan(stores, entries, 64, 1)
    a, b = summary["sources"]
    assert (a["tokens"], b["tokens"]) == (6000, 3000)  # b: 500 tokens x weight 3 x at most 2 epochs
    assert (a["epochs"], b["epochs"], b["wanted_share"]) == (1.0, 2.0, 0.5)
    _, summary = plan(stores, [entries[0], MixtureEntry(name="b", share=0.1, rehydrate=FINEWEB2)], 64, 1)
    assert summary["sources"][1]["share"] == pytest.approx(0.1, abs=0.001)


def test_sizes_that_are_not_known_are_refused(tmp_path: Path) -> None:
    store = store_of(tmp_path, "a", [3, 4], [1, 0])
    assert plan({"a": store}, [MixtureEntry(name="a")], 8, 1)[0].n_rows == 1
    with pytest.raises(RecipeError, match="does not know them"):
        plan({"a": store}, [MixtureEntry(name="a", rehydrate=FINEWEB2)], 8, 1)


@pytest.mark.parametrize("table", [{}, {2: 2}, {0: 1, 1: 1}, {1: 0}, {1: -1}, {1: 101}])
def test_tables_that_mean_nothing_are_refused(table: dict[int, int]) -> None:
    with pytest.raises(ValidationError):
        MixtureEntry(name="a", rehydrate=table)


def test_the_order_of_a_table_is_no_part_of_its_identity() -> None:
    one, two = (MixtureEntry(name="a", rehydrate=t).identity(str) for t in ({5: 2, 1: 1}, {1: 1, 5: 2}))
    assert one == two and one["rehydrate"] == {"1": 1, "5": 2}
