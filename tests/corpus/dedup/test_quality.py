"""The report's figures against pages whose similarity and whose bands are known."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.dedup import DedupParams, connect
from corpus.dedup.quality import BINS, jaccard, measure, meets
from corpus.dedup.signatures import Signatures
from corpus.signature import Signature
from store.artifact import Artifact, Draft, Identity
from store.errors import ArtifactError, InputError
from store.executor import SerialExecutor
from store.fs import Folder
from store.schema import CLUSTERS

STAGE = Signature()
WORDS = st.lists(st.sampled_from("abc"), max_size=9)


@given(WORDS, WORDS, st.integers(1, 4))
def test_jaccard_is_of_sets_of_ngrams(a: list[str], b: list[str], n: int) -> None:
    first, second = ({" ".join(w[i : i + n]) for i in range(len(w) - n + 1)} or {" ".join(w)} - {""} for w in (a, b))
    assert jaccard(a, b, n) == (len(first & second) / len(first | second) if first | second else 0)


def test_estimated_recall_is_what_was_found(tmp_path: Path) -> None:
    texts = edited_pairs(np.random.default_rng(1), 2500)
    documents = sign(tmp_path, texts)
    quality = measure(cluster(tmp_path, documents, len(texts)), documents, 10_000)
    bands = [set(enumerate(b)) for b in band_values(texts)]
    met, similarity = {}, {}
    for i in range(0, len(texts), 2):
        met[i], similarity[i] = bool(bands[i] & bands[i + 1]), jaccard(texts[i].split(), texts[i + 1].split(), 5)
    assert len(quality.pairs) == sum(met.values())
    judged = 0
    for found in quality.recall:
        true = [met[i] for i in met if found.low <= similarity[i] < found.high]
        if found.n >= 20 and found.found is not None:
            judged += 1
            assert found.n == sum(true)
            # The estimate's error is that of the number found: the more are missed, the larger.
            share = np.mean(true)
            assert abs(found.found - share) < 4 * np.sqrt(share * (1 - share) / len(true)) + 0.005, found
            assert found.shared is not None and found.expected is not None
            assert abs(found.shared - found.expected) < 4 * np.sqrt(14 / 4 / found.n) + 0.05, found
    assert judged >= 5


def test_theory_of_bands() -> None:
    assert [round(meets(j, 14, 8), 3) for j in (0.5, 0.8, 0.9, 1.0)] == [0.053, 0.924, 1.0, 1.0]


def test_sizes_similarity_and_numbers(tmp_path: Path) -> None:
    table = [f"Zeile mit Wert {i * 37 % 101} und noch {i * 91 % 53} Stück" for i in range(40)]
    other = [f"Zeile mit Wert {i * 17 % 89} und noch {i * 71 % 47} Stück" for i in range(40)]
    copy = " ".join(edited_pairs(np.random.default_rng(2), 1)[0].split())
    texts = [" ".join(table), " ".join(other), copy, copy.upper(), copy + "!", "ganz allein hier"]
    documents = sign(tmp_path, texts)
    quality = measure(cluster(tmp_path, documents, len(texts)), documents)
    assert (quality.n_docs, quality.n_clusters, quality.n_duplicates) == (6, 2, 3)
    assert quality.sizes == ((2, 2, 1, 2), (3, 4, 1, 3))
    by_member = {p.member.key: p for p in quality.pairs}
    assert by_member[1].differs_in_numbers and by_member[1].signed == 1.0 and by_member[1].jaccard < 0.5
    assert by_member[3].jaccard == by_member[4].jaccard == 1.0 and by_member[3].n_shared == 14 and not by_member[3].differs_in_numbers
    assert quality.share(0.8) == pytest.approx(2 / 3)
    assert [(c.size, c.n_exact, c.survivor.key, sorted(m.key for m in c.members)) for c in quality.largest] == [
        (3, 2, 2, [3, 4]),
        (2, 1, 0, [1]),
    ]
    assert [p.member.key for p in quality.spread(7)] == [1]  # copies of similarity 1 are nothing to look at


def test_the_sample_is_the_same_each_time_and_no_larger_than_asked_for(tmp_path: Path) -> None:
    texts = edited_pairs(np.random.default_rng(3), 60)
    documents = sign(tmp_path, texts)
    clusters = cluster(tmp_path, documents, len(texts))
    few, all_of_them = measure(clusters, documents, 10), measure(clusters, documents)
    assert len(few.pairs) == 10 and few == measure(clusters, documents, 10)
    assert {p.member.key for p in few.pairs} < {p.member.key for p in all_of_them.pairs}
    assert sum(r.n for r in few.recall) <= 10 and len(few.recall) == len(BINS)


def test_pages_of_earlier_corpora_are_counted_and_not_looked_for(tmp_path: Path) -> None:
    texts = edited_pairs(np.random.default_rng(4), 2)
    rows = [(-5, -5, 2, "minhash"), (0, -5, 2, "minhash"), (2, 2, 2, "minhash"), (3, 2, 2, "minhash")]
    quality = measure(written(tmp_path, rows, 4), sign(tmp_path, texts))
    assert quality.n_elsewhere == 1 and [p.member.key for p in quality.pairs] == [3]


def test_what_does_not_belong_together_is_named(tmp_path: Path) -> None:
    documents = sign(tmp_path, ["eins zwei", "drei vier"])
    with pytest.raises(ArtifactError, match="2 documents of clusters are not among the documents"):
        measure(written(tmp_path, [(70, 70, 2, "exact"), (71, 70, 2, "exact")], 9), documents)
    unsigned = Draft.begin(Folder(str(tmp_path / "x")), Identity("documents", 1, {"stages": []})).commit()
    with pytest.raises(InputError, match="holds no signatures"):
        measure(written(tmp_path, [], 9), unsigned)


def test_no_duplicates_is_no_error(tmp_path: Path) -> None:
    quality = measure(written(tmp_path, [], 2), sign(tmp_path, ["eins zwei", "drei vier"]))
    assert quality.pairs == quality.largest == quality.sizes == () and quality.found(0.8) is None


def edited_pairs(random: np.random.Generator, n_pairs: int) -> list[str]:
    """Texts of 120 different words in pairs; the second has up to a seventh of its words replaced."""
    texts = []
    for _ in range(n_pairs):
        words = ["".join(chr(97 + c) for c in w) for w in random.integers(0, 26, (140, 7))]
        other = words[:120]
        for at in random.integers(0, 120, random.integers(0, 18)):
            other[at] = words[120 + at % 20] + "x"
        texts += [" ".join(words[:120]), " ".join(other)]
    return texts


def signed(texts: list[str]) -> dict[str, pa.Array]:
    return STAGE.open({})(pa.RecordBatch.from_pydict({"text": pa.array(texts, pa.large_string())})).columns


def band_values(texts: list[str]) -> list[tuple[int, ...]]:
    columns = [c.to_pylist() for name, c in signed(texts).items() if name.startswith("band_")]
    return list(zip(*columns, strict=True))


def sign(tmp_path: Path, texts: list[str]) -> Artifact:
    """A documents artifact of two files, keys 0, 1, 2, ..."""
    folder = tmp_path / "documents"
    draft = Draft.begin(Folder(str(folder)), Identity("documents", 1, {"stages": [STAGE.model_dump(mode="json")]}))
    entries = []
    half = len(texts) // 2
    for name, rows in (("a.parquet", range(half)), ("b.parquet", range(half, len(texts)))):
        part = [texts[i] for i in rows]
        body = {"doc_key": list(rows), "id": [f"page-{i}" for i in rows], "url": ["https://a.example/x"] * len(part)}
        kept = pa.table({**body, "text": pa.array(part, pa.large_string())})
        for prefix, table in (("kept", kept), ("signatures", pa.table({"doc_key": list(rows), **signed(part)}))):
            with draft.folder.writing(f"{prefix}/{name}") as out:
                pq.write_table(table, out, row_group_size=7)
            entries.append(draft.folder.entry(f"{prefix}/{name}", n_rows=len(part)))
    return draft.commit(files=entries)


def cluster(tmp_path: Path, documents: Artifact, n: int) -> Artifact:
    entries = documents.files("signatures/")
    signatures = Signatures(tuple(documents.path(e.name) for e in entries), tuple(e.n_rows or 0 for e in entries))
    assert signatures.n_docs == n
    draft = Draft.begin(Folder(str(tmp_path / "dedup")), Identity("dedup", 1, {}))
    return connect(draft, SerialExecutor(), signatures, DedupParams())


def written(tmp_path: Path, rows: list[tuple[int, int, int, str]], n_docs: int) -> Artifact:
    """A dedup artifact of these clusters."""
    draft = Draft.begin(Folder(str(tmp_path / f"written-{n_docs}-{len(rows)}")), Identity("dedup", 1, {}))
    columns = list(zip(*rows, strict=True)) if rows else [[], [], [], []]
    with draft.folder.writing("clusters.parquet") as out:
        pq.write_table(pa.table([list(c) for c in columns], schema=CLUSTERS), out)
    return draft.commit(files=[draft.folder.entry("clusters.parquet", n_rows=len(rows))], summary={"n_docs": n_docs})
