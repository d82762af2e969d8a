"""Pages as words, for the rules that count them: one compiled split per batch.

The rule follows what datatrove does for most European languages (spaCy's language-neutral punctuation rules) without its lists of
abbreviations: white space ends a word; a letter, number or combining mark continues one; any other character between two of those
either joins them ("E-Mail", "3,5", "a_b") or, like every remaining character, is a word of its own; a full stop that cannot end a
sentence ("z. B.", "Nr. 5", "bzw. der") and a hyphen stay with their word. A row of full stops is one word.

A word is kept as a 64-bit hash, never as a string: polynomial in its bytes modulo 2^64, so that the hash of a joined n-gram follows
from its words' hashes in constant time. Two different n-grams of ordinary text collide with probability about 2^-64; text made on
purpose can collide, which would move a statistic, not corrupt data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.columns import text_buffers
from corpus.stages.code_points import ALPHA, DIGIT, LOWER, PUNCTUATION, SPACE, UPPER, WORD, decode, properties, width

BASE = np.uint64(0x9E3779B97F4A7C15)
"""Base of the polynomial hash; odd, so that multiplication loses nothing."""

HAS_ALPHA, HAS_NON_PUNCTUATION = 1, 2


@dataclass(frozen=True)
class Words:
    """The words of a batch; row i's are [starts[i], starts[i + 1]).

    Attributes:
        starts: [n + 1] int64.
        hashes: [n_words] uint64.
        n_bytes, n_chars: [n_words] int32.
        flags: [n_words] uint8, HAS_ALPHA | HAS_NON_PUNCTUATION (any character outside datatrove's punctuation).
    """

    starts: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint64]
    n_bytes: npt.NDArray[np.int32]
    n_chars: npt.NDArray[np.int32]
    flags: npt.NDArray[np.uint8]


def words_of(column: pa.Array) -> Words:
    """The words of a text column."""
    return Words(*_split(*text_buffers(column), properties()))


def word_hash(word: str) -> int:
    """The hash under which a word of this spelling appears in :class:`Words`."""
    value = 0
    for byte in word.encode():
        value = (value * int(BASE) + byte + 1) & 0xFFFFFFFFFFFFFFFF
    return value


@numba.njit(nogil=True, cache=True)
def _joins(point, flags_before, flags_after):  # type: ignore[no-untyped-def]
    """Whether a character other than letter, number and mark joins its neighbours, both of which are."""
    both = flags_before & flags_after
    if point == 0x2E:  # "Ende.Neuer" are two words, "z.B" and "1.000" one
        return not (flags_before & LOWER and flags_after & UPPER)
    if point == 0x2D:  # "E-Mail", but "10-20" is a range
        return not both & DIGIT
    if point == 0x2F:
        return False
    if point in (0x21, 0x22, 0x28, 0x29, 0x2C, 0x3A, 0x3C, 0x3D, 0x3E, 0x3F, 0x5B, 0x5D) or point == 0x60 or point == 0xB4:
        return not both & ALPHA
    if 0x2018 <= point <= 0x201F or point == 0xAB or point == 0xBB:
        return not both & ALPHA
    return point != 0x2026


@numba.njit(nogil=True, cache=True)
def _stop_belongs(data, beyond, end, props, chars, last_kind):  # type: ignore[no-untyped-def]
    """Whether the full stop before ``beyond`` belongs to the word of ``chars`` characters before it, because it ends no sentence."""
    if chars == 1 and last_kind & ALPHA:  # "z. B.", "J. S. Bach"
        return True
    if beyond < end and not props[decode(data, beyond, width(data[beyond]))] & SPACE:
        return False
    if last_kind & DIGIT:  # "3. Tag"
        return True
    if beyond + 1 >= end:
        return False
    following = props[decode(data, beyond + 1, width(data[beyond + 1]))] if data[beyond] == 0x20 else 0
    return following & LOWER != 0 or (following & DIGIT != 0 and chars <= 3)  # "bzw. der", "Abs. 2"


@numba.njit(nogil=True, cache=True)
def _solo_end(data, at, end, point):  # type: ignore[no-untyped-def]
    """(end, characters) of the rest of a word that is no letter or number: a row of full stops stays together."""
    chars = 1
    while point == 0x2E and at < end and data[at] == 0x2E:
        at += 1
        chars += 1
    return at, chars


@numba.njit(nogil=True, cache=True)
def _word_end(data, at, end, props, after_word):  # type: ignore[no-untyped-def]
    """(end, characters, flags) of the word that begins at ``at``; ``after_word``: directly behind a letter or number."""
    size = width(data[at])
    point = decode(data, at, size)
    kind = props[point]
    seen = (HAS_ALPHA if kind & ALPHA else 0) | (0 if kind & PUNCTUATION else HAS_NON_PUNCTUATION)
    at += size
    chars = 1
    if not kind & WORD:
        opens = not after_word and (point == 0x2D or point == 0x2F) and at < end
        if not (opens and props[decode(data, at, width(data[at]))] & WORD):  # "-fach" and "/dev" are words
            at, chars = _solo_end(data, at, end, point)
            return at, chars, seen
    last_kind = kind
    while at < end:
        size = width(data[at])
        point = decode(data, at, size)
        kind = props[point]
        if not kind & WORD:
            if kind & SPACE:
                break
            beyond = at + size
            if point == 0x2E and _stop_belongs(data, beyond, end, props, chars, last_kind):
                chars += 1
                at = beyond
                if last_kind & LOWER:  # "z.B." is "z." and "B.", but "U.S." is one word
                    break
                last_kind = kind
                continue
            after = decode(data, beyond, width(data[beyond])) if beyond < end else np.int64(32)
            inner = props[after] & WORD and last_kind & WORD
            if not (_joins(point, last_kind, props[after]) if inner else point == 0x2D and last_kind & WORD):
                break
        seen |= (HAS_ALPHA if kind & ALPHA else 0) | (0 if kind & PUNCTUATION else HAS_NON_PUNCTUATION)
        chars += 1
        at += size
        last_kind = kind
    return at, chars, seen


@numba.njit(nogil=True, cache=True)
def _grown(array, size):  # type: ignore[no-untyped-def]
    """The array with room for ``size`` elements."""
    out = np.empty(size, array.dtype)
    out[: len(array)] = array
    return out


@numba.njit(nogil=True, cache=True)
def _split(offsets, data, props):  # type: ignore[no-untyped-def]
    """The five arrays of Words."""
    n = len(offsets) - 1
    room = (offsets[n] - offsets[0]) // 4 + 1024
    starts = np.zeros(n + 1, np.int64)
    hashes, n_bytes, n_chars = np.empty(room, np.uint64), np.empty(room, np.int32), np.empty(room, np.int32)
    flags = np.empty(room, np.uint8)
    count = 0
    for row in range(n):
        at, end = offsets[row], offsets[row + 1]
        if count + (end - at) > room:  # no more words than bytes
            room = 2 * room + (end - at)
            hashes, n_bytes, n_chars, flags = _grown(hashes, room), _grown(n_bytes, room), _grown(n_chars, room), _grown(flags, room)
        after_word = False
        while at < end:
            size = width(data[at])
            if props[decode(data, at, size)] & SPACE:
                at += size
                after_word = False
                continue
            stop, chars, seen = _word_end(data, at, end, props, after_word)
            after_word = seen & HAS_NON_PUNCTUATION != 0
            value = np.uint64(0)
            for k in range(at, stop):
                value = value * BASE + np.uint64(data[k] + 1)
            hashes[count], n_bytes[count], n_chars[count], flags[count] = value, stop - at, chars, seen
            count += 1
            at = stop
        starts[row + 1] = count
    return starts, hashes[:count], n_bytes[:count], n_chars[:count], flags[:count]
