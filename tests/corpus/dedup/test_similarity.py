"""Sets and comparisons against Python's sets."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.columns import text_buffers
from corpus.dedup.similarity import REFERENCES, Resemblance, jaccard, shingle_sets
from corpus.minhash import padded
from corpus.shingles import Grams

SETS = st.lists(st.frozensets(st.integers(0, 12), max_size=8), min_size=1, max_size=12)


def array_of(values) -> np.ndarray:
    return np.array(sorted(values), np.uint32)


def true_jaccard(a, b) -> float:
    return len(a & b) / len(a | b) if a and b else 0.0


@settings(max_examples=500, deadline=None)
@given(st.frozensets(st.integers(0, 40)), st.frozensets(st.integers(0, 40)), st.sampled_from([0.0, 0.3, 0.5, 0.7, 0.8, 0.95, 1.0]))
def test_similarity_is_exact_where_it_matters(a, b, least) -> None:
    found, true = float(jaccard(array_of(a), array_of(b), least)), true_jaccard(a, b)
    assert found == true if true >= least and a and b else found < least or found == -1.0 or found == true


@settings(max_examples=200, deadline=None)
@given(SETS, SETS, st.sampled_from([0.3, 0.6, 1.0]), st.integers(1, 5))
def test_small_components_are_joined_as_by_comparing_all_pairs(first, second, least, per_call) -> None:
    documents = [(0, s) for s in first] + [(1, s) for s in second]
    documents = documents[::2] + documents[1::2]  # components alternate
    made = Resemblance(2, least)
    for at in range(0, len(documents), per_call):
        part = documents[at : at + per_call]
        offsets = np.cumsum([0, *(len(s) for _, s in part)])
        values = np.concatenate([array_of(s) for _, s in part])
        made.add(np.array([c for c, _ in part]), np.arange(at, at + len(part), dtype=np.uint32), offsets, values)
    of = list(range(len(documents)))
    for i, (c, a) in enumerate(documents):
        for j, (d, b) in enumerate(documents[:i]):
            if c == d and true_jaccard(a, b) >= least:
                of = [of[j] if x == of[i] else x for x in of]
    joined = list(range(len(documents)))
    for a, b in made.found().tolist():
        joined = [joined[a] if x == joined[b] else x for x in joined]
        assert a < b
    assert {frozenset(i for i in range(len(of)) if of[i] == x) for x in of} == {
        frozenset(i for i in range(len(of)) if joined[i] == x) for x in joined
    }


def test_a_million_copies_cost_a_million_comparisons() -> None:
    n, words = 1_000_000, np.arange(20, dtype=np.uint32)
    made = Resemblance(1, 0.8)
    for at in range(0, n, 50_000):
        made.add(
            np.zeros(50_000, np.int64), np.arange(at, at + 50_000, dtype=np.uint32), np.arange(0, 50_001) * 20, np.tile(words, 50_000)
        )
    assert len(made.found()) == made.n_compared == n - 1


def test_references_are_bounded() -> None:
    n = 500
    made = Resemblance(1, 0.8)
    made.add(np.zeros(n, np.int64), np.arange(n, dtype=np.uint32), np.arange(n + 1) * 5, np.arange(n * 5, dtype=np.uint32))
    assert len(made.found()) == 0 and made.n_compared <= n * REFERENCES


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=12), min_size=1, max_size=4), st.integers(1, 4))
def test_sets_are_the_distinct_shingles(documents, ngram) -> None:
    texts = [" ".join(d) for d in documents]
    offsets, data = text_buffers(pa.array(texts, pa.large_string()))
    ends, values = shingle_sets(offsets, padded(data, int(offsets[-1])), Grams(ngram))
    for i, words in enumerate(documents):
        grams = {tuple(words[k : k + ngram]) for k in range(max(1, len(words) - ngram + 1))} if words else set()
        mine = values[ends[i] : ends[i + 1]].tolist()
        assert len(mine) == len(grams) and mine == sorted(set(mine))
