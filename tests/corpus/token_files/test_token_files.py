"""Token shards to and from datatrove and Megatron-LM: their own reader and writer agree, nothing is lost on a way and back, and what
does not belong together is refused by name."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from corpus.token_files import datatrove, megatron
from corpus.token_files import shard as shard_module
from corpus.token_files.export import export_tokens
from corpus.token_files.imports import import_tokens
from corpus.tokenizer import load_tokenizer, tokenizer_digest, train_tokenizer
from store.artifact import Artifact, Draft, Identity
from store.errors import ArtifactError, InputError
from store.fs import Folder
from store.tokens import TokenStore, write_token_shard

TEXTS = [f"Befund {i}: Fieber seit {i % 7} Tagen, Größe {150 + i % 40} cm." for i in range(150)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("tokenizer"))
    train_tokenizer(iter(TEXTS), 600, Folder(folder))
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tokenizer: str) -> Artifact:
    loaded = load_tokenizer(tokenizer)
    draft = Draft.begin(Folder(str(tmp_path_factory.mktemp("store"))), Identity("tokens", 2, {}))
    files = []
    for number, part in enumerate((TEXTS[:90], [], TEXTS[90:])):
        ids = [[*e.ids, loaded.eos_id] for e in loaded.tokenizer.encode_batch(part)]
        n, flat = np.array([len(i) for i in ids], np.int32), np.array([t for i in ids for t in i], np.uint32)
        keys, sizes = np.arange(len(part)) * 3 + number, np.arange(1, len(part) + 1)
        n_bytes = np.array([len(t.encode()) for t in part], np.int32)
        files += write_token_shard(draft.folder, f"{number:05d}", flat, keys, n, n_bytes, sizes)
    summary = {"vocab_size": loaded.vocab_size, "eos_id": loaded.eos_id, "tokenizer": tokenizer_digest(tokenizer)}
    return draft.commit(files=files, summary=summary)


@pytest.fixture(params=["datatrove", "megatron"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def exported(tmp_path: Path, store: Artifact, kind: str) -> Folder:
    folder = Folder(str(tmp_path / "shards"))
    export_tokens(store, folder, kind)
    return folder


def tokens_file(kind: str) -> str:
    return "00000.ds" if kind == "datatrove" else "00000.bin"


def test_there_and_back_is_the_same_store(tmp_path: Path, store: Artifact, exported: Folder, kind: str, tokenizer: str) -> None:
    back = import_tokens(exported, Folder(str(tmp_path / "back")), kind, tokenizer)
    was, now = ({f.name: f.sha256 for f in a.files() if f.n_rows} for a in (store, back))
    # A shard without documents needs no shard of its own on the way back.
    assert list(now.values()) == [d for n, d in was.items()] and len(now) == 4
    opened = TokenStore.open(back)
    assert opened.cluster_sizes.tolist() == [*range(1, 91), *range(1, 61)]
    assert back.manifest.summary["tokenizer"] == store.manifest.summary["tokenizer"]
    assert back.manifest.counts["closed_here"] == 0
    again = import_tokens(exported, Folder(str(tmp_path / "back")), kind, tokenizer)
    assert again.manifest == back.manifest


@pytest.mark.parametrize("wide", [False, True])
def test_datatrove_reads_what_is_written(tmp_path: Path, store: Artifact, tokenizer: str, wide: bool) -> None:
    dataset = pytest.importorskip("datatrove.utils.dataset")
    if wide:
        summary = {**store.manifest.summary, "vocab_size": 100_000}
        store = Artifact(store.folder, store.manifest.model_copy(update={"summary": summary}))
    export_tokens(store, Folder(str(tmp_path)), "datatrove")
    flat = np.concatenate(TokenStore.open(store).shards).astype(np.int64)
    one = TokenStore.open(store).shards[0].astype(np.int64)
    size, T = 4 if wide else 2, 16
    files = dataset.DatatroveFileDataset(str(tmp_path / "00000.ds"), T, token_size=size, return_positions=True)
    assert len(files) == len(one) // (T + 1)
    ends = set(np.cumsum(TokenStore.open(store).lengths).tolist())
    for i in range(len(files)):
        found = files[i]
        assert found["input_ids"].tolist() == one[i * (T + 1) : (i + 1) * (T + 1)].tolist()
        starts = np.flatnonzero(found["positions"].numpy() == 0)[1:] + i * (T + 1)
        assert set(starts.tolist()) == {e for e in ends if i * (T + 1) < e < (i + 1) * (T + 1)}
    folder = dataset.DatatroveFolderDataset(str(tmp_path), 0, filename_pattern="*.ds", token_size=size)
    assert [int(folder[i]["input_ids"][0]) for i in range(len(folder))] == flat.tolist()


@pytest.mark.parametrize("size", [2, 4])
def test_shards_of_datatroves_own_writers_are_read(tmp_path: Path, store: Artifact, tokenizer: str, kind: str, size: int) -> None:
    module = pytest.importorskip(f"datatrove.pipeline.tokens.{'tokenizer' if kind == 'datatrove' else 'megatron_tokenizer'}")
    opened, source = TokenStore.open(store), tmp_path / "theirs"
    docs = [opened.tokens(d).tolist() for d in range(opened.n_docs)]
    if kind == "datatrove":
        file = module.TokenizedFile(
            str(source), "x.ds", save_index=True, tokenizer_name_or_path=tokenizer, save_final_metadata=True, token_size=size
        )
        for doc in docs:
            file.write(doc, None)
    else:
        file = module.MegatronTokenizedFile(str(source), "x", token_size=size)
        for doc in docs:
            file.write(doc)
    file.close()
    back = TokenStore.open(import_tokens(Folder(str(source)), Folder(str(tmp_path / "back")), kind, tokenizer))
    assert [back.tokens(d).tolist() for d in range(back.n_docs)] == docs
    assert back.n_bytes.tolist() == opened.n_bytes.tolist()  # counted by decoding
    assert back.doc_keys.tolist() == list(range(len(docs))) and not back.cluster_sizes.any()


def test_megatrons_index_is_as_documented(tmp_path: Path, store: Artifact) -> None:
    export_tokens(store, Folder(str(tmp_path)), "megatron")
    body, opened = (tmp_path / "00000.idx").read_bytes(), TokenStore.open(store)
    lengths = opened.lengths[:90]
    assert body[:9] == b"MMIDIDX\0\0" and struct.unpack("<Q", body[9:17]) == (1,) and body[17] == 8
    assert struct.unpack("<QQ", body[18:34]) == (90, 91)
    assert struct.unpack("<90i", body[34:394]) == tuple(lengths)
    assert struct.unpack("<90q", body[394:1114]) == tuple(2 * (np.cumsum(lengths) - lengths))
    assert struct.unpack("<91q", body[1114:]) == tuple(range(91))


@pytest.mark.parametrize(("vocab_size", "of_datatrove", "of_megatron"), [
    (65_499, "<u2", "<u2"), (65_500, "<u2", "<i4"), (65_536, "<u2", "<i4"), (65_537, "<u4", "<i4"), (151_669, "<u4", "<i4"),
])  # fmt: skip
def test_the_type_of_ids_is_the_one_each_program_takes_for_a_vocabulary(vocab_size: int, of_datatrove: str, of_megatron: str) -> None:
    """Megatron-LM: indexed_dataset.DType.optimal_dtype; datatrove: token_size of its tokenizer step."""
    assert (datatrove.dtype_for(vocab_size), megatron.dtype_for(vocab_size)) == (np.dtype(of_datatrove), np.dtype(of_megatron))


def test_documents_of_several_sequences_are_one(tmp_path: Path, tokenizer: str) -> None:
    (tmp_path / "x.bin").write_bytes(np.array([5, 6, 7, 0, 8, 0], "<u2").tobytes())
    head = struct.pack("<9sQBQQ", b"MMIDIDX\0\0", 1, 8, 3, 3)
    (tmp_path / "x.idx").write_bytes(head + struct.pack("<3i3q3q", 2, 2, 2, 0, 4, 8, 0, 2, 3) + bytes(3))  # and modes
    back = TokenStore.open(import_tokens(Folder(str(tmp_path)), Folder(str(tmp_path / "back")), "megatron", tokenizer))
    assert [back.tokens(d).tolist() for d in range(2)] == [[5, 6, 7, 0], [8, 0]]


def test_long_shards_are_split_at_documents(
    tmp_path: Path, exported: Folder, store: Artifact, kind: str, tokenizer: str, monkeypatch
) -> None:
    monkeypatch.setattr(shard_module, "PART_TOKENS", 100)
    back = TokenStore.open(import_tokens(exported, Folder(str(tmp_path / "back")), kind, tokenizer))
    was = TokenStore.open(store)
    assert len(back.shards) > 10 and max(len(s) for s in back.shards) <= 100
    assert np.array_equal(np.concatenate(back.shards), np.concatenate(was.shards))
    for column in ("lengths", "n_bytes", "doc_keys", "cluster_sizes"):
        assert np.array_equal(getattr(back, column), getattr(was, column))


def test_a_document_that_is_not_closed_is_closed_and_counted(tmp_path: Path, tokenizer: str) -> None:
    (tmp_path / "x.ds").write_bytes(np.array([5, 6, 0, 7, 8, 0, 9], "<u2").tobytes())
    (tmp_path / "x.ds.index").write_bytes(np.array([3, 4, 6, 6, 7], "<u8").tobytes())
    with pytest.raises(InputError, match=r"3 of 5 documents do not end in <\|endoftext\|> \(id 0\)"):
        import_tokens(Folder(str(tmp_path)), Folder(str(tmp_path / "no")), "datatrove", tokenizer)
    (tmp_path / "x.ds.index").write_bytes(np.array([3, 6, 7], "<u8").tobytes())
    made = import_tokens(Folder(str(tmp_path)), Folder(str(tmp_path / "back")), "datatrove", tokenizer)
    back = TokenStore.open(made)
    assert [back.tokens(d).tolist() for d in range(3)] == [[5, 6, 0], [7, 8, 0], [9, 0]] and made.manifest.counts["closed_here"] == 1


# ------------------------------------------------------------------------------------------------------------------------- refusals


def refused(source: Folder, kind: str, tokenizer: str, tmp_path: Path, match: str, **more: str) -> None:
    with pytest.raises(InputError, match=match):
        import_tokens(source, Folder(str(tmp_path / "refused")), kind, tokenizer, **more)


def without_note(exported: Folder) -> Folder:
    exported.remove("definemed.json")
    return exported


def test_a_wrong_tokenizer_is_refused(tmp_path: Path, exported: Folder, kind: str) -> None:
    other = str(tmp_path / "other")
    train_tokenizer(iter(["ganz andere Worte " * 50]), 520, Folder(other))
    refused(exported, kind, other, tmp_path, "made with another tokenizer")
    if kind == "datatrove":
        refused(without_note(exported), kind, other, tmp_path, r"00000\.ds: the shard says that it was made with the tokenizer sha256:")


def test_another_name_of_the_same_tokenizer_can_be_said(tmp_path: Path, store: Artifact, tokenizer: str) -> None:
    source = Folder(str(tmp_path / "s"))
    export_tokens(store, source, "datatrove")
    for name in ("00000", "00001", "00002"):
        source.write_bytes(f"{name}.ds.metadata", b"acme/model-7B|2\n1\n1")
    without_note(source)
    refused(source, "datatrove", tokenizer, tmp_path, "tokenizer acme/model-7B, not")
    assert (
        import_tokens(source, Folder(str(tmp_path / "back")), "datatrove", tokenizer, written_by="acme/model-7B").manifest.counts[
            "read"
        ]
        == 150
    )


def test_a_vocabulary_too_small_is_refused(tmp_path: Path, exported: Folder, kind: str) -> None:
    small = str(tmp_path / "small")
    train_tokenizer(iter(["ab"]), 512, Folder(small))
    said = {} if kind == "megatron" else {"written_by": json.loads(exported.read_bytes("definemed.json"))["tokenizer"]}
    if said:
        said["written_by"] = f"sha256:{said['written_by']}"
    refused(without_note(exported), kind, small, tmp_path, r"00000\.\w+: token id \d+ is outside the tokenizer's vocabulary", **said)


def test_a_checksum_that_does_not_match_is_refused(tmp_path: Path, exported: Folder, kind: str, tokenizer: str) -> None:
    body = bytearray(exported.read_bytes(tokens_file(kind)))
    body[0] ^= 1
    exported.write_bytes(tokens_file(kind), bytes(body))
    refused(exported, kind, tokenizer, tmp_path, rf"{tokens_file(kind)}: the file is not what definemed.json says \(sha256\)")


def test_a_missing_shard_is_refused(tmp_path: Path, exported: Folder, kind: str, tokenizer: str) -> None:
    exported.remove("00002.ds" if kind == "datatrove" else "00002.idx")
    refused(exported, kind, tokenizer, tmp_path, r"00002\.(ds|idx): a shard's file is missing")
    exported.remove("00000.ds.index" if kind == "datatrove" else "00000.bin")
    refused(without_note(exported), kind, tokenizer, tmp_path, r"00000.*(index is|tokens are) missing")


def test_a_truncated_shard_is_refused(tmp_path: Path, exported: Folder, kind: str, tokenizer: str) -> None:
    without_note(exported)
    whole = exported.read_bytes(tokens_file(kind))
    exported.write_bytes(tokens_file(kind), whole[:-6])
    refused(
        exported,
        kind,
        tokenizer,
        tmp_path,
        rf"{tokens_file(kind)}: the shard is truncated: {len(whole) - 6} bytes; expected {len(whole)}",
    )
    index = "00000.ds.index" if kind == "datatrove" else "00000.idx"
    exported.write_bytes(tokens_file(kind), whole)
    exported.write_bytes(index, exported.read_bytes(index)[:-3])
    refused(exported, kind, tokenizer, tmp_path, r"the index is truncated")


@pytest.mark.parametrize(
    ("body", "says"),
    [(b"PK\3\4" + bytes(40), "no index of Megatron's"),
     (struct.pack("<9sQBQQ", b"MMIDIDX\0\0", 2, 8, 0, 1) + bytes(8), "version 2, type 8"),
     (struct.pack("<9sQBQQ", b"MMIDIDX\0\0", 1, 6, 0, 1) + bytes(8), "version 1, type 6"),
     (struct.pack("<9sQBQQiqqq", b"MMIDIDX\0\0", 1, 8, 1, 2, 2, 9, 0, 1), "do not lie end to end"),
     (struct.pack("<9sQBQQiqqq", b"MMIDIDX\0\0", 1, 8, 1, 2, 2, 0, 0, 0), "does not cover")],
)  # fmt: skip
def test_a_foreign_index_is_refused(tmp_path: Path, tokenizer: str, body: bytes, says: str) -> None:
    (tmp_path / "x.idx").write_bytes(body)
    (tmp_path / "x.bin").write_bytes(bytes(4))
    refused(Folder(str(tmp_path)), "megatron", tokenizer, tmp_path, says)


def test_a_folder_without_shards_is_refused(tmp_path: Path, tokenizer: str, kind: str) -> None:
    refused(Folder(str(tmp_path)), kind, tokenizer, tmp_path, r"there are no \.(ds|idx) files")


def test_what_is_damaged_is_not_exported(tmp_path: Path, store: Artifact, kind: str) -> None:
    copy = Folder(str(tmp_path / "copy"))
    shutil.copytree(store.folder.url, copy.url)
    body = bytearray(copy.read_bytes("tokens/00000.bin"))
    body[0] ^= 1
    copy.write_bytes("tokens/00000.bin", bytes(body))
    with pytest.raises(ArtifactError, match=r"tokens/00000\.bin: the shard's content is not what the manifest says"):
        export_tokens(Artifact.open(copy), Folder(str(tmp_path / "x")), kind)
    assert not (tmp_path / "x" / tokens_file(kind)).exists()
    body[3] = 255
    copy.write_bytes("tokens/00000.bin", bytes(body))
    with pytest.raises(ArtifactError, match="is outside the vocabulary"):
        export_tokens(Artifact.open(copy), Folder(str(tmp_path / "x")), kind)
