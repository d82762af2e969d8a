"""fastText's hash of a token, at once and from a padded key, against its definition."""

import numba
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.fasttext.hashes import hash_padded, hash_token
from corpus.fasttext.vocabulary import address


@numba.njit
def both(begin, n_bytes):
    return hash_token(begin, begin + n_bytes), hash_padded(begin, n_bytes)


def by_definition(token):
    """dictionary.cc: each byte as int8 enters a uint32."""
    value = 2166136261
    for byte in token:
        value = (value ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619 % 2**32
    return value


@given(st.binary(max_size=32))
@settings(max_examples=500, deadline=None)
def test_hashes_are_the_definition(token):
    key = np.frombuffer(token.ljust(32, b"\0"), np.uint8)
    assert both(address(key), len(token)) == (by_definition(token), by_definition(token))
