"""A second corpus against the first, its index, or both in one run: the same survivors. Lookups against brute force."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from corpus.dedup.index import write_index
from corpus.dedup.lookup import lookup
from corpus.dedup.signatures import KEY_BITS
from store.artifact import Draft, Identity
from store.errors import InputError
from store.executor import SerialExecutor
from store.fs import Folder


def index_of(tmp_path, artifact, name="index"):
    params = {"stages": artifact.manifest.params["stages"]}
    draft = Draft.begin(Folder(str(tmp_path / name)), Identity("index", 1, params, {"documents": artifact.fingerprint}))
    return write_index(draft, SerialExecutor(), artifact)


@pytest.mark.parametrize("params", [{}, {"min_jaccard": 0.7}, {"keep": "longest"}, {"keep": "newest"}])
def test_increments_equal_one_run_over_all(tmp_path, small, write_corpus, params) -> None:
    texts = small.corpus()
    dates = [f"20{n % 20:02d}-01-01" for n in range(120)]
    first, second = write_corpus("first", texts[:40], dates=dates[:40]), write_corpus("second", texts[40:], dates=dates[40:])
    both = write_corpus("both", texts, dates=dates)
    expected = small.clusters(small.run(tmp_path, both, name="one", **params))
    for name, earlier in (("pages", first), ("index", index_of(tmp_path, first))):
        found = small.clusters(small.run(tmp_path, second, name=name, earlier=(earlier,), **params))

        def in_both(key):  # the second corpus' unit 0 is unit 1 of both
            return key + (1 << KEY_BITS) if key < 0 else key + (1 << 32)

        assert {in_both(k): in_both(v) for k, v in found.items()} == expected and any(k < 0 for k in found)


def test_the_index_holds_no_text(tmp_path, small, write_corpus) -> None:
    artifact = write_corpus("pages", small.corpus())
    index = index_of(tmp_path, artifact)
    table = pq.read_table(index.path("kept/000000.parquet"))
    assert table.column_names == ["doc_key", "id", "url", "date", "minhash_cluster_size", "score", "shingles"]
    for entry in index.files():
        with open(index.path(entry.name), "rb") as file:
            assert b"waren es" not in file.read()


def test_lookup_finds_what_resembles_a_page_and_says_how_much(tmp_path, small, write_corpus) -> None:
    random = np.random.default_rng(5)
    pages = [small.page(random) for _ in range(90)]
    artifact = write_corpus("pages", [" ".join(p) for p in pages])
    queries = [" ".join(small.edited(pages[i], random, i % 8)) for i in (3, 50, 85)] + [" ".join(small.page(random)), ""]
    for place in (artifact, index_of(tmp_path, artifact)):
        found = lookup(place, queries)
        assert [(m.query, m.id) for m in found] == [(0, "pages-3"), (1, "pages-50"), (2, "pages-85")]
        for match, i in zip(found, (3, 50, 85), strict=True):
            mine, other = small.shingles(queries[match.query]), small.shingles(" ".join(pages[i]))
            assert match.jaccard == pytest.approx(len(mine & other) / len(mine | other), abs=1e-3)
            assert match.exact == (queries[match.query] == " ".join(pages[i])) and match.n_bands > 0
    assert lookup(artifact, queries, min_jaccard=0.999) == [m for m in lookup(artifact, queries) if m.jaccard >= 0.999]


def test_an_artifact_without_signatures_is_named(tmp_path) -> None:
    draft = Draft.begin(Folder(str(tmp_path)), Identity("documents", 1, {"stages": []}))
    with pytest.raises(InputError, match="holds no signatures"):
        lookup(draft.commit(), ["ein Text"])
