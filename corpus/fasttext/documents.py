"""Documents to hidden vectors: one compiled pass over an Arrow text buffer, with what tokens add up to kept from page to page.

Words repeat, so each distinct token's summed rows are kept in a table of fixed size: ``WAYS`` neighbouring slots may hold a token; when
all are taken, the first that was not read since its last chance goes. A token's own rows are always added up first and the sum is then
added to the document's, so a kept sum and a fresh one give the same floats: results do not depend on what the table holds.

A slot is 64 bytes of head and the sum's floats: bytes 0-31 the token itself, zero-padded (NUL separates tokens, so it cannot be part of
one and no length is needed); 32-39 number of rows, and the kind in the top byte; 40-47 fastText's hash, and "was read" in the top
byte. Longer tokens (0.1 % of a German page's) are summed anew each time.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from corpus.fasttext.hashes import NGRAM_FACTOR
from corpus.fasttext.memory import (
    BLOCK,
    KEY_BYTES,
    LANES,
    add_lanes,
    byte_at,
    first_bytes,
    holds_key,
    key_words,
    prefetch,
    put_lanes,
    put_word,
    set_bits,
    spaces,
    trailing_zeros,
    word_at,
)
from corpus.fasttext.vocabulary import END, LABEL, WORD, add_row, bucket_row, mark_token, sum_token

HEAD_BYTES, ROWS_AT, HASH_AT = 64, 32, 40
TOP_BYTE = np.uint64(56)
ONE_TOP, LOW_BITS = np.uint64(1 << 56), np.uint64((1 << 56) - 1)
CHUNK = 16 * BLOCK
"""Bytes of a document that are cut into tokens at a time."""
ALL, ONE = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(1)
C0, C1, C2, C3 = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93))


class Cache(NamedTuple):
    """The table of kept sums: address, size of a slot in bytes, number of first slots - 1."""

    address: int
    stride: int
    mask: int


def new_cache(padded: int, size_bytes: int) -> tuple[Cache, npt.NDArray[np.uint8]]:
    """An empty table for sums of ``padded`` floats, of at most ``size_bytes`` (but 16 slots at least), and its memory."""
    stride = HEAD_BYTES + 4 * padded
    n_slots = 1 << max(4, (size_bytes // stride).bit_length() - 1)
    memory = np.zeros(n_slots * stride + BLOCK, np.uint8)
    begin = int(memory.ctypes.data)
    return Cache(begin + -begin % BLOCK, stride, n_slots - 1), memory


@numba.njit(nogil=True, cache=True)
def head_end(begin, end, max_chars):  # type: ignore[no-untyped-def]
    """Where the first ``max_chars`` characters of the text from begin to end stop."""
    at, left = begin, max_chars
    if end - begin <= left:
        return end
    while at + BLOCK <= end:
        n = set_bits(first_bytes(at))
        if n > left:
            break
        left -= n
        at += BLOCK
    while at < end:
        if byte_at(at) & 0xC0 != 0x80:
            if left == 0:
                return at
            left -= 1
        at += 1
    return end


@numba.njit(nogil=True, cache=True, forceinline=True)
def cut_tokens(at, stop, end, open_at, follows, begins, ends):  # type: ignore[no-untyped-def]
    """Cut the bytes from ``at`` to ``stop`` of a document that ends at ``end`` into tokens.

    ``open_at``: where a token began that is still open, else 0; ``follows``: 1 if the byte before ``at`` separates. Returns (number
    of tokens written to ``begins`` and ``ends``, open_at, follows).
    """
    n = 0
    while at < stop:
        mask = spaces(at)
        if end - at < BLOCK:
            mask |= ALL << np.uint64(end - at)
        after = (mask << ONE) | follows
        first, last = ~mask & after, mask & ~after
        follows = mask >> np.uint64(63)
        while last != 0:
            if open_at == 0:
                open_at = at + trailing_zeros(first)
                first &= first - ONE
            begins[n], ends[n] = open_at, at + trailing_zeros(last)
            last &= last - ONE
            open_at = 0
            n += 1
        if first != 0:
            open_at = at + trailing_zeros(first)
        at += BLOCK
    return n, open_at, follows


@numba.njit(nogil=True, cache=True, forceinline=True)
def home_slot(cache, begin, end):  # type: ignore[no-untyped-def]
    """Address of the first slot that may hold the token, of at most 32 bytes."""
    key = key_words(begin, end - begin)
    value = key[0] * C0 + key[1] * C1 + key[2] * C2 + key[3] * C3
    value = (value ^ (value >> np.uint64(32))) * C1
    return cache.address + cache.stride * (np.int64(value >> np.uint64(32)) & cache.mask)


@numba.njit(nogil=True, cache=True)
def keep_sum(cache, slot, begin, end, head, value, sums):  # type: ignore[no-untyped-def]
    """Write a sum to its slot, unless the token there was read since the last that wanted its place: that one keeps it this time."""
    read = word_at(slot + HASH_AT)
    if read >= ONE_TOP:
        put_word(slot + HASH_AT, read & LOW_BITS)
        return
    key = key_words(begin, end - begin)
    for k in range(4):
        put_word(slot + 8 * k, key[k])
    put_word(slot + ROWS_AT, head)
    put_word(slot + HASH_AT, value)
    for at in range(0, cache.stride - HEAD_BYTES, 4 * LANES):
        put_lanes(slot + HEAD_BYTES + at, sums + at)


@numba.njit(nogil=True, cache=True, forceinline=True)
def add_sum(total, source, padded):  # type: ignore[no-untyped-def]
    """The floats at ``total`` += those at ``source``."""
    for at in range(0, 4 * padded, 4 * LANES):
        add_lanes(total + at, source + at)


@numba.njit(nogil=True, cache=True, forceinline=True)
def find_word_ngrams(words, partial, n_open, value, waiting, n_waiting):  # type: ignore[no-untyped-def]
    """Put the rows of the word n-grams that end with a token of hash ``value`` behind those that wait; returns (n_open, n_waiting).

    ``partial`` [wordNgrams - 1] uint64: running hashes of the n-grams that began at the last ``n_open`` tokens, oldest first. Token
    hashes are signed when they enter fastText's 64-bit product. Rows lie all over a large matrix, so they are asked for here and
    added later.
    """
    more = np.uint64(np.int64(np.int32(value)))
    for k in range(n_open):
        partial[k] = partial[k] * NGRAM_FACTOR + more
        row = bucket_row(words, np.int64(partial[k] % np.uint64(words.bucket)))
        if row >= 0:
            prefetch(words.rows + words.row_bytes * row)
            prefetch(words.rows + words.row_bytes * row + BLOCK - 1)
            waiting[n_waiting] = row
            n_waiting += 1
    if n_open == len(partial):
        for k in range(n_open - 1):
            partial[k] = partial[k + 1]
        n_open -= 1
    partial[n_open] = more
    return n_open + 1, n_waiting


@numba.njit(nogil=True, cache=True, forceinline=True)
def add_waiting(total, words, waiting, n_waiting):  # type: ignore[no-untyped-def]
    """Add the rows that wait."""
    for k in range(n_waiting):
        add_row(total, words, waiting[k])


@numba.njit(nogil=True, cache=True)
def fresh_sum(cache, slot, words, begin, end, room, sums, folds, picks):  # type: ignore[no-untyped-def]
    """(number of rows and kind, hash) of a token summed anew at ``sums``, and kept. ``slot``: its home, 0 if it is too long."""
    kind, n_rows, value = sum_token(sums, words, room + 1, mark_token(room, begin, end, folds), picks)
    head = np.uint64(n_rows) | (np.uint64(kind) << TOP_BYTE)
    if slot != 0:
        keep_sum(cache, slot, begin, end, head, value, sums)
    return head, value


@numba.njit(nogil=True, cache=True)
def add_document(total, text, words, cache, partial, room, sums, folds, places):  # type: ignore[no-untyped-def]
    """Add up the rows of the text (begin, end) at ``total``, its end of line included; returns how many."""
    at, end = text
    begins, ends, homes, waiting, picks = places[0], places[1], places[2], places[3], places[4].ctypes.data
    n_rows, n_open, n_waiting, kind = np.int64(0), 0, 0, np.uint64(WORD)
    open_at, follows = 0, ONE
    while at < end:
        n, open_at, follows = cut_tokens(at, min(at + CHUNK, end), end, open_at, follows, begins, ends)
        at += CHUNK
        if at >= end and open_at != 0:
            begins[n], ends[n] = open_at, end
            n += 1
        for t in range(n):
            homes[t] = 0
            if ends[t] - begins[t] <= KEY_BYTES:
                homes[t] = home_slot(cache, begins[t], ends[t])
                prefetch(homes[t])
                prefetch(homes[t] + HEAD_BYTES)
        for t in range(n):
            found = homes[t]
            if found != 0 and holds_key(found, begins[t], ends[t] - begins[t]):
                head, value = word_at(found + ROWS_AT), word_at(found + HASH_AT)
                if value < ONE_TOP:
                    put_word(found + HASH_AT, value | ONE_TOP)
                add_sum(total, found + HEAD_BYTES, words.padded)
            else:
                head, value = fresh_sum(cache, homes[t], words, begins[t], ends[t], room, sums, folds, picks)
                add_sum(total, sums, words.padded)
            n_rows += np.int64(head & LOW_BITS)
            kind = head >> TOP_BYTE
            if len(partial) > 0 and kind != LABEL:
                n_open, n_waiting = find_word_ngrams(words, partial, n_open, value, waiting, n_waiting)
                if n_waiting + len(partial) > CHUNK or kind == END:
                    add_waiting(total, words, waiting, n_waiting)
                    n_rows += n_waiting
                    n_waiting = 0
            if kind == END:  # a literal </s> ends fastText's line
                return n_rows
    put_word(room, np.uint64(0x3E3E732F3C3C))  # <</s>>
    _, line_rows, value = sum_token(sums, words, room + 1, room + 5, picks)
    add_sum(total, sums, words.padded)
    if len(partial) > 0:
        n_open, n_waiting = find_word_ngrams(words, partial, n_open, value, waiting, n_waiting)
        add_waiting(total, words, waiting, n_waiting)
    return n_rows + line_rows + n_waiting


@numba.njit(nogil=True, cache=True)
def hidden_vectors(begin, offsets, words, word_ngrams, max_chars, folds, cache, room, hidden, n_rows):  # type: ignore[no-untyped-def]
    """hidden [n, padded] float32: the mean row of each document's tokens and n-grams; n_rows [n]: how many (0: hidden is 0).

    begin: address of an Arrow text column's bytes, of which 64 more can be read; offsets [n + 1]. ``max_chars``: only the head of so
    many characters counts; negative: all. ``folds``: address of lower_case.fold_table, 0 to leave letters alone. ``room``: uint8,
    twice the longest document and 64 bytes.
    """
    places = np.empty((5, CHUNK), np.int64)
    sums = np.zeros(words.padded, np.float32)
    partial = np.zeros(max(word_ngrams - 1, 0), np.uint64)
    for row in range(len(offsets) - 1):
        at, end = begin + offsets[row], begin + offsets[row + 1]
        if max_chars >= 0:
            end = head_end(at, end, max_chars)
        total = hidden.ctypes.data + 4 * words.padded * row
        n = add_document(total, (at, end), words, cache, partial, room.ctypes.data, sums.ctypes.data, folds, places)
        n_rows[row] = n
        if n > 0:
            share = np.float32(1.0 / n)
            for k in range(words.padded):
                hidden[row, k] *= share
