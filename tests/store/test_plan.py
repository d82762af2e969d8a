"""Pack plans are written and read back whole, and what does not fit together is refused."""

import io
import uuid

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.artifact import Draft, Identity
from store.errors import ArtifactError
from store.fs import Folder
from store.plan import ARRAYS, PackPlan

piece = st.tuples(st.integers(0, 2**16 - 1), st.integers(0, 2**62), st.integers(0, 2**62), st.integers(1, 8))
rows_of_pieces = st.lists(st.lists(piece, max_size=4), max_size=6)


def plan_of(rows, seq_len=32):
    pieces = [p for row in rows for p in row]
    columns = [
        np.array(c, dtype) for c, dtype in zip(zip(*pieces, strict=True) if pieces else [[]] * 4, ("u2", "i8", "i8", "i4"), strict=True)
    ]
    return PackPlan(seq_len, np.cumsum([0, *(len(r) for r in rows)]).astype(np.int64), *columns)


def write(root, plan):
    draft = Draft.begin(root, Identity("pack", 1, {}))
    return draft.commit(files=plan.write(draft.folder), summary={"seq_len": plan.seq_len})


@settings(max_examples=40, deadline=None)
@given(rows_of_pieces)
def test_rows_come_back(rows):
    plan = plan_of(rows)
    again = PackPlan.open(write(Folder(f"memory://{uuid.uuid4().hex}"), plan))
    assert again.seq_len == 32 and again.n_rows == len(rows)
    assert [again.row(r) for r in range(again.n_rows)] == [[tuple(p) for p in row] for row in rows]
    n_tokens = sum(p[3] for row in rows for p in row)
    assert again.n_tokens == n_tokens
    assert again.padding == pytest.approx(1 - n_tokens / (32 * len(rows)) if rows else 0.0)


def test_same_plan_same_bytes(tmp_path):
    rows = [[(0, 1, 0, 5)], [(1, 2**40, 7, 8), (0, 2, 0, 3)]]
    a, b = (write(Folder(str(tmp_path / n)), plan_of(rows)).manifest for n in "ab")
    assert a == b and {f.name: f.n_rows for f in a.files} == {f"{n}.npy": 3 for n in ARRAYS}
    assert {
        n: np.load(io.BytesIO(Folder(str(tmp_path / "a" / "pack" / a.fingerprint[:16])).read_bytes(f"{n}.npy"))).dtype.str
        for n in ARRAYS
    } == ARRAYS


def saved(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("length", saved(np.ones(2, "<i4"))),
        ("row_offsets", saved(np.array([0, 1, 2], "<i8"))),
        ("row_offsets", saved(np.array([1, 1, 3], "<i8"))),
        ("row_offsets", saved(np.zeros(0, "<i8"))),
        ("doc", b"\x93NUMPY"),
        ("doc", b""),
        ("doc", None),
        ("source", saved(np.array([{"pickled": 1}] * 3, dtype=object))),
    ],
)
def test_damaged_plans_are_refused(tmp_path, name, body):
    artifact = write(Folder(str(tmp_path)), plan_of([[(0, 1, 0, 5)], [(1, 2, 7, 8), (0, 2, 0, 3)]]))
    artifact.folder.remove(f"{name}.npy")
    if body is not None:
        artifact.folder.write_bytes(f"{name}.npy", body)
    with pytest.raises(ArtifactError, match="pack plan"):
        PackPlan.open(artifact)
