"""How much a document repeats itself: the fractions of the Gopher rules, compiled over Arrow buffers.

One row of numbers per document, no thresholds: corpus.stages.quality judges them. Definitions are those of datatrove 0.10.1's
GopherRepetitionFilter; lengths are in characters (code points). Memory: scratch of the order of the longest document.
"""

from __future__ import annotations

import numba
import numpy as np

from corpus.stages.code_points import SPACE, decode, width
from corpus.stages.hash_table import count_byte, count_chars, find_slot, mixed, table_mask
from corpus.stages.words import BASE

REPETITION = ("dup_para_frac", "dup_para_char_frac", "dup_line_frac", "dup_line_char_frac")


@numba.njit(nogil=True, cache=True)
def _stripped(data, begin, end, props):  # type: ignore[no-untyped-def]
    """Bounds of str.strip()."""
    while begin < end:
        size = width(data[begin])
        if not props[decode(data, begin, size)] & SPACE:
            break
        begin += size
    while end > begin:
        last = end - 1
        while data[last] & 0xC0 == 0x80:
            last -= 1
        if not props[decode(data, last, width(data[last]))] & SPACE:
            break
        end = last
    return begin, end


@numba.njit(nogil=True, cache=True)
def _duplicate_parts(data, begin, end, min_newlines, keys, stamps, stamp):  # type: ignore[no-untyped-def]
    """(parts, parts seen before, their characters) of the text cut at runs of ``min_newlines`` or more line feeds."""
    mask = table_mask(count_byte(data, begin, end, 10) + 1)
    parts = repeated = repeated_chars = 0
    value, chars, at = np.uint64(0), 0, begin
    while True:
        run = 0
        while at + run < end and data[at + run] == 10:
            run += 1
        if at == end or run >= min_newlines:
            parts += 1
            slot, known = find_slot(keys, stamps, stamp, mask, value)
            if known:
                repeated += 1
                repeated_chars += chars
            keys[slot], stamps[slot] = value, stamp
            value, chars = np.uint64(0), 0
            if at == end:
                return parts, repeated, repeated_chars
            at += run
            continue
        for _ in range(max(run, 1)):
            value = value * BASE + np.uint64(data[at] + 1)
            chars += (data[at] & 0xC0) != 0x80
            at += 1


@numba.njit(nogil=True, cache=True)
def _top_n_gram_chars(hashes, n_chars, n, keys, stamps, stamp, counts, firsts, order):  # type: ignore[no-untyped-def]
    """Characters in all occurrences of the most frequent n-gram (words joined by spaces; the earliest among equals), -1 if none."""
    n_grams = len(hashes) - n + 1
    if n_grams < 1:
        return -1
    mask = table_mask(n_grams)
    distinct = 0
    for i in range(n_grams):
        key = np.uint64(n)
        for k in range(n):
            key = mixed(key + hashes[i + k]) * BASE
        slot, known = find_slot(keys, stamps, stamp, mask, key)
        if known:
            counts[slot] += 1
            continue
        keys[slot], stamps[slot], counts[slot], firsts[slot], order[distinct] = key, stamp, 1, i, slot
        distinct += 1
    best = order[0]
    for k in range(1, distinct):
        if counts[order[k]] > counts[best]:
            best = order[k]
    length = n - 1
    for k in range(n):
        length += n_chars[firsts[best] + k]
    return length * counts[best]


@numba.njit(nogil=True, cache=True)
def _repeated_n_gram_chars(before, powers, byte_ends, char_ends, n_words, n, keys, stamps, stamp):  # type: ignore[no-untyped-def]
    """Characters of the n-grams (words joined without spaces) that occurred before, stepping over each once counted.

    ``before[i]`` is the hash of the first i words joined, so any n-gram's hash is before[i + n] - before[i] * BASE^bytes.
    """
    mask = table_mask(n_words)
    i = chars = 0
    while i < n_words - n + 1:
        key = before[i + n] - before[i] * powers[byte_ends[i + n] - byte_ends[i]]
        slot, known = find_slot(keys, stamps, stamp, mask, key)
        if known:
            chars += char_ends[i + n] - char_ends[i]
            i += n
            continue
        keys[slot], stamps[slot] = key, stamp
        i += 1
    return chars


@numba.njit(nogil=True, cache=True)
def _prefixes(hashes, n_bytes, n_chars, powers, before, byte_ends, char_ends):  # type: ignore[no-untyped-def]
    """Fill the running hash, bytes and characters of the joined words."""
    before[0], byte_ends[0], char_ends[0] = np.uint64(0), 0, 0
    for i in range(len(hashes)):
        before[i + 1] = before[i] * powers[n_bytes[i]] + hashes[i]
        byte_ends[i + 1] = byte_ends[i] + n_bytes[i]
        char_ends[i + 1] = char_ends[i] + n_chars[i]


@numba.njit(nogil=True, cache=True)
def _powers(n):  # type: ignore[no-untyped-def]
    out = np.empty(n + 1, np.uint64)
    out[0] = 1
    for k in range(n):
        out[k + 1] = out[k] * BASE
    return out


@numba.njit(nogil=True, cache=True)
def repetition(offsets, data, props, starts, hashes, n_bytes, n_chars, top_ns, dup_ns):  # type: ignore[no-untyped-def]
    """[n, 4 + len(top_ns) + len(dup_ns)] float64: REPETITION, then the character fractions of the top and the repeated n-grams.

    Fractions are of the document's characters. NaN where there is no n-gram; an empty document is all NaN.
    """
    n = len(offsets) - 1
    out = np.full((n, 4 + len(top_ns) + len(dup_ns)), np.nan)
    longest, most = np.int64(0), np.int64(0)
    for row in range(n):
        longest = max(longest, offsets[row + 1] - offsets[row])
        most = max(most, starts[row + 1] - starts[row], count_byte(data, offsets[row], offsets[row + 1], 10) + 1)
    size = table_mask(most) + 1
    keys, stamps, stamp = np.empty(size, np.uint64), np.zeros(size, np.int32), 0
    counts, firsts, order = np.empty(size, np.int32), np.empty(size, np.int64), np.empty(size, np.int64)
    powers, before = _powers(longest), np.empty(most + 1, np.uint64)
    byte_ends, char_ends = np.empty(most + 1, np.int64), np.empty(most + 1, np.int64)
    for row in range(n):
        begin, end = offsets[row], offsets[row + 1]
        if begin == end:
            continue
        length = count_chars(data, begin, end)
        inner_begin, inner_end = _stripped(data, begin, end, props)
        parts, repeated, chars = _duplicate_parts(data, inner_begin, inner_end, 2, keys, stamps, stamp + 1)
        out[row, 0], out[row, 1] = repeated / parts, chars / length
        parts, repeated, chars = _duplicate_parts(data, begin, end, 1, keys, stamps, stamp + 2)
        out[row, 2], out[row, 3] = repeated / parts, chars / length
        stamp += 2
        first, last = starts[row], starts[row + 1]
        words, word_chars = hashes[first:last], n_chars[first:last]
        _prefixes(words, n_bytes[first:last], word_chars, powers, before, byte_ends, char_ends)
        for k in range(len(top_ns)):
            stamp += 1
            chars = _top_n_gram_chars(words, word_chars, top_ns[k], keys, stamps, stamp, counts, firsts, order)
            if chars >= 0:
                out[row, 4 + k] = chars / length
        for k in range(len(dup_ns)):
            stamp += 1
            chars = _repeated_n_gram_chars(before, powers, byte_ends, char_ends, last - first, dup_ns[k], keys, stamps, stamp)
            out[row, 4 + len(top_ns) + k] = chars / length
    return out
