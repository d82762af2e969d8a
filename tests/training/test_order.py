"""The row order is a bijection, a pure function, and does not follow the input's order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.order import BLOCK_ROWS, Permutation, RowOrder


@given(st.integers(1, 5000), st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 1000)))
@settings(max_examples=150, deadline=None)
def test_permutation_is_a_bijection(n: int, key: tuple[int, int]) -> None:
    assert np.array_equal(np.sort(Permutation(n, key)(np.arange(n))), np.arange(n))


@given(st.integers(2**33, 2**62), st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_permutation_of_a_huge_range_needs_no_memory(n: int, key: int) -> None:
    p = Permutation(n, (key,))
    out = p(np.array([0, 1, n - 1, n // 2]))
    assert len(set(out.tolist())) == 4 and out.min() >= 0 and out.max() < n
    assert int(p(n - 1)) == out[2]


def test_permutation_refuses_what_is_outside() -> None:
    with pytest.raises(IndexError):
        Permutation(10, (0,))(10)


def test_permutation_looks_random() -> None:
    n = 20_000
    out = Permutation(n, (1, 2))(np.arange(n))
    assert abs(np.corrcoef(np.arange(n), out)[0, 1]) < 0.03
    assert (np.diff(out) == 1).mean() < 0.001
    other = Permutation(n, (1, 3))(np.arange(n))
    assert (out == other).mean() < 0.002


@given(st.integers(1, 200), st.integers(1, 40), st.floats(0.2, 3.0), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_every_epoch_sees_every_row_once(n_rows: int, per_step: int, epochs: float, seed: int) -> None:
    order = RowOrder.plan(n_rows, per_step, epochs=epochs, max_steps=None, seed=seed)
    seen = np.concatenate([order.rows(s) for s in range(order.n_steps)])
    assert len(seen) == max(1, round(epochs * n_rows))
    for first in range(0, len(seen), n_rows):
        part = seen[first : first + n_rows]
        assert len(np.unique(part)) == len(part)


def test_row_is_rows_at_a_slot_and_max_steps_are_full() -> None:
    order = RowOrder.plan(10, 4, epochs=1.0, max_steps=7, seed=3)
    assert order.n_steps == 7 and all(len(order.rows(s)) == 4 for s in range(7))
    assert [order.row(5, i) for i in range(4)] == order.rows(5).tolist()
    with pytest.raises(IndexError):
        order.row(0, 4)


def test_the_order_never_changes() -> None:
    """Values written down once: a run that resumes under a later version must see the rows it has not seen."""
    assert Permutation(1000, (1, 2))(range(8)).tolist() == [902, 43, 53, 301, 836, 732, 266, 355]
    assert Permutation(10**12, (7,))([0, 1, 10**12 - 1]).tolist() == [447355247986, 235558639518, 548668674822]
    order = RowOrder(10, 4, 25, 3)
    assert order.rows(2).tolist() == [4, 2, 5, 7]  # the end of an epoch and the beginning of the next
    assert order.rows(9).tolist() == []


def test_steps_are_the_permutation_cut_up() -> None:
    """Whatever blocks the rows are computed in."""
    n = 2 * BLOCK_ROWS + 77
    order = RowOrder(n, 700, 2 * n, 5)
    expected = [Permutation(n, (5, e))(np.arange(n)) for e in (0, 1)]
    assert np.array_equal(np.concatenate([order.rows(s) for s in range(order.n_steps)]), np.concatenate(expected))
    assert np.array_equal(RowOrder(n, 3 * n, 2 * n, 5).rows(0), np.concatenate(expected))
