"""Lower case is polars', for every character and for sigmas in every company."""

import numba
import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.fasttext.lower_case import fold_table, lower_into
from corpus.fasttext.memory import fold_key
from corpus.fasttext.vocabulary import address


def lowered(text):
    body = np.frombuffer(text.encode() + bytes(8), np.uint8)
    room = np.zeros(2 * len(body) + 8, np.uint8)
    end = len(text.encode())
    stop = lower_into(address(room), address(body), address(body) + end, address(fold_table()))
    return room[: stop - address(room)].tobytes().decode()


def test_every_character():
    points = [chr(c) for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]
    for first in range(0, len(points), 4096):
        text = " ".join(points[first : first + 4096])
        assert lowered(text) == pl.Series([text]).str.to_lowercase()[0]


@given(
    st.text(st.sampled_from("ΣσςaA\u0345\u0301\u02b0'.İi\u1e9eẞ\u00ad1🅰ǅ日-") | st.characters(exclude_categories=["Cs"]), max_size=12)
)
@settings(max_examples=500, deadline=None)
def test_sigmas_in_context(text):
    assert lowered(text) == pl.Series([text], dtype=pl.String).str.to_lowercase()[0]


@numba.njit
def fold(target, source):
    return fold_key(target, source)


def folded(token):
    """What fold_key writes, and whether it says that it is right."""
    key, room = np.zeros(32, np.uint8), np.zeros(32, np.uint8)
    body = token.encode()
    key[: len(body)] = np.frombuffer(body, np.uint8)
    simple = fold(address(room), address(key))
    return room.tobytes(), simple


def test_keys_are_folded_at_once_or_not_at_all():
    """Alone, behind and before a capital, and at the end of a key; every character below 256 at once."""
    tokens = []
    for c in (chr(c) for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000):
        tokens += [c, f"Ä{c}Z", "X" * (32 - len(c.encode())) + c] if ord(c) < 0x3000 else [c]
    for token, expected in zip(tokens, pl.Series(tokens).str.to_lowercase(), strict=True):
        found, simple = folded(token)
        assert simple == all(ord(c) < 256 for c in token)
        assert not simple or found == expected.encode().ljust(32, b"\0")
