"""Per-document statistics of lines and words for the quality rules, compiled over Arrow buffers.

Two functions, each one row of numbers per document in the order of their column names: ``lines`` and ``word_mix``. They hold no
thresholds: corpus.stages.quality judges them. Definitions are those of datatrove 0.10.1's FineWebQualityFilter and
GopherQualityFilter; lengths are in characters (code points).
"""

from __future__ import annotations

import numba
import numpy as np

from corpus.stages.code_points import LINE_BREAK, SPACE, decode, width
from corpus.stages.hash_table import count_byte, count_chars, find_slot, table_mask
from corpus.stages.words import BASE, HAS_ALPHA, HAS_NON_PUNCTUATION

LINES = ("n_lines", "line_punct_ratio", "short_line_ratio", "char_dup_ratio", "n_newlines")
WORD_MIX = (
    "n_words",
    "n_non_symbol_words",
    "non_symbol_chars",
    "n_hashes",
    "n_ellipses",
    "n_lines",
    "n_bullet_lines",
    "n_ellipsis_lines",
    "n_alpha_words",
    "n_stop_words",
)


@numba.njit(nogil=True, cache=True)
def lines(offsets, data, props, terminal, short_length):  # type: ignore[no-untyped-def]
    """[n, 5] float64 as LINES: over the lines that are not blank; ``terminal`` [0x110000] marks the characters that end a sentence.

    ``char_dup_ratio``: characters of lines seen before / characters other than line feeds. Ratios are NaN without lines.
    """
    n = len(offsets) - 1
    out = np.full((n, 5), np.nan)
    most = np.int64(0)
    for row in range(n):
        most = max(most, count_byte(data, offsets[row], offsets[row + 1], 10) + 1)
    size = table_mask(most) + 1
    keys, stamps = np.empty(size, np.uint64), np.full(size, -1, np.int32)
    for row in range(n):
        begin, end = offsets[row], offsets[row + 1]
        newlines = count_byte(data, begin, end, 10)
        mask = table_mask(newlines + 1)
        count = ended = short = repeated_chars = 0
        while begin <= end:
            stop, value, chars, point, blank = begin, np.uint64(0), 0, np.int64(10), True
            while stop < end and data[stop] != 10:
                step = width(data[stop])
                point = decode(data, stop, step)
                blank = blank and props[point] & SPACE != 0
                for k in range(stop, stop + step):
                    value = value * BASE + np.uint64(data[k] + 1)
                chars += 1
                stop += step
            if not blank:
                count += 1
                ended += terminal[point]
                short += chars <= short_length
                slot, known = find_slot(keys, stamps, row, mask, value)
                repeated_chars += chars if known else 0
                keys[slot], stamps[slot] = value, row
            begin = stop + 1
        out[row, 0], out[row, 4] = count, newlines
        if count:
            visible = count_chars(data, offsets[row], end) - newlines
            out[row, 1], out[row, 2], out[row, 3] = ended / count, short / count, repeated_chars / visible
    return out


@numba.njit(nogil=True, cache=True)
def _line_kinds(data, at, end, props):  # type: ignore[no-untyped-def]
    """(lines, bullet lines, lines ending in an ellipsis), lines as of str.splitlines."""
    n_lines = bullets = ellipses = 0
    while at < end:
        first, last, dots, point = np.int64(-1), np.int64(-1), 0, np.int64(-1)
        while at < end:
            size = width(data[at])
            previous, point = point, decode(data, at, size)
            at += size
            if props[point] & LINE_BREAK:
                break
            if props[point] & SPACE:
                continue
            if point == 0x2E:
                dots = dots + 1 if previous == 0x2E else 1
            first, last = point if first < 0 else first, point
        if point == 13 and at < end and data[at] == 10:
            at += 1
        n_lines += 1
        bullets += first == 0x2022 or first == 0x2D
        ellipses += last == 0x2026 or (last == 0x2E and dots >= 3)
    return n_lines, bullets, ellipses


@numba.njit(nogil=True, cache=True)
def _ellipses(data, begin, end):  # type: ignore[no-untyped-def]
    """text.count("...") + text.count("…")."""
    n = 0
    k = begin
    while k < end - 2:
        three_dots = data[k] == 0x2E and data[k + 1] == 0x2E and data[k + 2] == 0x2E
        if three_dots or (data[k] == 0xE2 and data[k + 1] == 0x80 and data[k + 2] == 0xA6):
            n += 1
            k += 3
        else:
            k += 1
    return n


@numba.njit(nogil=True, cache=True)
def word_mix(offsets, data, props, starts, hashes, n_chars, flags, stop_words):  # type: ignore[no-untyped-def]
    """[n, 10] float64 as WORD_MIX. ``stop_words``: sorted uint64 word hashes; n_stop_words counts the distinct ones met."""
    n = len(offsets) - 1
    out = np.zeros((n, 10))
    met = np.full(len(stop_words), -1, np.int64)
    for row in range(n):
        begin, end = offsets[row], offsets[row + 1]
        plain = chars = alpha = stops = 0
        for k in range(starts[row], starts[row + 1]):
            alpha += (flags[k] & HAS_ALPHA) != 0
            if flags[k] & HAS_NON_PUNCTUATION:
                plain += 1
                chars += n_chars[k]
            place = np.searchsorted(stop_words, hashes[k])
            if place < len(stop_words) and stop_words[place] == hashes[k] and met[place] != row:
                met[place] = row
                stops += 1
        n_lines, bullets, ellipsis_lines = _line_kinds(data, begin, end, props)
        out[row, 0], out[row, 1], out[row, 2] = starts[row + 1] - starts[row], plain, chars
        out[row, 3], out[row, 4] = count_byte(data, begin, end, 0x23), _ellipses(data, begin, end)
        out[row, 5], out[row, 6], out[row, 7] = n_lines, bullets, ellipsis_lines
        out[row, 8], out[row, 9] = alpha, stops
    return out
