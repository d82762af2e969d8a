"""What a token means to a model: its dictionary entry, its character n-grams, and the sum of their rows. Compiled.

The rules are fastText's (dictionary.cc): FNV-1a over signed bytes; n-grams of ``<token>`` over whole UTF-8 characters, from minn to
maxn characters, without the lone ``<`` and ``>``; a bucket that pruning removed has no row; ``</s>`` has no n-grams; a token that is
or begins like a label has no rows and no part in word n-grams.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from corpus.fasttext.hashes import FNV_BEGIN, LOW_32, equal_bytes, fnv, hash_padded, hash_token
from corpus.fasttext.lower_case import lower_into
from corpus.fasttext.memory import (
    LANES,
    add_float,
    add_lanes,
    byte_at,
    copy_key,
    fold_key,
    int32_at,
    put_byte,
    put_word,
    remainder32,
    signed_byte_at,
    word_at,
)
from corpus.fasttext.model_file import LABEL_PREFIX, ModelFile

WORD, LABEL, END = 0, 1, 2
"""What a token is: text, a label (passed over), or fastText's end of line ``</s>``."""
END_TOKEN = b"</s>"
NO_ENTRY = np.uint64(0xFFFFFFFFFFFFFFFF)
END_BYTES = int.from_bytes(END_TOKEN, "little")
PREFIX_BYTES, PREFIX_LAST = np.uint64(int.from_bytes(LABEL_PREFIX[:8].encode(), "little")), ord(LABEL_PREFIX[8])
FILTER_BITS_PER_BUCKET = 16
PICKS = 256
"""Hashed n-grams that wait for their rows at a time; no fewer than model_file.MOST_MAXN."""


class Vocabulary(NamedTuple):
    """A model's dictionary and input matrix as the kernels read them: addresses and sizes. ``Indexed`` owns the memory.

    Attributes:
        text: the mapped file; entry i's bytes begin at text + starts[i] (int64) and are lengths[i] (int32) long.
        slots: uint64, open addressing by the token's hash: (entry, hash) or NO_ENTRY; slot_mask: their number - 1.
        n_words: entries below are words, the others labels.
        rows: row r of the input matrix begins at rows + row_bytes * r.
        bucket, magic: number of buckets, and what takes the place of a division by it (memory.remainder32).
        dim, padded: floats of a row; dim rounded up to whole vector operations, the floats of a sum.
        kept_filter: a bit per residue of the kept buckets; filter_mask: bits - 1, or -1 if nothing was pruned.
        counts: 1 if a row is dim int32 that are added up as uint64 (corpus.fasttext.projection), 0 if it is dim float32.
        kept_slots: pairs of int32, open addressing: (kept bucket or -1, its row behind the words); kept_mask: their number - 1.
    """

    text: int
    starts: int
    lengths: int
    slots: int
    slot_mask: int
    n_words: int
    rows: int
    row_bytes: int
    dim: int
    padded: int
    bucket: int
    magic: int
    minn: int
    maxn: int
    kept_filter: int
    filter_mask: int
    kept_slots: int
    kept_mask: int
    counts: int


@dataclass(frozen=True)
class Indexed:
    """A vocabulary with the arrays its addresses point into."""

    vocabulary: Vocabulary
    owned: tuple[npt.NDArray[np.generic], ...]


def index_model(model: ModelFile) -> Indexed:
    """Index a model file. Memory: 16 to 32 bytes an entry and about 40 bytes a kept bucket, beside the file's own arrays."""
    entries, rows = model.entries, model.input
    slots = np.full(_power_of_two(2 * len(entries.starts)), NO_ENTRY, np.uint64)
    pairs = np.zeros((0, 2), np.int32) if model.pruned is None else model.pruned
    kept_slots = np.full((_power_of_two(2 * len(pairs)), 2), -1, np.int32)
    kept_filter = np.zeros(_power_of_two(FILTER_BITS_PER_BUCKET * len(pairs) // 64), np.uint64)
    vocabulary = Vocabulary(
        text=address(model.data), starts=address(entries.starts), lengths=address(entries.lengths), slots=address(slots),
        slot_mask=len(slots) - 1, n_words=entries.n_words, rows=address(rows.data) + rows.begin, row_bytes=4 * model.dim, dim=model.dim,
        bucket=model.bucket, magic=signed(2**64 // max(model.bucket, 1) + 1), minn=model.minn, maxn=max(model.maxn, 0),
        padded=-(-model.dim // LANES) * LANES,
        kept_filter=address(kept_filter), filter_mask=-1 if model.pruned is None else 64 * len(kept_filter) - 1,
        kept_slots=address(kept_slots), kept_mask=len(kept_slots) - 1,
        counts=0,
    )  # fmt: skip
    index_entries(vocabulary, len(entries.starts), slots)
    index_kept(vocabulary, pairs, kept_filter, kept_slots)
    return Indexed(vocabulary, (model.data, entries.starts, entries.lengths, slots, rows.data, kept_filter, kept_slots))


def address(array: npt.NDArray[np.generic]) -> int:
    """Where an array's items begin in memory. The array must be contiguous and outlive every use of the number."""
    return int(array.ctypes.data)


def signed(word: int) -> int:
    """The int64 with the same bits as the low 64 of an integer."""
    return (word + 2**63) % 2**64 - 2**63


def _power_of_two(n: int) -> int:
    return 1 << max(4, (n - 1).bit_length())


@numba.njit(nogil=True, cache=True, forceinline=True)
def find_entry(words, begin, end, value):  # type: ignore[no-untyped-def]
    """(entry or -1, slot) of the token from begin to end whose hash is ``value``."""
    slot = np.int64(value) & words.slot_mask
    found = word_at(words.slots + 8 * slot)
    while found != NO_ENTRY:
        entry = np.int64(found >> np.uint64(32))
        same = found & LOW_32 == value and int32_at(words.lengths + 4 * entry) == end - begin
        if same and equal_bytes(words.text + np.int64(word_at(words.starts + 8 * entry)), begin, end - begin):
            return entry, slot
        slot = (slot + 1) & words.slot_mask
        found = word_at(words.slots + 8 * slot)
    return np.int64(-1), slot


@numba.njit(nogil=True, cache=True)
def index_entries(words, n, slots):  # type: ignore[no-untyped-def]
    """Fill ``slots`` with the n entries; of two equal ones the later counts, as in fastText."""
    for i in range(n):
        begin = words.text + np.int64(word_at(words.starts + 8 * i))
        end = begin + int32_at(words.lengths + 4 * i)
        value = hash_token(begin, end)
        _, slot = find_entry(words, begin, end, value)
        slots[slot] = (np.uint64(i) << np.uint64(32)) | value


@numba.njit(nogil=True, cache=True, forceinline=True)
def find_kept(words, bucket):  # type: ignore[no-untyped-def]
    """Address of a kept bucket's pair, or of the free one where it would be."""
    slot = ((bucket * 0x9E3779B1) >> 12) & words.kept_mask
    found = int32_at(words.kept_slots + 8 * slot)
    while found not in (-1, bucket):
        slot = (slot + 1) & words.kept_mask
        found = int32_at(words.kept_slots + 8 * slot)
    return words.kept_slots + 8 * slot


@numba.njit(nogil=True, cache=True)
def index_kept(words, pairs, kept_filter, kept_slots):  # type: ignore[no-untyped-def]
    """Fill the filter and the table of the buckets that pruning kept; the last of equal ones counts."""
    for i in range(len(pairs)):
        bucket = np.int64(pairs[i, 0])
        place = bucket & words.filter_mask
        kept_filter[place >> 6] |= np.uint64(1) << np.uint64(place & 63)
        slot = (find_kept(words, bucket) - words.kept_slots) >> 3
        kept_slots[slot, 0], kept_slots[slot, 1] = bucket, pairs[i, 1]


@numba.njit(nogil=True, cache=True, forceinline=True)
def bucket_row(words, bucket):  # type: ignore[no-untyped-def]
    """Row of a hashed n-gram, -1 if pruning removed it."""
    if words.filter_mask < 0:
        return words.n_words + bucket
    pair = find_kept(words, bucket)
    return words.n_words + int32_at(pair + 4) if int32_at(pair) >= 0 else np.int64(-1)


@numba.njit(nogil=True, cache=True, forceinline=True)
def add_counts(target, source, n):  # type: ignore[no-untyped-def]
    """The n uint64 at ``target`` += the n int32 at ``source``, modulo 2^64."""
    for k in range(n):
        put_word(target + 8 * k, word_at(target + 8 * k) + np.uint64(int32_at(source + 4 * k)))


@numba.njit(nogil=True, cache=True, forceinline=True)
def add_row(target, words, row):  # type: ignore[no-untyped-def]
    """The dim floats at ``target`` += a row of the input matrix."""
    source = words.rows + words.row_bytes * row
    if words.counts:
        add_counts(target, source, words.dim)
        return
    k = 0
    while k + LANES <= words.dim:
        add_lanes(target + 4 * k, source + 4 * k)
        k += LANES
    while k < words.dim:
        add_float(target + 4 * k, source + 4 * k)
        k += 1


@numba.njit(nogil=True, cache=True, forceinline=True)
def may_be_kept(words, bucket):  # type: ignore[no-untyped-def]
    """1 if pruning may have kept a bucket, 0 if it did not: one in sixteen others passes."""
    if words.filter_mask < 0:
        return 1
    place = bucket & words.filter_mask
    return np.int64((word_at(words.kept_filter + 8 * (place >> 6)) >> np.uint64(place & 63)) & np.uint64(1))


@numba.njit(nogil=True, cache=True, forceinline=True)
def add_buckets(target, words, picks, n):  # type: ignore[no-untyped-def]
    """Add the rows of the n hashed n-grams at ``picks``; returns how many pruning left."""
    n_rows = 0
    for k in range(n):
        row = bucket_row(words, np.int64(word_at(picks + 8 * k)))
        if row >= 0:
            add_row(target, words, row)
            n_rows += 1
    return n_rows


@numba.njit(nogil=True, cache=True, forceinline=True)
def add_ngrams(target, words, begin, end, picks):  # type: ignore[no-untyped-def]
    """Add the rows of the character n-grams of ``<token>``, the bytes from begin to end; returns how many.

    Hashing all and looking rows up are apart, and the filter moves a position instead of a branch: whether an n-gram was kept cannot
    be predicted, and a wrong guess costs as much as three n-grams. ``picks``: room for PICKS words.
    """
    n_rows, m = 0, 0
    for i in range(begin, end):
        if byte_at(i) & 0xC0 == 0x80:
            continue
        if m + words.maxn > PICKS:
            n_rows += add_buckets(target, words, picks, m)
            m = 0
        value, j, n = FNV_BEGIN, i, 1
        while j < end and n <= words.maxn:
            value = fnv(value, signed_byte_at(j))
            j += 1
            while j < end and byte_at(j) & 0xC0 == 0x80:
                value = fnv(value, signed_byte_at(j))
                j += 1
            if n >= words.minn and not (n == 1 and (i == begin or j == end)):
                bucket = remainder32(value & LOW_32, np.uint64(words.bucket), np.uint64(words.magic))
                put_word(picks + 8 * m, bucket)
                m += may_be_kept(words, np.int64(bucket))
            n += 1
    return n_rows + add_buckets(target, words, picks, m)


@numba.njit(nogil=True, cache=True)
def sum_token(target, words, begin, end, picks):  # type: ignore[no-untyped-def]
    """(kind, number of rows, hash) of the token from begin to end, which ``<`` precedes and ``>`` follows in memory.

    The padded floats at ``target`` become the sum of its rows. The hash counts in word n-grams unless the kind is LABEL.
    """
    value = hash_token(begin, end)
    kind, n_rows = sum_hashed(target, words, begin, end, value, picks)
    return kind, n_rows, value


@numba.njit(nogil=True, cache=True, forceinline=True)
def sum_hashed(target, words, begin, end, value, picks):  # type: ignore[no-untyped-def]
    """``sum_token`` of a token whose hash is known."""
    for k in range(0, 4 * words.padded, 8):
        put_word(target + k, np.uint64(0))
    entry, _ = find_entry(words, begin, end, value)
    prefixed = end - begin > 8 and word_at(begin) == PREFIX_BYTES and byte_at(begin + 8) == PREFIX_LAST
    if entry >= words.n_words or (entry < 0 and prefixed):
        return LABEL, 0
    n_rows = 0
    if entry >= 0:
        add_row(target, words, entry)
        n_rows = 1
    if end - begin == 4 and int32_at(begin) == END_BYTES:
        return END, n_rows
    if words.maxn > 0:
        n_rows += add_ngrams(target, words, begin - 1, end + 1, picks)
    return WORD, n_rows


@numba.njit(nogil=True, cache=True)
def mark_token(room, begin, end, folds):  # type: ignore[no-untyped-def]
    """Write ``<token>`` at ``room`` + 1, lower-cased if ``folds`` is the table's address; returns the token's end there.

    The token itself begins at ``room`` + 1. Room: twice the token and 32 bytes.
    """
    put_byte(room, 60)
    if folds != 0:
        stop = lower_into(room + 1, begin, end, folds)
    else:
        stop = room + 1 + end - begin
        for k in range(0, end - begin, 8):  # whole words: a few bytes too many, which the ">" and later tokens overwrite
            put_word(room + 1 + k, word_at(begin + k))
    put_byte(stop, 62)
    return stop


@numba.njit(nogil=True, cache=True, forceinline=True)
def mark_key(room, key, begin, end, folds):  # type: ignore[no-untyped-def]
    """``mark_token`` of a token of at most 32 bytes, whose ``key`` is at hand (memory.put_key). Returns (its end, its hash)."""
    if folds == 0:
        copy_key(room + 1, key)
    elif not fold_key(room + 1, key):
        stop = mark_token(room, begin, end, folds)
        return stop, hash_token(room + 1, stop)
    stop = room + 1 + end - begin
    value = hash_padded(room + 1, end - begin)
    put_byte(room, 60)
    put_byte(stop, 62)
    return stop, value
