"""The mixture: how often each document is seen.

A source is taken for a number of epochs (1.5: every document once, and half of them again), or as a share of all tokens (replay: 0.1 of
the run is general text). A part of a source is the documents with the smallest keyed hashes of their keys, until the tokens are met: a
random choice that another seed changes and nothing else does.

Rehydration (FineWeb2, Penedo et al. 2025): a document that stands for a cluster of near-duplicates counts more than once in an epoch,
by the size of its cluster. Epochs, shares and their limits are then counted in weighted tokens: an epoch sees a document
``weight`` times.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numba import njit

from corpus.packing.params import MixtureEntry
from store.errors import RecipeError
from store.fingerprint import sha256_hex
from store.plan import rehydration_classes
from store.tokens import TokenStore

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]


def source_key(seed: int, name: str) -> int:
    """The key of a source's random numbers."""
    return int(sha256_hex(f"{seed}/{name}".encode())[:16], 16)


def hashed(x: U64, key: int) -> U64:
    """Keyed 64-bit mix, a bijection for each key (SplitMix64's output function, Steele et al. 2014)."""
    out: U64 = _hashed_all(x, np.uint64(key))
    return out


@njit(cache=True, nogil=True, inline="always")
def mixed(x, key):  # type: ignore[no-untyped-def]
    """``hashed`` of one number; both arguments uint64."""
    x = x + key
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def _hashed_all(x, key):  # type: ignore[no-untyped-def]
    out = np.empty(len(x), np.uint64)
    for i in range(len(x)):
        out[i] = mixed(x[i], key)
    return out


def weights(store: TokenStore, entry: MixtureEntry) -> tuple[I64, I64] | None:
    """([n_docs] class of each document in the entry's table, [n_classes] weight of each class); None without a table.

    RecipeError if the store does not know its documents' cluster sizes.
    """
    if entry.rehydrate is None:
        return None
    if (store.cluster_sizes < 1).any():
        raise RecipeError(
            "rehydration needs cluster sizes, and this source does not know them", where=entry.name,
            expected="documents with the column minhash_cluster_size, as corpus.select writes them",
            remedy="leave rehydrate out for this source, or tokenise it again from such documents",
        )  # fmt: skip
    return rehydration_classes(store.cluster_sizes, entry.rehydrate), np.array(list(entry.rehydrate.values()), np.int64)


def targets(mixture: Sequence[MixtureEntry], sizes: Sequence[int]) -> list[float]:
    """Tokens asked of each source of so many (weighted) tokens.

    Shares are of the whole: share / (1 - all shares) of what the epochs give, within max_epochs.
    """
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


def select(lengths: I64, doc_keys: I64, n_tokens: float, key: int, weight: I64 | None = None) -> npt.NDArray[np.int32]:
    """[n_docs] how often each document is seen: in whole epochs as far as n_tokens goes, then the first in keyed order.

    With weights an epoch holds ``weight`` copies of a document, and each copy has a place of its own in the keyed order. The last one
    goes in if that brings the sum nearer to n_tokens. Documents without tokens are never seen.
    """
    total = int(lengths.sum() if weight is None else (lengths * weight).sum())
    epochs, rest = divmod(n_tokens, total) if total else (0, 0.0)
    times = np.full(len(lengths), int(epochs), np.int32) if weight is None else (int(epochs) * weight).astype(np.int32)
    if rest:
        doc = np.arange(len(lengths)) if weight is None else np.repeat(np.arange(len(lengths)), weight)
        order = np.argsort(hashed(doc_keys.astype(np.uint64), key) if weight is None else _copy_keys(doc_keys, doc, key), kind="stable")
        doc = doc[order]
        middle = np.cumsum(lengths[doc]) - lengths[doc] / 2
        chosen = doc[: np.searchsorted(middle, rest, side="left")]
        times += np.bincount(chosen, minlength=len(lengths)).astype(np.int32)
    times[lengths == 0] = 0
    return times


def _copy_keys(doc_keys: I64, doc: I64, key: int) -> U64:
    """Random numbers of copies: of a document's first copy the hash of its key, so that a weight of 1 is no weight."""
    copy = np.arange(len(doc)) - np.searchsorted(doc, doc, side="left")
    first = hashed(doc_keys[doc].astype(np.uint64), key)
    return np.where(copy == 0, first, hashed(first + copy.astype(np.uint64), key))
