"""Pack plans: every token once, rows within bounds, exactly best-fit, and mixtures that give what they say."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from corpus.packing import MixtureEntry, PackParams, plan
from corpus.packing.mixture import hashed, targets
from corpus.packing.rows import count_pieces, cut, pack, room_for
from store.artifact import Draft, Identity, Receipt
from store.errors import RecipeError
from store.fs import Folder
from store.plan import PackPlan
from store.tokens import TokenStore, write_token_shard

LENGTHS = st.lists(st.integers(0, 40), max_size=60)


@settings(max_examples=150, deadline=None)
@given(LENGTHS, st.integers(2, 24), st.integers(0, 2**64 - 1))
def test_every_token_is_in_one_piece_and_every_row_fits(lengths: list[int], seq_len: int, key: int) -> None:
    packed = packing(lengths, seq_len, key)
    seen = [np.zeros(n, int) for n in lengths]
    for r in range(packed.n_rows):
        row = packed.row(r)
        assert 0 < sum(n for *_, n in row) <= seq_len
        for source, doc, start, n in row:
            assert source == 3 and n > 0
            assert start % seq_len == 0
            seen[doc][start : start + n] += 1
    assert all((s == 1).all() for s in seen)


@settings(max_examples=150, deadline=None)
@given(LENGTHS, st.integers(2, 24))
def test_rows_are_filled_by_best_fit_decreasing(lengths: list[int], seq_len: int) -> None:
    packed = packing(lengths, seq_len, 5)
    pieces = sorted((min(seq_len, n - i) for n in lengths for i in range(0, n, seq_len)), reverse=True)
    free: list[int] = []
    for piece in pieces:
        room = [f for f in free if f >= piece]
        if room:
            free.remove(min(room))
        free.append((min(room) if room else seq_len) - piece)
    found = [seq_len - sum(n for *_, n in packed.row(r)) for r in range(packed.n_rows)]
    assert sorted(found) == sorted(free)


@settings(max_examples=50, deadline=None)
@given(LENGTHS, st.integers(2, 24), st.integers(0, 100))
def test_the_same_seed_gives_the_same_plan(lengths: list[int], seq_len: int, key: int) -> None:
    one, two = packing(lengths, seq_len, key), packing(lengths, seq_len, key)
    assert all(np.array_equal(getattr(one, a), getattr(two, a)) for a in ("row_offsets", "source", "doc", "start", "length"))


def test_realistic_lengths_leave_almost_no_padding() -> None:
    lengths = np.maximum(1, np.random.default_rng(0).lognormal(6.3, 1.1, 100_000)).astype(np.int64)
    for seq_len in (512, 2048, 4096):
        packed = packing(lengths, seq_len, 1)
        assert packed.n_tokens == lengths.sum()
        assert packed.padding < 0.001


def test_documents_of_one_length_are_not_packed_in_corpus_order() -> None:
    packed = packing([5] * 1000, 10, 1)
    together = np.abs(np.diff(packed.doc.reshape(-1, 2), axis=1))
    assert (together == 1).mean() < 0.02
    first = np.diff(packed.doc.reshape(-1, 2), axis=1) > 0
    assert 0.4 < first.mean() < 0.6  # neither order within a row is preferred


def test_pieces_of_a_row_are_not_ordered_by_length() -> None:
    packed = packing(np.random.default_rng(1).integers(1, 200, 5000), 512, 1)
    rows = [[n for *_, n in packed.row(r)] for r in range(packed.n_rows)]
    assert sum(r == sorted(r, reverse=True) for r in rows if len(r) > 3) < 0.2 * len(rows)


def test_epochs_repeat_documents_whole(tmp_path: Path) -> None:
    store = token_store(tmp_path, "a", np.random.default_rng(2).integers(1, 50, 400))
    packed, summary = plan({"a": store}, [MixtureEntry(name="a", epochs=2.25)], 64, 1)
    times = np.zeros(store.n_docs, int)
    np.add.at(times, packed.doc[packed.start == 0], 1)
    assert set(times) == {2, 3}
    tokens = int((times * store.lengths).sum())
    assert packed.n_tokens == tokens == summary["n_tokens"]
    assert abs(tokens - 2.25 * store.n_tokens) <= store.lengths.max() / 2


def test_a_part_of_a_source_is_random_nested_and_chosen_by_key(tmp_path: Path) -> None:
    lengths = np.random.default_rng(3).integers(1, 50, 2000)
    store = token_store(tmp_path, "a", lengths)
    chosen = {e: set(plan({"a": store}, [MixtureEntry(name="a", epochs=e)], 64, 1)[0].doc.tolist()) for e in (0.1, 0.5)}
    assert chosen[0.1] < chosen[0.5]
    assert 900 < len(chosen[0.5]) < 1100
    assert abs(np.mean(list(chosen[0.5])) - 1000) < 60
    other = set(plan({"a": store}, [MixtureEntry(name="a", epochs=0.5)], 64, 2)[0].doc.tolist())
    assert 400 < len(other & chosen[0.5]) < 600
    # The same documents in another order: the choice follows their keys.
    turned = token_store(tmp_path, "b", lengths[::-1], keys=np.arange(2000)[::-1].copy())
    again = plan({"a": turned}, [MixtureEntry(name="a", epochs=0.5)], 64, 1)[0].doc
    assert {1999 - d for d in again.tolist()} == chosen[0.5]


def test_a_share_is_a_share_of_the_whole(tmp_path: Path) -> None:
    stores = {n: token_store(tmp_path, n, np.random.default_rng(i).integers(1, 60, 3000)) for i, n in enumerate("abc")}
    entries = [MixtureEntry(name="b", share=0.1), MixtureEntry(name="a", epochs=1.5), MixtureEntry(name="c", share=0.2)]
    packed, summary = plan(stores, entries, 128, 1)
    sources = summary["sources"]
    assert [s["name"] for s in sources] == ["b", "a", "c"]
    assert [s["share"] for s in sources] == pytest.approx([0.1, 0.7, 0.2], abs=0.001)
    for number, source in enumerate(sources):
        assert packed.length[packed.source == number].sum() == source["tokens"]
    assert summary["padding"] == packed.padding and summary["n_rows"] == packed.n_rows


def test_a_share_stops_at_the_size_of_its_source(tmp_path: Path) -> None:
    stores = {"big": token_store(tmp_path, "big", [20] * 500), "small": token_store(tmp_path, "small", [20] * 10)}
    for limit, copies in ((1.0, 1), (3.0, 3)):
        entries = [MixtureEntry(name="big"), MixtureEntry(name="small", share=0.5, max_epochs=limit)]
        packed, _ = plan(stores, entries, 64, 1)
        assert sorted(packed.doc[packed.source == 1].tolist()) == sorted(list(range(10)) * copies)


def test_mixtures_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        MixtureEntry(name="a", epochs=1.0, share=0.5)
    with pytest.raises(ValidationError):
        PackParams(seq_len=8, mixture=(MixtureEntry(name="a"), MixtureEntry(name="a", share=0.1)))
    with pytest.raises(RecipeError, match="share of the whole"):
        targets([MixtureEntry(name="a", share=0.5)], [100])
    with pytest.raises(RecipeError, match="leave nothing"):
        targets([MixtureEntry(name="a"), MixtureEntry(name="b", share=0.6), MixtureEntry(name="c", share=0.4)], [1, 1, 1])
    with pytest.raises(RecipeError, match="unknown source"):
        plan({"a": token_store(tmp_path, "a", [3])}, [MixtureEntry(name="b")], 8, 1)


def test_nothing_packs_to_nothing(tmp_path: Path) -> None:
    packed, summary = plan({"a": token_store(tmp_path, "a", [])}, [MixtureEntry(name="a")], 8, 1)
    assert packed.n_rows == 0 and summary["padding"] == 0.0


def test_a_plan_survives_the_disk(tmp_path: Path) -> None:
    packed, summary = plan({"a": token_store(tmp_path, "a", [3, 30, 7])}, [MixtureEntry(name="a", epochs=2)], 8, 1)
    draft = Draft.begin(Folder(str(tmp_path / "out")), Identity("pack", 1, {}))
    read = PackPlan.open(draft.commit(files=packed.write(draft.folder), summary=summary))
    assert [read.row(r) for r in range(read.n_rows)] == [packed.row(r) for r in range(packed.n_rows)]


def test_a_plan_never_changes(tmp_path: Path) -> None:
    """Bytes written down once. Who changes them on purpose raises the version of the step ``pack``."""
    lengths = np.random.default_rng(5).integers(0, 90, 300)
    stores = {"a": token_store(tmp_path, "a", lengths), "b": token_store(tmp_path, "b", lengths[::-1])}
    packed, _ = plan(stores, [MixtureEntry(name="a", epochs=1.5), MixtureEntry(name="b", share=0.2)], 32, 7)
    assert packed.n_rows == 782
    assert [e.sha256[:16] for e in packed.write(Folder(str(tmp_path / "out")))] == [
        "039e1680fa7b8a05", "3686e1123f569ddb", "e8100463e3811be1", "df225f9dd7babda9", "5c7b3bd776d6f8a4",
    ]  # fmt: skip


def test_the_keyed_hash_is_a_bijection() -> None:
    x = np.arange(100_000, dtype=np.uint64)
    assert len(np.unique(hashed(x, 7))) == len(x)
    assert not np.array_equal(hashed(x, 7), hashed(x, 8))


def packing(lengths: object, seq_len: int, key: int) -> PackPlan:
    n = np.asarray(lengths, np.int64)
    times = np.ones(len(n), np.int32)
    pieces = room_for(count_pieces(n, times, seq_len))
    assert cut(pieces, 0, n, times, seq_len, 3, key) == len(pieces.doc)
    return pack(pieces, seq_len)


def token_store(tmp_path: Path, name: str, lengths: object, keys: np.ndarray | None = None) -> TokenStore:
    n = np.asarray(lengths, np.int32)
    draft = Draft.begin(Folder(str(tmp_path)), Identity("tokens", 1, {"name": name}))
    keys = np.arange(len(n)) if keys is None else keys
    files = write_token_shard(draft.folder, "00000", np.zeros(int(n.sum()), np.uint32), keys, n, n * 4)
    return TokenStore.open(draft.commit([Receipt(key="00000", files=files)]))
