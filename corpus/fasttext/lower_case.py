"""Lower-casing of single tokens, compiled, character for character what polars' ``str.to_lowercase`` gives.

A classifier is trained on text that polars lower-cased (corpus.stages.fasttext_text). Here the same happens to a token only when it is
met for the first time, which costs nothing on the way. The table is asked of polars itself, once per process (about 0.3 s), so it
follows its Unicode version. Two rules go beyond a table (Unicode 3.13, SpecialCasing): U+0130 becomes two characters, and a capital
sigma at a word's end becomes the final one. The latter looks at neighbouring letters only, never beyond white space, so a token is
enough context.
"""

from __future__ import annotations

import functools

import numba
import numpy as np
import numpy.typing as npt
import polars as pl

from corpus.fasttext.memory import byte_at, int32_at, put_byte, put_word, trailing_zeros, word_at

N_CODE_POINTS = 0x110000
CASED, IGNORABLE = 1 << 24, 1 << 25
"""Bits beside a code point's lower case: whether it decides, or is passed over, when a sigma looks for letters."""
POINT = (1 << 24) - 1
HIGH_BITS, LOW_BITS = np.uint64(0x8080808080808080), np.uint64(0x7F7F7F7F7F7F7F7F)
SIGMA, FINAL_SIGMA = 0x3A3, 0x3C2
DOTTED_I, DOT_ABOVE = 0x130, 0x307


@functools.cache
def fold_table() -> npt.NDArray[np.int32]:
    """[0x110000] int32: the lower case of every code point, with CASED and IGNORABLE as polars' final-sigma rule shows them."""
    # Surrogates are no characters: a blank stands in their place and is never looked up.
    points = pl.Series([chr(c) if not 0xD800 <= c < 0xE000 else " " for c in range(N_CODE_POINTS)])
    lower = points.str.to_lowercase().str.slice(0, 1).to_list()
    cased = (points + "\u03a3").str.to_lowercase().str.ends_with("\u03c2").to_numpy()
    either = ("a" + points + "\u03a3").str.to_lowercase().str.ends_with("\u03c2").to_numpy()
    table = np.fromiter(map(ord, lower), np.int32, N_CODE_POINTS)
    table |= np.where(cased, np.int32(CASED), np.int32(0)) | np.where(either & ~cased, np.int32(IGNORABLE), np.int32(0))
    table.setflags(write=False)
    return table


@numba.njit(nogil=True, cache=True)
def width_at(at):  # type: ignore[no-untyped-def]
    """Bytes of the UTF-8 character at an address."""
    first = byte_at(at)
    if first < 0x80:
        return 1
    if first < 0xE0:
        return 2
    return 3 if first < 0xF0 else 4


@numba.njit(nogil=True, cache=True)
def point_at(at):  # type: ignore[no-untyped-def]
    """Code point of the UTF-8 character at an address."""
    first = byte_at(at)
    if 0xC0 <= first < 0xE0:
        return (first & 0x1F) << 6 | byte_at(at + 1) & 0x3F
    size = width_at(at)
    if size == 1:
        return first
    point = first & (0x7F >> size)
    for k in range(1, size):
        point = (point << 6) | (byte_at(at + k) & 0x3F)
    return point


@numba.njit(nogil=True, cache=True)
def put_point(to, point):  # type: ignore[no-untyped-def]
    """Write a code point as UTF-8; returns the address behind it."""
    if point < 0x80:
        put_byte(to, point)
        return to + 1
    if point < 0x800:
        put_byte(to, 0xC0 | point >> 6)
        put_byte(to + 1, 0x80 | point & 0x3F)
        return to + 2
    size = 3 if point < 0x10000 else 4
    for k in range(size - 1, 0, -1):
        put_byte(to + k, 0x80 | (point & 0x3F))
        point >>= 6
    put_byte(to, (0xF00 >> size) & 0xFF | point)
    return to + size


@numba.njit(nogil=True, cache=True)
def ends_word(begin, at, end, table):  # type: ignore[no-untyped-def]
    """Whether the sigma at ``at`` follows a cased letter and precedes none, case-ignorable characters passed over."""
    k = at
    before = False
    while k > begin and not before:
        k -= 1
        while k > begin and byte_at(k) & 0xC0 == 0x80:
            k -= 1
        found = int32_at(table + 4 * point_at(k))
        before = found & CASED != 0
        if not before and found & IGNORABLE == 0:
            return False
    k = at + 2
    while before and k < end:
        found = int32_at(table + 4 * point_at(k))
        if found & CASED:
            return False
        if found & IGNORABLE == 0:
            return True
        k += width_at(k)
    return before


@numba.njit(nogil=True, cache=True)
def lower_into(to, begin, end, table):  # type: ignore[no-untyped-def]
    """Write the lower case of the UTF-8 bytes from begin to end; returns the address behind it. Room: 1.5 times the input."""
    at = begin
    while at < end:
        word = word_at(at)
        # Eight characters of one byte, or as many as there are before another; what is written behind the last is written over.
        step = min(trailing_zeros(word & HIGH_BITS) >> 3, end - at)
        if step > 0:
            capital = (
                ((word & LOW_BITS) + np.uint64(0x3F3F3F3F3F3F3F3F)) & ~((word & LOW_BITS) + np.uint64(0x2525252525252525)) & HIGH_BITS
            )
            put_word(to, word | (capital >> np.uint64(2)))
            to += step
            at += step
            continue
        point = point_at(at)
        if point == SIGMA:
            to = put_point(to, FINAL_SIGMA if ends_word(begin, at, end, table) else SIGMA + 32)
        else:
            to = put_point(to, int32_at(table + 4 * point) & POINT)
            if point == DOTTED_I:
                to = put_point(to, DOT_ABOVE)
        at += width_at(at)
    return to
