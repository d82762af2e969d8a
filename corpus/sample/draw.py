"""Random decisions that depend on a key alone: the same key gives the same draws on every platform.

Only `random.Random.random` is used (its sequence is guaranteed by Python), never `hash`, `choice` or `shuffle`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """A stream of draws named by a key such as (seed, "page", 17)."""

    __slots__ = ("unit",)

    def __init__(self, *key: int | str) -> None:
        self.unit = Random("/".join(map(str, key))).random

    def below(self, n: int) -> int:
        """Integer in [0, n)."""
        return int(self.unit() * n)

    def between(self, low: int, high: int) -> int:
        """Integer in [low, high]."""
        return low + int(self.unit() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.unit() < probability

    def pick(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[int(self.unit() * len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in random order (Fisher-Yates)."""
        result = list(items)
        for last in range(len(result) - 1, 0, -1):
            other = int(self.unit() * (last + 1))
            result[last], result[other] = result[other], result[last]
        return result


class Permutation:
    """A keyed permutation of range(n) in O(1) memory: a four-round Feistel network with cycle walking."""

    __slots__ = ("_bits", "_keys", "_mask", "n")

    def __init__(self, n: int, *key: int | str) -> None:
        self.n = n
        self._bits = max(1, ((max(n, 2) - 1).bit_length() + 1) // 2)
        self._mask = (1 << self._bits) - 1
        digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
        self._keys = tuple(int.from_bytes(digest[4 * r : 4 * r + 4], "little") for r in range(4))

    def _mix(self, half: int, key: int) -> int:
        mixed = ((half + key) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 29)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        return (mixed >> 32) & self._mask

    def forward(self, i: int) -> int:
        """The place of `i`."""
        while True:
            left, right = i >> self._bits, i & self._mask
            for key in self._keys:
                left, right = right, left ^ self._mix(right, key)
            i = left << self._bits | right
            if i < self.n:
                return i

    def inverse(self, place: int) -> int:
        """The `i` whose place it is."""
        while True:
            left, right = place >> self._bits, place & self._mask
            for key in reversed(self._keys):
                left, right = right ^ self._mix(left, key), left
            place = left << self._bits | right
            if place < self.n:
                return place
