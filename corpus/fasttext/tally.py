"""Documents to whole-number outputs: one compiled pass over an Arrow text buffer, for models that ``projection`` made small.

A chunk of a document passes through loops, each of which leaves lists for the next: where tokens begin and end; key and home of each
(corpus.fasttext.chunk); what the homes hold; tokens in second slots; new ones; and the word n-grams, found from the tokens' hashes.
So nothing waits for memory: homes are asked for a loop ahead, rows of n-grams a chunk ahead. Sums are of whole numbers, so neither
their order nor what the table holds changes them.
"""

from __future__ import annotations

import numba
import numpy as np

from corpus.fasttext.chunk import CHUNK, MARK_BYTES, ONE, cut_chunk, find_homes
from corpus.fasttext.documents import head_end
from corpus.fasttext.hashes import NGRAM_FACTOR, hash_token, remainder64, signed_word
from corpus.fasttext.memory import BLOCK, KEY_BYTES, int32_at, prefetch, put_word, same_key, word_at
from corpus.fasttext.token_table import HASH_AT, ROWS_AT, find_elsewhere, keep_token, sums_at
from corpus.fasttext.vocabulary import END, LABEL, add_counts, bucket_row, mark_key, mark_token, sum_hashed, sum_token

ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
PASSED = np.uint64(1 << 40)
"""Stands for the hash of a label, which is no part of n-grams; hashes have 32 bits and a sign."""


@numba.njit(nogil=True, cache=True, forceinline=True)
def add_words(target, source, n):  # type: ignore[no-untyped-def]
    """The n uint64 at ``target`` += those at ``source``."""
    for k in range(n):
        put_word(target + 8 * k, word_at(target + 8 * k) + word_at(source + 8 * k))


@numba.njit(nogil=True, cache=True, forceinline=True)
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


@numba.njit(nogil=True, cache=True, forceinline=True)
def add_second(room, words, table, n_misses, hashes):  # type: ignore[no-untyped-def]
    """Add the tokens that were in their second slots and list the new ones again. Returns (rows, new ones)."""
    n_rows, n_new, at_sums = np.int64(0), 0, sums_at(words.dim)
    for k in range(n_misses):
        t = np.int64(word_at(room.misses + 8 * k))
        home = np.int64(word_at(room.homes + 8 * t))
        if find_elsewhere(table, home, room.keys + KEY_BYTES * t):
            put_word(hashes + 8 * t, np.uint64(int32_at(home + HASH_AT)))
            n_rows += int32_at(home + ROWS_AT)
            add_words(room.sums, home + at_sums, words.dim)
        else:
            put_word(room.misses + 8 * n_new, np.uint64(t))
            n_new += 1
    return n_rows, n_new


@numba.njit(nogil=True, cache=True, forceinline=True)
def hash_new(room, words, table, n_new, hashes, folds):  # type: ignore[no-untyped-def]
    """Fold and hash the new tokens that fit a mark, and ask for their places in the dictionary."""
    for k in range(n_new):
        t = np.int64(word_at(room.misses + 8 * k))
        if np.int64(word_at(room.homes + 8 * t)) == table.nobody:
            continue
        begin, end = np.int64(word_at(room.begins + 8 * t)), np.int64(word_at(room.ends + 8 * t))
        stop, value = mark_key(room.marks + MARK_BYTES * k, room.keys + KEY_BYTES * t, begin, end, folds)
        prefetch(words.slots + 8 * (np.int64(value) & words.slot_mask))
        put_word(hashes + 8 * t, value)
        put_word(room.stops + 8 * k, np.uint64(stop))


@numba.njit(nogil=True, cache=True, forceinline=True)
def add_new(room, words, table, n_new, hashes, folds):  # type: ignore[no-untyped-def]
    """Add the new tokens and keep them. Returns (rows, labels among them, the token that is ``</s>`` or -1)."""
    n_rows, n_labels = np.int64(0), 0
    hash_new(room, words, table, n_new, hashes, folds)
    for k in range(n_new):
        t = np.int64(word_at(room.misses + 8 * k))
        home, mark, stop, value = np.int64(word_at(room.homes + 8 * t)), room.marks + MARK_BYTES * k, np.int64(0), np.uint64(0)
        if home == table.nobody:
            mark = room.long
            stop = mark_token(mark, np.int64(word_at(room.begins + 8 * t)), np.int64(word_at(room.ends + 8 * t)), folds)
            value = hash_token(mark + 1, stop)
        else:
            stop, value = np.int64(word_at(room.stops + 8 * k)), word_at(hashes + 8 * t)
        kind, more = sum_hashed(room.fresh, words, mark + 1, stop, value, room.picks)
        add_words(room.sums, room.fresh, words.dim)
        n_rows += more
        put_word(hashes + 8 * t, PASSED if kind == LABEL else signed_word(value))
        if kind == END:
            return n_rows, n_labels, t
        if kind == LABEL:
            n_labels += 1
        elif home != table.nobody:
            keep_token(table, home, room.keys + KEY_BYTES * t, more, value, room.fresh, words.dim)
    return n_rows, n_labels, np.int64(-1)


@numba.njit(nogil=True, cache=True)
def without_labels(hashes, n):  # type: ignore[no-untyped-def]
    """Close the gaps of a list of n hashes; returns how many are left."""
    kept = 0
    for t in range(n):
        value = word_at(hashes + 8 * t)
        put_word(hashes + 8 * kept, value)
        kept += value != PASSED
    return kept


@numba.njit(nogil=True, cache=True, forceinline=True)
def add_tokens(room, words, table, n, n_old, folds):  # type: ignore[no-untyped-def]
    """Sums of n tokens' rows, their hashes behind the ``n_old``. Returns (rows, hashes, whether </s> came)."""
    hashes = room.hashes + 8 * n_old
    while True:
        for k in range(0, BLOCK, 8):
            put_word(room.sums + k, np.uint64(0))
        n_known, n_misses = add_known(room, words, table, n, hashes)
        n_second, n_new = add_second(room, words, table, n_misses, hashes)
        n_fresh, n_labels, line_end = add_new(room, words, table, n_new, hashes, folds)
        if not 0 <= line_end < n - 1:
            left = without_labels(hashes, n) if n_labels > 0 else n
            return n_known + n_second + n_fresh, n_old + left, line_end >= 0
        # Tokens behind </s> have been added. Once more without them: that is rare, and to look ahead each time is not free.
        n = line_end + 1


@numba.njit(nogil=True, cache=True, forceinline=True)
def add_ngrams(room, words, word_ngrams, n_old, n, total):  # type: ignore[no-untyped-def]
    """Add the rows of the n-grams of n hashes that do not end among the first ``n_old``; returns how many.

    Those of a model of one output are only asked for: ``add_waiting`` adds them at ``total`` when there was other work meanwhile.
    """
    bucket = np.uint64(words.bucket)
    n_rows, share, before = np.int64(0), ALL // bucket, room.hashes
    single, rows = words.dim == 1 and words.filter_mask < 0, words.rows + 4 * words.n_words
    for more in range(1, word_ngrams):
        last_order = more == word_ngrams - 1
        for t in range(max(0, n_old - more) if last_order else 0, n - more):
            value = word_at(before + 8 * t) * NGRAM_FACTOR + word_at(room.hashes + 8 * (t + more))
            if not last_order:
                put_word(room.partial + 8 * t, value)
                if t + more < n_old:
                    continue
            place = np.int64(remainder64(value, bucket, share))
            if single:
                prefetch(rows + 4 * place)
                put_word(room.places + 8 * n_rows, np.uint64(rows + 4 * place))
                n_rows += 1
            else:
                row = bucket_row(words, place)
                if row >= 0:
                    add_counts(room.sums, words.rows + words.row_bytes * row, words.dim)
                    n_rows += 1
        before = room.partial
    if single:
        put_word(room.waiting, np.uint64(n_rows))
        put_word(room.waiting + 8, np.uint64(total))
    return n_rows


@numba.njit(nogil=True, cache=True, forceinline=True)
def add_waiting(room):  # type: ignore[no-untyped-def]
    """Add the rows that wait, if any, to the sum of their document."""
    total = np.uint64(0)
    for k in range(np.int64(word_at(room.waiting))):
        total += np.uint64(int32_at(np.int64(word_at(room.places + 8 * k))))
    target = np.int64(word_at(room.waiting + 8))
    put_word(target, word_at(target) + total)
    put_word(room.waiting, np.uint64(0))


@numba.njit(nogil=True, cache=True, forceinline=True)
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
        add_waiting(room)
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
            n_rows += add_ngrams(room, words, word_ngrams, n_old, n_hashes, total)
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
    put_word(room.waiting, np.uint64(0))
    put_word(room.waiting + 8, np.uint64(room.fresh))
    line = (np.int64(line_rows), signed_word(value))
    for row in range(len(offsets) - 1):
        at, end = begin + offsets[row], begin + offsets[row + 1]
        if max_chars >= 0:
            end = head_end(at, end, max_chars)
        total = totals.ctypes.data + 8 * words.dim * row
        n_rows[row] = tally_document(total, room, at, end, words, table, word_ngrams, folds, line)
    add_waiting(room)
