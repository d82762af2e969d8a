"""Packing: which documents are seen how often, and how their tokens fill training rows.

The mixture takes a source for a number of epochs (1.5: every document once, and half of them again), or as a share of all tokens
(replay: 0.1 of the run is general text). A part of a source is the documents with the smallest keyed hashes of their keys, until the
tokens are met: a random choice that another seed changes and nothing else does.

A document longer than a row is cut into full rows; its rest and all other documents are packed by best-fit decreasing (Johnson 1974;
for training rows: Ding et al. 2024, "Fewer Truncations Improve Language Modeling"): the longest piece first, each into the fullest row
that has room for it. No token is lost, and none is repeated but by epochs. Exact, in O(n log seq_len): pieces are ordered by a
counting sort, and rows of equal free space hang in one list under a tree of bits over free space.

Pieces of equal length are taken in keyed random order, so that neighbours of a source do not meet in a row, and lie in a row in keyed
random order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit
from pydantic import Field, model_validator

from store.errors import RecipeError
from store.fingerprint import sha256_hex
from store.params import Json, Params
from store.plan import PackPlan
from store.tokens import TokenStore

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]


class MixtureEntry(Params):
    """How much of one source is seen. Without ``epochs`` and ``share``: all of it, once."""

    name: str = Field(min_length=1, description="a source of the recipe")
    epochs: float | None = Field(default=None, gt=0, le=100, description="times its documents are seen; 0.5 is a random half")
    share: float | None = Field(default=None, gt=0, lt=1, description="share of all tokens of the run")
    max_epochs: float = Field(
        default=1.0, gt=0, le=100, description="limit of a share: a small source is not seen more often than this"
    )

    @model_validator(mode="before")
    @classmethod
    def _all_of_it_once(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("epochs") is None and values.get("share") is None:
            return {**values, "epochs": 1.0}
        return values

    @model_validator(mode="after")
    def _one_of_two(self) -> MixtureEntry:
        if self.epochs is not None and self.share is not None:
            raise ValueError("give epochs or share, not both")
        return self


class PackParams(Params):
    """How training rows are made."""

    seq_len: int = Field(ge=2, le=1 << 24, description="tokens of a training row")
    seed: int = Field(default=1, ge=0, description="chooses parts of sources and the order of equals")
    mixture: tuple[MixtureEntry, ...] = Field(min_length=1, description="the sources of the run")

    @model_validator(mode="after")
    def _names_once(self) -> PackParams:
        names = [e.name for e in self.mixture]
        if len(set(names)) != len(names):
            raise ValueError("a source stands in the mixture more than once")
        return self


@dataclass(frozen=True)
class Pieces:
    """Pieces of documents, one element each: source, document, first token, tokens, and a keyed random number."""

    source: npt.NDArray[np.uint16]
    doc: I64
    start: I64
    length: npt.NDArray[np.int32]
    random: U64


def plan(
    stores: Mapping[str, TokenStore], mixture: Sequence[MixtureEntry], seq_len: int, seed: int
) -> tuple[PackPlan, dict[str, Json]]:
    """Choose documents and pack them. The plan's sources are numbered as in ``mixture``.

    Returns the plan and the summary of a pack artifact. Raises RecipeError for a source that is not among ``stores``, and for shares
    that leave nothing to be a share of. Memory: about 80 bytes per piece.
    """
    lengths = []
    for entry in mixture:
        if entry.name not in stores:
            raise RecipeError("the mixture names an unknown source", where=entry.name, expected=f"one of {', '.join(stores)}")
        lengths.append(stores[entry.name].lengths)
    wanted = targets(mixture, [int(n.sum()) for n in lengths])
    parts, ledger = [], []
    for number, (entry, n_tokens) in enumerate(zip(mixture, wanted, strict=True)):
        key = _key(seed, entry.name)
        docs, copies = select(lengths[number], stores[entry.name].doc_keys, n_tokens, key)
        pieces = cut(lengths[number], docs, copies, seq_len, number, key)
        parts.append(pieces)
        ledger.append(_ledger(entry, lengths[number], pieces, len(docs)))
    packed = pack(_joined(parts), seq_len)
    return packed, _summary(packed, ledger)


def targets(mixture: Sequence[MixtureEntry], sizes: Sequence[int]) -> list[float]:
    """Tokens asked of each source. Shares are of the whole: share / (1 - all shares) of what the epochs give, within max_epochs."""
    shares = sum(e.share or 0.0 for e in mixture)
    if shares >= 1.0 or all(e.share is not None for e in mixture):
        raise RecipeError(
            "the shares leave nothing for the other sources" if shares >= 1.0 else "every source is a share of the whole",
            where="mixture", expected="shares below 1 in all, and a source given by epochs",
        )  # fmt: skip
    base = sum(e.epochs * n for e, n in zip(mixture, sizes, strict=True) if e.epochs is not None)
    return [
        e.epochs * n if e.epochs is not None else min((e.share or 0.0) / (1.0 - shares) * base, e.max_epochs * n)
        for e, n in zip(mixture, sizes, strict=True)
    ]


def select(lengths: I64, doc_keys: I64, n_tokens: float, key: int) -> tuple[I64, I64]:
    """(documents, number of each one's copy): all of them as often as n_tokens goes, then the first in keyed order until it is met.

    The last document goes in if that brings the sum nearer to n_tokens.
    """
    total = int(lengths.sum())
    times, rest = divmod(n_tokens, total) if total else (0, 0.0)
    every = np.arange(len(lengths), dtype=np.int64)
    order = np.argsort(hashed(doc_keys.astype(np.uint64), key), kind="stable")
    middle = np.cumsum(lengths[order]) - lengths[order] / 2
    some = np.sort(order[: np.searchsorted(middle, rest, side="left")])
    docs = np.concatenate([np.tile(every, int(times)), some])
    copies = np.concatenate([np.repeat(np.arange(int(times)), len(every)), np.full(len(some), int(times))]).astype(np.int64)
    return docs[lengths[docs] > 0], copies[lengths[docs] > 0]


def cut(lengths: I64, docs: I64, copies: I64, seq_len: int, source: int, key: int) -> Pieces:
    """The pieces of documents: full rows first, then what is left."""
    n_pieces = -(-lengths[docs] // seq_len)
    which = np.repeat(np.arange(len(docs)), n_pieces)
    nth = np.arange(len(which)) - np.repeat(np.cumsum(n_pieces) - n_pieces, n_pieces)
    doc, start = docs[which], nth * seq_len
    random = hashed(hashed(doc.astype(np.uint64), key) + start.astype(np.uint64), key) + copies[which].astype(np.uint64)
    length = np.minimum(lengths[doc] - start, seq_len).astype(np.int32)
    return Pieces(np.full(len(doc), source, np.uint16), doc, start, length, hashed(random, key))


def pack(pieces: Pieces, seq_len: int) -> PackPlan:
    """Pack pieces of at most seq_len tokens into rows by best-fit decreasing."""
    # Keyed order first, then a stable counting sort by length within the kernel: equals stay in keyed order.
    keyed = np.argsort(pieces.random, kind="stable")
    row, n_rows = _best_fit(pieces.length[keyed], seq_len)
    by_row = keyed[np.argsort(row, kind="stable")]
    offsets = np.zeros(n_rows + 1, np.int64)
    np.cumsum(np.bincount(row, minlength=n_rows), out=offsets[1:])
    return PackPlan(seq_len, offsets, pieces.source[by_row], pieces.doc[by_row], pieces.start[by_row], pieces.length[by_row])


def hashed(x: U64, key: int) -> U64:
    """Keyed 64-bit mix, a bijection for each key (SplitMix64's output function, Steele et al. 2014)."""
    x = x + np.uint64(key)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _key(seed: int, name: str) -> int:
    return int(sha256_hex(f"{seed}/{name}".encode())[:16], 16)


def _joined(parts: Iterable[Pieces]) -> Pieces:
    columns = ([getattr(p, f) for p in parts] for f in Pieces.__dataclass_fields__)
    return Pieces(*(np.concatenate(c) for c in columns))


def _ledger(entry: MixtureEntry, lengths: I64, pieces: Pieces, n_docs: int) -> dict[str, Json]:
    tokens, size = int(pieces.length.sum(dtype=np.int64)), int(lengths.sum())
    return {
        "name": entry.name, "tokens": tokens, "documents": n_docs, "size_tokens": size, "size_documents": len(lengths),
        "epochs": tokens / size if size else 0.0, "wanted_epochs": entry.epochs, "wanted_share": entry.share,
    }  # fmt: skip


def _summary(packed: PackPlan, ledger: list[dict[str, Json]]) -> dict[str, Json]:
    n_tokens = packed.n_tokens
    sources: list[Json] = [{**s, "share": int(str(s["tokens"])) / n_tokens if n_tokens else 0.0} for s in ledger]
    return {
        "seq_len": packed.seq_len, "n_rows": packed.n_rows, "n_tokens": n_tokens, "n_pieces": len(packed.length),
        "n_cut": int(np.count_nonzero(packed.start)), "padding": packed.padding, "sources": sources,
    }  # fmt: skip


@njit(cache=True, nogil=True)
def _smallest(tree, n_leaves, at_least):  # type: ignore[no-untyped-def]
    """The smallest set leaf >= at_least, or -1. tree[i] says whether anything is set below node i; leaves start at n_leaves."""
    i = n_leaves + at_least
    if tree[i]:
        return at_least
    while i > 1 and ((i & 1) or not tree[i + 1]):
        i >>= 1
    if i <= 1:
        return -1
    i += 1
    while i < n_leaves:
        i = 2 * i if tree[2 * i] else 2 * i + 1
    return i - n_leaves


@njit(cache=True, nogil=True)
def _set(tree, n_leaves, leaf):  # type: ignore[no-untyped-def]
    i = n_leaves + leaf
    while i >= 1 and not tree[i]:
        tree[i] = True
        i >>= 1


@njit(cache=True, nogil=True)
def _clear(tree, n_leaves, leaf):  # type: ignore[no-untyped-def]
    i = n_leaves + leaf
    tree[i] = False
    i >>= 1
    while i >= 1 and not (tree[2 * i] or tree[2 * i + 1]):
        tree[i] = False
        i >>= 1


@njit(cache=True, nogil=True)
def _longest_first(length, seq_len):  # type: ignore[no-untyped-def]
    """[n] indices by falling length, equals in the order given: a counting sort."""
    begin = np.zeros(seq_len + 2, np.int64)
    for n in length:
        begin[seq_len - n + 1] += 1
    for i in range(1, seq_len + 2):
        begin[i] += begin[i - 1]
    order = np.empty(len(length), np.int64)
    for i in range(len(length)):
        n = seq_len - length[i]
        order[begin[n]] = i
        begin[n] += 1
    return order


@njit(cache=True, nogil=True)
def _best_fit(length, seq_len):  # type: ignore[no-untyped-def]
    """(row of each piece [n] int64, number of rows)."""
    n_leaves = 1
    while n_leaves < seq_len + 1:
        n_leaves *= 2
    tree = np.zeros(2 * n_leaves, np.bool_)
    top = np.full(seq_len + 1, -1, np.int64)  # a row with so much free space; ``below`` links to the next one
    below = np.empty(len(length), np.int64)
    row = np.empty(len(length), np.int64)
    n_rows = 0
    for piece in _longest_first(length, seq_len):
        need = length[piece]
        free = _smallest(tree, n_leaves, need)
        if free < 0:
            free, r = seq_len, n_rows
            n_rows += 1
        else:
            r = top[free]
            top[free] = below[r]
            if top[free] < 0:
                _clear(tree, n_leaves, free)
        row[piece] = r
        left = free - need
        if left > 0:
            below[r] = top[left]
            top[left] = r
            _set(tree, n_leaves, left)
    return row, n_rows
