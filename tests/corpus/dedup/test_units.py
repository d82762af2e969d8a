"""Verification, index and lookup compare the units of the signatures; corpora that were signed otherwise are refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.dedup import DedupParams, connect, require_alike, signatures_of
from corpus.dedup.index import write_index
from corpus.dedup.lookup import lookup
from corpus.dedup.quality import measure
from corpus.dedup.verify import shingle_lists
from corpus.shingles import Grams
from corpus.signature import Signature
from store.artifact import Draft, Identity
from store.errors import InputError
from store.executor import SerialExecutor
from store.fs import Folder

CHARS = Signature(unit="char", ngram=7, buckets=20, hashes_per_bucket=6)


def texts():
    """Pairs of texts without blanks: 400 random Han characters, of which 0, 3, ... 27 are others in the copy."""
    random = np.random.default_rng(1)
    out = []
    for n in range(0, 30, 3):
        first = random.integers(0x4E00, 0x9F00, 400)
        second = first.copy()
        second[np.linspace(0, 399, n).astype(int)] = random.integers(0x4E00, 0x9F00, n)
        out += ["".join(map(chr, t)) for t in (first, second)]
    return out


def grams(text, n=7):
    return {text[i : i + n] for i in range(len(text) - n + 1)}


def similarity(a, b):
    return len(grams(a) & grams(b)) / len(grams(a) | grams(b))


def test_characters_are_verified_by_characters(tmp_path, write_corpus) -> None:
    pages = texts()
    artifact = write_corpus("pages", pages, stage=CHARS)
    signatures, documents = signatures_of(artifact)
    draft = Draft.begin(Folder(str(tmp_path / "dedup")), Identity("dedup", 1, {}))
    made = connect(draft, SerialExecutor(), signatures, DedupParams(min_jaccard=0.75), documents, CHARS.grams)
    found = pq.read_table(made.path("clusters.parquet"))["doc_key"].to_pylist()
    alike = [similarity(*pages[i : i + 2]) for i in range(0, len(pages), 2)]
    assert len(found) == 2 * sum(s >= 0.75 for s in alike) > 4
    quality = measure(made, artifact)
    assert sorted(p.signed for p in quality.pairs) == pytest.approx(sorted(s for s in alike if s >= 0.75))
    assert str(quality.grams) == "character 7-grams"


def test_lookups_and_indexes_compare_characters(tmp_path, write_corpus) -> None:
    pages = texts()
    artifact = write_corpus("pages", pages[::2], stage=CHARS)
    draft = Draft.begin(Folder(str(tmp_path / "index")), Identity("index", 1, {"stages": artifact.manifest.params["stages"]}))
    for place in (artifact, write_index(draft, SerialExecutor(), artifact)):
        found = lookup(place, pages[1::2], min_jaccard=0.5)
        wanted = {i: similarity(pages[2 * i], pages[2 * i + 1]) for i in range(10)}
        assert {m.query: m.jaccard for m in found} == pytest.approx({i: s for i, s in wanted.items() if s >= 0.5}, abs=1e-3)


def test_sets_of_many_short_texts_fit(write_corpus) -> None:
    lists = shingle_lists(pa.array(["a", "", "ab", "é" * 50] * 100, pa.large_string()), Grams(2, "char"))
    assert [len(v) for v in lists.to_pylist()[:4]] == [1, 0, 1, 1]


@pytest.mark.parametrize("other", [{"seed": 2}, {"ngram": 4}, {"unit": "char"}, {"family": "datasketch"}, {"buckets": 21}])
def test_an_earlier_corpus_that_was_signed_otherwise_is_refused(write_corpus, other) -> None:
    mine = write_corpus("mine", ["eins zwei"])
    require_alike(mine, [write_corpus("alike", ["drei"])])
    stage = Signature(**{"buckets": 20, "hashes_per_bucket": 6, **other})
    with pytest.raises(InputError, match=f"another {next(iter(other))}"):
        require_alike(mine, [write_corpus("other", ["drei"], stage=stage)])


def test_signatures_of_another_version_are_refused(tmp_path) -> None:
    params = {"stages": [{**Signature().model_dump(mode="json"), "version": Signature.version - 1}]}
    artifact = Draft.begin(Folder(str(tmp_path)), Identity("documents", 1, params)).commit()
    with pytest.raises(InputError, match=f"of version {Signature.version - 1}"):
        lookup(artifact, ["ein Text"])
