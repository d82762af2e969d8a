"""Held-out files of every format give the tokens of their documents."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.heldout_text import HeldoutTokeniseWorker
from corpus.tokenise import tokenise_tasks
from corpus.tokenizer import load_tokenizer, train_tokenizer
from store.artifact import Artifact, Draft, Identity
from store.errors import InputError
from store.fs import Folder
from store.tokens import TokenStore

TEXTS = [f"Page {i} is English: the quick brown fox, {'again and ' * (i % 7)}again. <|endoftext|>" for i in range(700)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = Folder(str(tmp_path_factory.mktemp("tokenizer")))
    train_tokenizer(iter(TEXTS), 300, folder, "")
    return folder.path("").rstrip("/")


def stored(path, tokenizer, root):
    draft = Draft.begin(Folder(str(root)), Identity("tokens", 1, {"file": str(path)}))
    [receipt] = [HeldoutTokeniseWorker([str(path)], tokenizer, draft.folder).run(t) for t in tokenise_tasks([None])]
    return TokenStore.open(Artifact.open(draft.commit(files=list(receipt.files), summary={}).folder))


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "txt"])
def test_every_document_is_there_with_its_bytes(kind, tokenizer, tmp_path):
    path, texts = tmp_path / f"held.{kind}", TEXTS
    if kind == "jsonl":
        path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts), encoding="utf-8")
    elif kind == "parquet":
        pq.write_table(pa.table({"text": texts}), path)
    else:
        texts = ["\n".join(TEXTS)]
        path.write_text(texts[0], encoding="utf-8")
    store, loaded = stored(path, tokenizer, tmp_path / "out"), load_tokenizer(tokenizer, None)
    loaded.tokenizer.encode_special_tokens = True
    assert store.n_docs == len(texts) and store.n_bytes.tolist() == [len(t.encode()) for t in texts]
    for i, text in enumerate(texts):
        expected = [*loaded.tokenizer.encode(text, add_special_tokens=False).ids, loaded.eos_id]
        assert np.array_equal(store.tokens(i), expected)


def test_a_document_that_cannot_be_read_is_refused(tokenizer, tmp_path):
    path = tmp_path / "held.jsonl"
    path.write_text('{"text": "good"}\n{"text": null}\n', encoding="utf-8")
    with pytest.raises(InputError, match="held-out file cannot be read"):
        stored(path, tokenizer, tmp_path / "out")
