"""Documents to whole-number outputs: one compiled pass over an Arrow text buffer, for models that ``projection`` reduced to few numbers.

A chunk of a document passes through five loops, each of which leaves lists for the next: where tokens begin and end; key and home of
each; what the homes hold; the tokens that were not at home; and the word n-grams, found from the tokens' hashes. So nothing waits for
memory: homes are asked for a loop ahead, and rows of n-grams do not depend on each other. Sums are of whole numbers, so neither their
order nor what the table holds changes them.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from corpus.fasttext.documents import NGRAM_FACTOR, head_end
from corpus.fasttext.memory import (
    BLOCK,
    KEY_BYTES,
    high_product,
    int32_at,
    prefetch,
    put_key,
    put_word,
    same_key,
    set_bits,
    spaces,
    trailing_zeros,
    word_at,
)
from corpus.fasttext.token_table import HASH_AT, ROWS_AT, Table, find_elsewhere, keep_token, sums_at
from corpus.fasttext.vocabulary import END, LABEL, add_counts, bucket_row, mark_token, sum_token

CHUNK = 16 * BLOCK
"""Bytes of a document at a time: what the loops leave for each other fits the first-level cache."""
ALL, ONE = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(1)
PASSED = np.uint64(1 << 40)
"""Stands for the hash of a label, which is no part of n-grams; hashes have 32 bits and a sign."""
AT_ONCE = 12
"""Tokens of a block that are written without asking whether there are so many: a wrongly guessed end costs more."""
LIST_LENGTH = CHUNK // 2 + 2 * BLOCK + AT_ONCE


class Room(NamedTuple):
    """Addresses of working memory: lists of words, by token of a chunk, and what a single token needs.

    begins, ends, homes, misses: of tokens; hashes, partial: of the tokens before the chunk and its own; keys: KEY_BYTES each.
    sums, fresh, line: sums of a chunk, of a token, of the end of line; picks: for vocabulary.sum_token; marks: for mark_token.
    """

    begins: int
    ends: int
    homes: int
    misses: int
    hashes: int
    partial: int
    keys: int
    sums: int
    fresh: int
    line: int
    picks: int
    marks: int


def new_room(longest: int) -> tuple[Room, npt.NDArray[np.uint8]]:
    """Working memory for documents of at most ``longest`` bytes."""
    sizes = [8 * LIST_LENGTH] * 6 + [KEY_BYTES * LIST_LENGTH, BLOCK, BLOCK, BLOCK, 8 * 256, 2 * longest + BLOCK]
    places = np.cumsum([0, *(-(-size // BLOCK) * BLOCK for size in sizes)])
    memory = np.empty(int(places[-1]) + BLOCK, np.uint8)
    begin = int(memory.ctypes.data)
    return Room(*(begin + -begin % BLOCK + int(place) for place in places[:-1])), memory


@numba.njit(nogil=True, cache=True, forceinline=True)
def put_places(to, at, bits):  # type: ignore[no-untyped-def]
    """Write ``at`` + the index of each set bit to the list at ``to``; at most AT_ONCE numbers of no meaning follow."""
    for _ in range(AT_ONCE):
        put_word(to, np.uint64(at + trailing_zeros(bits)))
        bits &= bits - ONE
        to += 8
    while bits != 0:
        put_word(to, np.uint64(at + trailing_zeros(bits)))
        bits &= bits - ONE
        to += 8


@numba.njit(nogil=True, cache=True)
def cut_chunk(room, at, stop, end, follows, n_begins):  # type: ignore[no-untyped-def]
    """List where tokens begin, behind the ``n_begins`` that are there, and where they end, from ``at`` to ``stop`` of a text to ``end``.

    ``follows``: 1 if the byte before ``at`` separates. Returns (begins, ends, follows).
    """
    n_ends = 0
    while at < stop:
        mask = spaces(at)
        if end - at < BLOCK:
            mask |= ALL << np.uint64(end - at)
        after = (mask << ONE) | follows
        first, last = ~mask & after, mask & ~after
        follows = mask >> np.uint64(63)
        put_places(room.begins + 8 * n_begins, at, first)
        put_places(room.ends + 8 * n_ends, at, last)
        n_begins += set_bits(first)
        n_ends += set_bits(last)
        at += BLOCK
    return n_begins, n_ends, follows


@numba.njit(nogil=True, cache=True)
def find_homes(room, table, n):  # type: ignore[no-untyped-def]
    """List key and home of n tokens. One too long for a key lives where nobody does."""
    for t in range(n):
        begin = np.int64(word_at(room.begins + 8 * t))
        n_bytes = np.int64(word_at(room.ends + 8 * t)) - begin
        value = put_key(room.keys + KEY_BYTES * t, begin, min(n_bytes, KEY_BYTES))
        home = table.address + table.stride * (np.int64(value >> np.uint64(32)) & table.mask)
        home = home if n_bytes <= KEY_BYTES else table.nobody
        prefetch(home)
        put_word(room.homes + 8 * t, np.uint64(home))


@numba.njit(nogil=True, cache=True, forceinline=True)
def add_words(target, source, n):  # type: ignore[no-untyped-def]
    """The n uint64 at ``target`` += those at ``source``."""
    for k in range(n):
        put_word(target + 8 * k, word_at(target + 8 * k) + word_at(source + 8 * k))


@numba.njit(nogil=True, cache=True, forceinline=True)
def signed_word(value):  # type: ignore[no-untyped-def]
    """A token's hash as it enters fastText's 64-bit product: with its sign."""
    return np.uint64(np.int64(np.int32(value)))


@numba.njit(nogil=True, cache=True)
def add_known(room, words, table, n, hashes):  # type: ignore[no-untyped-def]
    """Add the tokens that are at home, list the others and ask for their second slots. Returns (rows, others)."""
    n_rows, n_misses, total, at_sums = np.int64(0), 0, np.uint64(0), sums_at(words.dim)
    for t in range(n):
        home = np.int64(word_at(room.homes + 8 * t))
        if same_key(home, room.keys + KEY_BYTES * t):
            put_word(hashes + 8 * t, np.uint64(int32_at(home + HASH_AT)))
            n_rows += int32_at(home + ROWS_AT)
            if words.dim == 1:
                total += word_at(home + at_sums)
            else:
                add_words(room.sums, home + at_sums, words.dim)
        else:
            prefetch(home + table.second)
            put_word(room.misses + 8 * n_misses, np.uint64(t))
            n_misses += 1
    put_word(room.sums, word_at(room.sums) + total)
    return n_rows, n_misses


@numba.njit(nogil=True, cache=True)
def add_others(room, words, table, n_misses, hashes, folds):  # type: ignore[no-untyped-def]
    """Add the tokens that were not at home. Returns (rows, labels among them, the token that is ``</s>`` or -1)."""
    n_rows, n_labels, at_sums = np.int64(0), 0, sums_at(words.dim)
    for k in range(n_misses):
        t = np.int64(word_at(room.misses + 8 * k))
        home, key = np.int64(word_at(room.homes + 8 * t)), room.keys + KEY_BYTES * t
        if find_elsewhere(table, home, key):
            put_word(hashes + 8 * t, np.uint64(int32_at(home + HASH_AT)))
            n_rows += int32_at(home + ROWS_AT)
            add_words(room.sums, home + at_sums, words.dim)
            continue
        begin, end = np.int64(word_at(room.begins + 8 * t)), np.int64(word_at(room.ends + 8 * t))
        stop = mark_token(room.marks, begin, end, folds)
        kind, more, value = sum_token(room.fresh, words, room.marks + 1, stop, room.picks)
        add_words(room.sums, room.fresh, words.dim)
        n_rows += more
        put_word(hashes + 8 * t, PASSED if kind == LABEL else signed_word(value))
        if kind == END:
            return n_rows, n_labels, t
        if kind == LABEL:
            n_labels += 1
        elif home != table.nobody:
            keep_token(table, home, key, more, value, room.fresh, words.dim)
    return n_rows, n_labels, -1


@numba.njit(nogil=True, cache=True)
def without_labels(hashes, n):  # type: ignore[no-untyped-def]
    """Close the gaps of a list of n hashes; returns how many are left."""
    kept = 0
    for t in range(n):
        value = word_at(hashes + 8 * t)
        put_word(hashes + 8 * kept, value)
        kept += value != PASSED
    return kept


@numba.njit(nogil=True, cache=True)
def add_tokens(room, words, table, n, n_old, folds):  # type: ignore[no-untyped-def]
    """Add the rows of n tokens to the chunk's sums, their hashes behind the ``n_old``. Returns (rows, hashes, whether </s> came)."""
    hashes = room.hashes + 8 * n_old
    for k in range(0, BLOCK, 8):
        put_word(room.sums + k, np.uint64(0))
    n_rows, n_misses = add_known(room, words, table, n, hashes)
    more, n_labels, line_end = add_others(room, words, table, n_misses, hashes, folds)
    if 0 <= line_end < n - 1:
        # Tokens behind </s> have been added: once more without them, which is rarer than looking ahead each time.
        return add_tokens_again(room, words, table, line_end + 1, n_old, folds)
    left = without_labels(hashes, n) if n_labels > 0 else n
    return n_rows + more, n_old + left, line_end >= 0


@numba.njit(nogil=True, cache=True)
def add_tokens_again(room, words, table, n, n_old, folds):  # type: ignore[no-untyped-def]
    """``add_tokens`` of a chunk whose last token is ``</s>``."""
    hashes = room.hashes + 8 * n_old
    for k in range(0, BLOCK, 8):
        put_word(room.sums + k, np.uint64(0))
    n_rows, n_misses = add_known(room, words, table, n, hashes)
    more, n_labels, _ = add_others(room, words, table, n_misses, hashes, folds)
    return n_rows + more, n_old + (without_labels(hashes, n) if n_labels > 0 else n), True


@numba.njit(nogil=True, cache=True, forceinline=True)
def remainder64(value, divisor, share):  # type: ignore[no-untyped-def]
    """value % divisor of two uint64; share = (2^64 - 1) // divisor. The quotient found with it is right or one too small."""
    rest = value - high_product(value, share) * divisor
    return rest - divisor if rest >= divisor else rest


@numba.njit(nogil=True, cache=True)
def add_ngrams(room, words, word_ngrams, n_old, n):  # type: ignore[no-untyped-def]
    """Add the rows of the n-grams of n hashes that do not end among the first ``n_old``; returns how many."""
    bucket = np.uint64(words.bucket)
    n_rows, total, share, before = np.int64(0), np.uint64(0), ALL // bucket, room.hashes
    single, rows = words.dim == 1 and words.filter_mask < 0, words.rows + 4 * words.n_words
    for more in range(1, word_ngrams):
        for t in range(n - more):
            value = word_at(before + 8 * t) * NGRAM_FACTOR + word_at(room.hashes + 8 * (t + more))
            put_word(room.partial + 8 * t, value)
            if t + more < n_old:
                continue
            place = np.int64(remainder64(value, bucket, share))
            if single:
                total += np.uint64(int32_at(rows + 4 * place))
                n_rows += 1
            else:
                row = bucket_row(words, place)
                if row >= 0:
                    add_counts(room.sums, words.rows + words.row_bytes * row, words.dim)
                    n_rows += 1
        before = room.partial
    put_word(room.sums, word_at(room.sums) + total)
    return n_rows


@numba.njit(nogil=True, cache=True)
def tally_document(total, room, at, end, words, table, word_ngrams, folds, line):  # type: ignore[no-untyped-def]
    """Add up the rows of the text from ``at`` to ``end`` at ``total``, its end of line included; returns how many."""
    n_rows, n_begins, n_hashes, follows, ended = np.int64(0), 0, 0, ONE, False
    while at < end and not ended:
        n_begins, n, follows = cut_chunk(room, at, min(at + CHUNK, end), end, follows, n_begins)
        at += CHUNK
        if at >= end and n_begins > n:
            put_word(room.ends + 8 * n, np.uint64(end))
            n += 1
        find_homes(room, table, n)
        n_old = n_hashes
        more, n_hashes, ended = add_tokens(room, words, table, n, n_old, folds)
        n_rows += more
        if n_begins > n:  # the last token is open
            put_word(room.begins, word_at(room.begins + 8 * n))
        n_begins -= n
        if at >= end and not ended:
            put_word(room.hashes + 8 * n_hashes, line[1])
            n_hashes += 1
        if word_ngrams > 1:
            n_rows += add_ngrams(room, words, word_ngrams, n_old, n_hashes)
        add_words(total, room.sums, words.dim)
        keep = min(n_hashes, max(0, word_ngrams - 1))
        for t in range(keep):
            put_word(room.hashes + 8 * t, word_at(room.hashes + 8 * (n_hashes - keep + t)))
        n_hashes = keep
    if ended:
        return n_rows
    add_words(total, room.line, words.dim)
    return n_rows + line[0]


@numba.njit(nogil=True, cache=True)
def tally_documents(begin, offsets, words, word_ngrams, max_chars, folds, table, room, totals, n_rows):  # type: ignore[no-untyped-def]
    """totals [n, words.dim] int64: sums of the rows of each document's tokens and n-grams; n_rows [n]: how many.

    begin: address of an Arrow text column's bytes, of which 64 more can be read; offsets [n + 1]. ``max_chars``: only the head of so
    many characters counts; negative: all. ``folds``: address of lower_case.fold_table, 0 to leave letters alone.
    """
    put_word(room.marks, np.uint64(0x3E3E732F3C3C))  # <</s>>
    _, line_rows, value = sum_token(room.line, words, room.marks + 1, room.marks + 5, room.picks)
    line = (np.int64(line_rows), signed_word(value))
    for row in range(len(offsets) - 1):
        at, end = begin + offsets[row], begin + offsets[row + 1]
        if max_chars >= 0:
            end = head_end(at, end, max_chars)
        total = totals.ctypes.data + 8 * words.dim * row
        n_rows[row] = tally_document(total, room, at, end, words, table, word_ngrams, folds, line)
