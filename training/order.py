"""The order of training rows: a keyed permutation, so that ``row(step, slot)`` is a pure function and resuming costs nothing.

A Feistel network over the smallest even number of bits that holds ``n`` is a bijection on a power of four; walking the cycle until the
value is below ``n`` restricts it to [0, n) (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002). The domain is less than
4 n, so the expected walk is under four rounds. The state is the key; nothing is stored per row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
N_ROUNDS = 6
BLOCK_ROWS = 4096
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)


def _mix(x: U64) -> U64:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection on 64 bits with full avalanche."""
    x = (x ^ (x >> _30)) * _M1  # arrays of integers overflow without a word
    x = (x ^ (x >> _27)) * _M2
    return x ^ (x >> _31)


@dataclass(frozen=True)
class Permutation:
    """A bijection on [0, n) chosen by ``key`` (any non-negative integers).

    ``Permutation(n, (seed, epoch))(i)`` takes integers of any shape and gives int64 of the same shape. IndexError outside [0, n).
    """

    n: int
    key: tuple[int, ...]

    def __call__(self, index: npt.ArrayLike) -> npt.NDArray[np.int64]:
        asked = np.asarray(index, dtype=np.int64)
        if asked.size and (asked.min() < 0 or asked.max() >= self.n):
            raise IndexError(f"index outside [0, {self.n})")
        out = self._feistel(asked.astype(np.uint64).ravel())
        while (outside := np.flatnonzero(out >= np.uint64(self.n))).size:
            out[outside] = self._feistel(out[outside])
        return out.astype(np.int64).reshape(asked.shape)

    def _feistel(self, x: U64) -> U64:
        half = np.uint64(max(1, ((self.n - 1).bit_length() + 1) // 2))
        mask = np.uint64((1 << int(half)) - 1)
        left, right = x >> half, x & mask
        for round_key in self._round_keys:
            left, right = right, left ^ (_mix(right ^ round_key) & mask)
        return (left << half) | right

    @cached_property
    def _round_keys(self) -> U64:
        state = np.zeros(1, np.uint64)
        for part in self.key:
            state = _mix(state + _GOLDEN + np.uint64(part))
        return _mix(state + _GOLDEN * np.arange(1, N_ROUNDS + 1, dtype=np.uint64))


@dataclass(frozen=True)
class RowOrder:
    """Which row of the plan is at which place of which step.

    Slots are numbered through the whole run: slot ``s`` of step ``t`` is place ``t * rows_per_step + s``; epoch e takes places
    e*n .. (e+1)*n-1 through its own permutation, so each epoch sees every row once. The last step may be shorter.
    """

    n_rows: int
    rows_per_step: int
    total_rows: int
    seed: int

    @classmethod
    def plan(cls, n_rows: int, rows_per_step: int, *, epochs: float, max_steps: int | None, seed: int) -> RowOrder:
        """max_steps full steps, or as many rows as ``epochs`` passes need (at least one)."""
        total = max(1, round(epochs * n_rows)) if max_steps is None else max_steps * rows_per_step
        return cls(n_rows, rows_per_step, total, seed)

    @property
    def n_steps(self) -> int:
        return -(-self.total_rows // self.rows_per_step)

    def rows(self, step: int) -> npt.NDArray[np.int64]:
        """Row indices of a step in slot order, int64 [rows_per_step] (fewer in the last step)."""
        first = step * self.rows_per_step
        end = min(first + self.rows_per_step, self.total_rows)
        parts = [np.zeros(0, np.int64)]
        while first < end:
            epoch, place = divmod(first, self.n_rows)
            block, at = divmod(place, BLOCK_ROWS)
            parts.append(_block(self.n_rows, self.seed, epoch, block)[at : at + end - first])
            first += len(parts[-1])
        return np.concatenate(parts)

    def row(self, step: int, slot: int) -> int:
        """Row index at one slot; IndexError if the step has no such slot."""
        return int(self.rows(step)[slot])


@lru_cache(maxsize=8)
def _block(n_rows: int, seed: int, epoch: int, number: int) -> npt.NDArray[np.int64]:
    """A block of an epoch's rows, read-only. A call of numpy costs as much as 500 rows, and cycles need some hundred calls."""
    places = np.arange(number * BLOCK_ROWS, min((number + 1) * BLOCK_ROWS, n_rows))
    rows = Permutation(n_rows, (seed, epoch))(places)
    rows.flags.writeable = False
    return rows
