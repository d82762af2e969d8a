"""UTF-8 in compiled kernels: decoding, and what a code point is, as one table of bit flags.

The kernels trust their input to be valid UTF-8 (Arrow strings are), so decoding has no error path. Character properties are those of
the running Python's Unicode database, as in the oracles; the rules' own character lists are datatrove 0.10.1's
(datatrove.utils.text: PUNCTUATION and TERMINAL_PUNCTUATION, the latter being Unicode's Sentence_Terminal) as code point ranges.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import numba
import numpy as np
import numpy.typing as npt

# Python 3.11 assigns nothing between here and the plane-14 tags and variation selectors.
LAST_ASSIGNED = 0x32400
VARIATION_SELECTORS = range(0xE0100, 0xE01F0)

ALPHA, WORD, SPACE, PUNCTUATION, LINE_BREAK, DIGIT, UPPER, LOWER = (1 << bit for bit in range(8))

SENTENCE_TERMINALS = """
21 2E 3F 589 61D-61F 6D4 700-702 7F9 837 839 83D-83E 964-965 104A-104B 1362 1367-1368 166E 1735-1736 17D4-17D6 17D9-17DA 1803 1809
1944-1945 1AA8-1AAB 1B5A-1B5B 1B5E-1B5F 1B7D-1B7E 1C3B-1C3C 1C7E-1C7F 203C-203D 2047-2049 2E2E 2E3C 2E53-2E54 3002 A4FF A60E-A60F
A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F AAF0-AAF1 ABEB FE52 FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 10F55-10F59
10F86-10F89 11047-11048 110BE-110C1 11141-11143 111C5-111C6 111CD 111DE-111DF 11238-11239 1123B-1123C 112A9 1144B-1144C 115C2-115C3
115C9-115D7 11641-11642 1173C-1173E 11944 11946 11A42-11A43 11A9B-11A9C 11C41-11C42 11EF7-11EF8 11F43-11F44 16A6E-16A6F 16AF5
16B37-16B38 16B44 16E98 1BC9F 1DA88
"""
OTHER_PUNCTUATION = """
0-8 B-1F 22-2D 2F 3A-3E 40 5B-60 7B-9F AB B4 BB 2013-2014 2019 201C-201E 2026 2236 2501 25BA 3001 3008-300D 3010-3011 FF05
FF08-FF09 FF0C FF11 FF1A-FF1B FF5E
"""


def points(ranges: str) -> list[int]:
    """Code points of "21 2E 61D-61F" (hexadecimal, inclusive)."""
    out: list[int] = []
    for part in ranges.split():
        first, _, last = part.partition("-")
        out.extend(range(int(first, 16), int(last or first, 16) + 1))
    return out


@lru_cache(maxsize=1)
def properties() -> npt.NDArray[np.uint8]:
    """[0x110000] uint8 of flags ALPHA | WORD | SPACE | PUNCTUATION | LINE_BREAK | DIGIT | UPPER | LOWER.

    ALPHA, SPACE, UPPER and LOWER are str.isalpha, isspace, isupper and islower; WORD is a letter, number or combining mark;
    LINE_BREAK is where str.splitlines cuts; PUNCTUATION is datatrove's set.
    """
    table = np.zeros(0x110000, np.uint8)
    for point in range(LAST_ASSIGNED):
        char = chr(point)
        flags = (ALPHA if char.isalpha() else 0) | (SPACE if char.isspace() else 0)
        flags |= (UPPER if char.isupper() else 0) | (LOWER if char.islower() else 0) | (DIGIT if char.isdigit() else 0)
        table[point] = flags | (WORD if unicodedata.category(char)[0] in "LNM" else 0)
    table[list(VARIATION_SELECTORS)] = WORD
    table[points(SENTENCE_TERMINALS) + points(OTHER_PUNCTUATION)] |= PUNCTUATION
    table[points("A-D 1C-1E 85 2028-2029")] |= LINE_BREAK
    return table


@numba.njit(nogil=True, cache=True, inline="always")
def width(first):  # type: ignore[no-untyped-def]
    """Bytes of the character that begins with this byte."""
    if first < 0x80:
        return 1
    if first < 0xE0:
        return 2
    return 3 if first < 0xF0 else 4


@numba.njit(nogil=True, cache=True, inline="always")
def decode(data, at, size):  # type: ignore[no-untyped-def]
    """Code point of the ``size`` bytes at ``at``."""
    first = np.int64(data[at])
    if size == 1:
        return first
    if size == 2:
        return ((first & 0x1F) << 6) | (data[at + 1] & 0x3F)
    if size == 3:
        return ((first & 0x0F) << 12) | (np.int64(data[at + 1] & 0x3F) << 6) | (data[at + 2] & 0x3F)
    high = ((first & 0x07) << 18) | (np.int64(data[at + 1] & 0x3F) << 12)
    return high | (np.int64(data[at + 2] & 0x3F) << 6) | (data[at + 3] & 0x3F)
