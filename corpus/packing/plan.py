"""A pack plan of token stores, and its ledger: tokens, documents and epochs of every source and of every class of weights.

A plan is a function of the stores, the mixture, seq_len and the seed. The ledger is counted from what was chosen, not from what was
asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from corpus.packing.mixture import I64, select, source_key, targets, weights
from corpus.packing.params import MixtureEntry
from corpus.packing.rows import count_pieces, cut, pack, room_for
from store.errors import RecipeError
from store.params import Json
from store.plan import PackPlan
from store.tokens import TokenStore


@dataclass(frozen=True)
class Source:
    """A source of the mixture: its documents, their classes of weights (None: none), and its tokens in one epoch of the mixture."""

    entry: MixtureEntry
    store: TokenStore
    classes: tuple[I64, I64] | None
    weighted_tokens: int

    @property
    def weight(self) -> I64 | None:
        """[n_docs] times each document counts in an epoch."""
        return None if self.classes is None else self.classes[1][self.classes[0]]


def plan(
    stores: Mapping[str, TokenStore], mixture: Sequence[MixtureEntry], seq_len: int, seed: int
) -> tuple[PackPlan, dict[str, Json]]:
    """Choose documents and pack them. The plan's sources are numbered as in ``mixture``.

    Returns the plan and the summary of a pack artifact. Raises RecipeError for a source that is not among ``stores``, for shares that
    leave nothing to be a share of, and for rehydration of a source that does not know its cluster sizes. Memory: about 50 bytes per
    piece, and 4 (a part of a source: 40) per document and copy.
    """
    sources = [_source(stores, entry) for entry in mixture]
    wanted = targets(mixture, [s.weighted_tokens for s in sources])
    keys = [source_key(seed, entry.name) for entry in mixture]
    times = [
        select(s.store.lengths, s.store.doc_keys, n, key, s.weight) for s, n, key in zip(sources, wanted, keys, strict=True)
    ]  # fmt: skip
    pieces, at = room_for(sum(count_pieces(s.store.lengths, t, seq_len) for s, t in zip(sources, times, strict=True))), 0
    for number, (source, seen) in enumerate(zip(sources, times, strict=True)):
        at = cut(pieces, at, source.store.lengths, seen, seq_len, number, keys[number])
    ledger = [_ledger(source, seen) for source, seen in zip(sources, times, strict=True)]
    packed = pack(pieces, seq_len)
    return packed, _summary(packed, ledger)


def _source(stores: Mapping[str, TokenStore], entry: MixtureEntry) -> Source:
    if entry.name not in stores:
        raise RecipeError("the mixture names an unknown source", where=entry.name, expected=f"one of {', '.join(stores)}")
    store = stores[entry.name]
    classes = weights(store, entry)
    total = store.n_tokens if classes is None else int((store.lengths * classes[1][classes[0]]).sum())
    return Source(entry, store, classes, total)


def _ledger(source: Source, times: npt.NDArray[np.int32]) -> dict[str, Json]:
    lengths, entry = source.store.lengths, source.entry
    tokens, size = int((lengths * times).sum()), int(lengths.sum())
    return {
        "name": entry.name, "tokens": tokens, "documents": int(times.sum(dtype=np.int64)), "size_tokens": size,
        "size_documents": len(lengths), "weighted_tokens": source.weighted_tokens,
        "epochs": tokens / source.weighted_tokens if source.weighted_tokens else 0.0,
        "wanted_epochs": entry.epochs, "wanted_share": entry.share, "rehydration": _by_weight(source, times),
    }  # fmt: skip


def _by_weight(source: Source, times: npt.NDArray[np.int32]) -> list[Json]:
    """What became of each entry of the table; empty without one."""
    if source.classes is None or source.entry.rehydrate is None:
        return []
    of_doc, lengths = source.classes[0], source.store.lengths
    out: list[Json] = []
    for number, (smallest, w) in enumerate(source.entry.rehydrate.items()):
        mine = of_doc == number
        tokens, size = int((lengths[mine] * times[mine]).sum()), int(lengths[mine].sum())
        out.append({
            "cluster_size": smallest, "weight": w, "size_documents": int(np.count_nonzero(mine)), "size_tokens": size,
            "documents": int(times[mine].sum(dtype=np.int64)), "tokens": tokens, "times_seen": tokens / size if size else 0.0,
        })  # fmt: skip
    return out


def _summary(packed: PackPlan, ledger: list[dict[str, Json]]) -> dict[str, Json]:
    n_tokens = packed.n_tokens
    sources: list[Json] = [{**s, "share": int(str(s["tokens"])) / n_tokens if n_tokens else 0.0} for s in ledger]
    return {
        "seq_len": packed.seq_len, "n_rows": packed.n_rows, "n_tokens": n_tokens, "n_pieces": len(packed.length),
        "n_cut": int(np.count_nonzero(packed.start)), "padding": packed.padding, "sources": sources,
    }  # fmt: skip
