"""Token shards and their index, against lists of lists."""

import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.artifact import Artifact, Draft, Identity
from store.errors import ArtifactError
from store.fs import Folder
from store.tokens import TokenStore, write_token_shard

token = st.integers(0, 2**32 - 1)
shards = st.lists(st.lists(st.lists(token, max_size=6), max_size=5), max_size=4)


def write(root, documents):
    """A tokens artifact of nested lists: shards of documents of tokens."""
    draft, files, key = Draft.begin(root, Identity("tokens", 1, {})), [], 100
    for number, docs in enumerate(documents):
        flat = np.array([t for d in docs for t in d], np.uint32)
        keys = np.arange(key, key + len(docs), dtype=np.int64)
        lengths = np.array([len(d) for d in docs], np.int32)
        files += write_token_shard(draft.folder, f"{number:05}", flat, keys, lengths, lengths * 4)
        key += len(docs)
    return draft.commit(files=files, summary={"vocab_size": 2**32, "eos_id": 0})


@pytest.mark.parametrize("scheme", ["disk", "memory"])
def test_every_document_and_piece_comes_back(scheme, tmp_path):
    @settings(max_examples=40, deadline=None)
    @given(shards)
    def check(documents):
        place = uuid.uuid4().hex
        store = TokenStore.open(write(Folder(str(tmp_path / place) if scheme == "disk" else f"memory://{place}"), documents))
        flat = [d for docs in documents for d in docs]
        assert (store.n_docs, store.n_tokens) == (len(flat), sum(map(len, flat)))
        assert store.lengths.tolist() == [len(d) for d in flat] and store.n_bytes.tolist() == [4 * len(d) for d in flat]
        assert store.doc_keys.tolist() == list(range(100, 100 + len(flat)))
        for i, doc in enumerate(flat):
            assert store.tokens(i).tolist() == doc
            for start in range(len(doc) + 1):
                assert store.tokens(i, start).tolist() == doc[start:]
                assert store.tokens(i, start, 1).tolist() == doc[start : start + 1] or start == len(doc)

    check()


def test_same_tokens_same_bytes(tmp_path):
    a, b = (write(Folder(str(tmp_path / n)), [[[1, 2], [3]], [[2**32 - 1]]]).manifest for n in "ab")
    assert a == b and [f.n_rows for f in a.files if f.name.endswith(".bin")] == [3, 1]
    assert Artifact.open(Identity("tokens", 1, {}).folder(Folder(str(tmp_path / "a")))).path("tokens/00000.bin").endswith(".bin")
    assert (tmp_path / "a" / "tokens").rglob("00000.bin").__next__().read_bytes() == b"\1\0\0\0\2\0\0\0\3\0\0\0"


def test_a_shard_whose_index_does_not_add_up_is_refused(tmp_path):
    one = np.ones(1, np.int32)
    with pytest.raises(ValueError, match="1 tokens indexed, 2 given"):
        write_token_shard(Folder(str(tmp_path)), "0", np.ones(2, np.uint32), np.ones(1, np.int64), one, one)
    with pytest.raises(ValueError, match="shard 0"):
        write_token_shard(Folder(str(tmp_path)), "0", np.ones(1, np.uint32), np.ones(2, np.int64), one, one)


@pytest.mark.parametrize("scheme", ["disk", "memory"])
@pytest.mark.parametrize("size", [0, 4, 7, 16])
def test_a_shard_of_another_size_is_an_artifact_error(tmp_path, scheme, size):
    artifact = write(Folder(str(tmp_path) if scheme == "disk" else f"memory://{uuid.uuid4().hex}"), [[[1, 2], [3]]])
    artifact.folder.write_bytes("tokens/00000.bin", bytes(size))
    with pytest.raises(ArtifactError, match=rf"tokens/00000\.bin: {size} bytes on disk, 12 in the manifest"):
        TokenStore.open(artifact)


def test_a_missing_shard_and_a_damaged_or_foreign_index_are_artifact_errors(tmp_path):
    artifact = write(Folder(str(tmp_path)), [[[1, 2], [3]], [[4]]])
    good = artifact.folder.read_bytes("index/00000.parquet")
    for damage, says in (
        (b"PAR1", "index cannot be read"),
        (artifact.folder.read_bytes("index/00001.parquet"), "3 tokens on disk, 1 in"),
    ):
        artifact.folder.write_bytes("index/00000.parquet", damage)
        with pytest.raises(ArtifactError, match=says):
            TokenStore.open(artifact)
    artifact.folder.write_bytes("index/00000.parquet", good)
    assert TokenStore.open(artifact).n_docs == 3
    artifact.folder.remove("index/00001.parquet")
    with pytest.raises(ArtifactError, match="the index cannot be read"):
        TokenStore.open(artifact)
    artifact.folder.remove("tokens/00000.bin")
    with pytest.raises(ArtifactError, match="0 bytes on disk, 12"):
        TokenStore.open(artifact)


def test_a_store_of_format_1_is_read_with_sizes_that_are_not_known(tmp_path):
    artifact = write(Folder(str(tmp_path)), [[[1, 2], [3]]])
    old = pa.table({"doc_key": [5, 6], "n_tokens": pa.array([2, 1], pa.int32()), "n_bytes": pa.array([8, 4], pa.int32())})
    sink = pa.BufferOutputStream()
    pq.write_table(old, sink)
    artifact.folder.write_bytes("index/00000.parquet", sink.getvalue().to_pybytes())
    store = TokenStore.open(artifact)
    assert store.doc_keys.tolist() == [5, 6] and store.cluster_sizes.tolist() == [0, 0]


def test_cluster_sizes_come_back(tmp_path):
    one = np.ones(2, np.int32)
    draft = Draft.begin(Folder(str(tmp_path / "store")), Identity("tokens", 2, {}))
    files = write_token_shard(draft.folder, "00000", np.ones(2, np.uint32), np.arange(2), one, one, np.array([3, 2**40]))
    assert TokenStore.open(draft.commit(files=files)).cluster_sizes.tolist() == [3, 2**40]
