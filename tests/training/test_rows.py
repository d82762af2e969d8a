"""Rows are what the plan says, token by token; what does not fit is refused by name."""

from dataclasses import replace

import numpy as np
import pytest

from store.errors import ArtifactError, InputError
from store.fs import Folder
from store.tokens import TokenStore
from training.rows import IGNORE, PADDING, RowReader


def by_hand(world, r: int):
    """The row's four arrays by a plain loop over its pieces."""
    T = world.plan.seq_len
    ids, pos, piece, labels = np.zeros(T, int), np.zeros(T, int), np.full(T, PADDING), np.full(T, IGNORE)
    at = 0
    for number, (source, doc, start, length) in enumerate(world.plan.row(r)):
        tokens = world.stores[source].tokens(doc, start, length).astype(int)
        ids[at : at + length], pos[at : at + length], piece[at : at + length] = tokens, range(length), number
        labels[at : at + length - 1] = tokens[1:]
        at += length
    pos[at:] = range(T - at)
    return ids, pos, piece, labels


def test_rows_equal_a_plain_loop(world) -> None:
    reader = RowReader(world.plan, world.stores, 512)
    chosen = np.random.default_rng(1).permutation(world.plan.n_rows)[:40]
    rows = reader.read(chosen)
    for i, r in enumerate(chosen):
        for found, expected in zip((rows.input_ids, rows.position_ids, rows.piece, rows.labels), by_hand(world, int(r)), strict=True):
            assert np.array_equal(found[i], expected)
    assert rows.n_targets == reader.n_targets(chosen)
    assert (rows.piece == PADDING).any(), "the plan of the test must have padding"
    assert (rows.piece > 0).any() and (world.plan.start > 0).any(), "and rows of several pieces, and cut documents"


def test_every_token_is_read_once(world) -> None:
    rows = RowReader(world.plan, world.stores, 512).read(np.arange(world.plan.n_rows))
    found = np.sort(rows.input_ids[rows.piece != PADDING])
    assert np.array_equal(found, np.sort(np.concatenate([np.concatenate(s.shards) for s in world.stores]).astype(int)))


def test_padding_rows_have_no_targets(world) -> None:
    rows = RowReader(world.plan, world.stores, 512).read(np.array([3]), pad_to=4)
    assert rows.input_ids.shape == (4, world.plan.seq_len)
    assert (rows.labels[1:] == IGNORE).all() and (rows.piece[1:] == PADDING).all()
    assert np.array_equal(rows.position_ids[1], np.arange(world.plan.seq_len))


def test_a_token_outside_the_vocabulary_is_refused_by_name(world) -> None:
    with pytest.raises(InputError, match=r"token id \d+ in document \d+ .* vocabulary.*ids below 300"):
        RowReader(world.plan, world.stores, 300).read(np.arange(world.plan.n_rows))


def test_a_plan_of_other_stores_is_refused(world) -> None:
    with pytest.raises(ArtifactError, match="names 2 token stores, 1 are given"):
        RowReader(world.plan, world.stores[:1], 512)
    with pytest.raises(ArtifactError, match="does not belong"):
        RowReader(replace(world.plan, doc=world.plan.doc + 1), world.stores, 512)
    with pytest.raises(ArtifactError, match="longer than seq_len"):
        RowReader(replace(world.plan, seq_len=world.plan.seq_len - 1), world.stores, 512)
    with pytest.raises(InputError, match="no rows"):
        RowReader(replace(world.plan, row_offsets=np.zeros(1, np.int64)), world.stores, 512)


@pytest.mark.parametrize(("array", "value"), [("doc", -1), ("doc", 10**9), ("start", -1), ("start", 10**9), ("length", 63)])
def test_a_piece_outside_its_document_is_refused(world, array: str, value: int) -> None:
    """Also where the tokens of another document lie there: they would be read without a word."""
    changed = getattr(world.plan, array).copy()
    one = np.flatnonzero((world.plan.start == 0) & (world.plan.length < 20))[0]
    changed[one] = value
    with pytest.raises(ArtifactError, match="does not belong"):
        RowReader(replace(world.plan, **{array: changed}), world.stores, 512)


def test_a_document_at_the_border_of_shards(tmp_path) -> None:
    from training.heldout import window_plan

    store = TokenStore.open(_tiny(Folder(str(tmp_path))))
    plan, _ = window_plan(store, np.arange(store.n_docs), 8)
    rows = RowReader(plan, [store], 100).read(np.arange(plan.n_rows))
    assert rows.input_ids[rows.piece >= 0].tolist() == list(range(1, 31))


def _tiny(root: Folder):
    from store.artifact import Draft, Identity
    from store.tokens import write_token_shard

    draft, files = Draft.begin(root, Identity("tokens", 1, {})), []
    for s in range(3):
        lengths = np.array([4, 6], np.int32)
        tokens = np.arange(1 + 10 * s, 11 + 10 * s, dtype=np.uint32)
        files += write_token_shard(draft.folder, f"{s:05d}", tokens, np.arange(2), lengths, lengths)
    return draft.commit(files=files, summary={"vocab_size": 100, "eos_id": 0})
