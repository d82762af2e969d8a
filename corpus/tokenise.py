"""Tokenisation: one file of documents or conversations in, one token shard out (store/tokens.py).

Documents are encoded as they are, without the tokenizer's own special tokens, and closed by the end-of-text id. A special token that
is spelt out in a document ("<|endoftext|>" on a page about tokenizers) is encoded as ordinary text: a page cannot end itself.

One thread per worker: parallelism is over files. Memory: a batch of documents with its encodings, and 4 bytes per token of the shard.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.columns import text_buffers
from corpus.tokenizer import LoadedTokenizer, load_tokenizer, local_folder
from store.artifact import Receipt
from store.errors import InputError
from store.executor import Task
from store.fs import Folder, open_input
from store.params import Json
from store.schema import doc_key, require_columns
from store.tokens import TOKEN_FORMAT, write_token_shard

BATCH_DOCS = 1024  # a call of the library costs, so fewer are faster
CLUSTER_SIZE = "minhash_cluster_size"
Conversation = list[dict[str, str]]


class _Shard:
    """Tokens and index of a shard as it grows. Flat arrays: a document leaves no Python object behind."""

    def __init__(self, eos_id: int) -> None:
        self._eos_id = eos_id
        self._tokens, self._n_tokens = array("I"), array("i")
        self._keys: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
        self._n_bytes: list[npt.NDArray[np.int32]] = [np.zeros(0, np.int32)]
        self._clusters: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]

    def add(
        self, loaded: LoadedTokenizer, texts: list[str], keys: npt.ArrayLike, n_bytes: npt.NDArray[np.int64], clusters: npt.ArrayLike
    ) -> None:
        """Encode and append documents, each closed by one end-of-text id (a chat template may have written it already)."""
        # encode_batch_fast gives the same ids, and took 8 % longer than encode_batch with tokenizers 0.23.
        for encoding in loaded.tokenizer.encode_batch(texts, add_special_tokens=False):
            ids = encoding.ids
            if not ids or ids[-1] != self._eos_id:
                ids.append(self._eos_id)
            self._tokens.extend(ids)
            self._n_tokens.append(len(ids))
        self._keys.append(np.asarray(keys, np.int64))
        self._n_bytes.append(n_bytes.astype(np.int32))
        self._clusters.append(np.asarray(clusters, np.int64))

    def write(self, task: Task, out: Folder, shard: int) -> Receipt:
        """Write the shard under its number and say what is in it."""
        n_bytes = np.concatenate(self._n_bytes)
        tokens, n_tokens = np.frombuffer(self._tokens, np.uint32), np.frombuffer(self._n_tokens, np.int32)
        clusters = np.concatenate(self._clusters)
        files = write_token_shard(out, f"{shard:05d}", tokens, np.concatenate(self._keys), n_tokens, n_bytes, clusters)
        counts = {"read": len(n_tokens), "tokens": len(tokens), "bytes": int(n_bytes.sum(dtype=np.int64))}
        return Receipt(key=task.key, files=files, counts=counts)


class TokeniseWorker:
    """A task's payload is {"file": i}: Parquet file i of ``files``, with the columns doc_key and text, becomes shard i.

    Cluster sizes come from the column minhash_cluster_size; where it is absent, null or not positive they are not known.
    """

    def __init__(
        self, files: Sequence[str], tokenizer: str, out: Folder, text_column: str = "text", end_of_text: str | None = None
    ) -> None:
        one_thread()
        self._files, self._out, self._text = list(files), out, text_column
        self._loaded = load_tokenizer(tokenizer, end_of_text)
        self._loaded.tokenizer.encode_special_tokens = True  # spelt-out special tokens are text

    def run(self, task: Task) -> Receipt:
        number = cast(int, task.payload["file"])
        shard = _Shard(self._loaded.eos_id)
        for batch in self._batches(self._files[number]):
            text = batch.column(self._text).cast(pa.large_string())
            keys, n_bytes = batch.column("doc_key").to_numpy(), np.diff(text_buffers(text)[0])
            shard.add(self._loaded, text.to_pylist(), keys, n_bytes, _cluster_sizes(batch))
        return shard.write(task, self._out, number)

    def _batches(self, url: str) -> Iterator[pa.RecordBatch]:
        try:
            with open_input(url) as source, pq.ParquetFile(source) as file:
                require_columns(file.schema_arrow, ["doc_key", self._text], url)
                columns = [c for c in ("doc_key", self._text, CLUSTER_SIZE) if c in file.schema_arrow.names]
                yield from file.iter_batches(BATCH_DOCS, columns=columns, use_threads=False)
        except pa.ArrowInvalid as error:
            raise InputError(f"not a readable Parquet file ({error})", where=url) from error


class ChatTokeniseWorker:
    """A task's payload is {"file": i}: JSON Lines file i, each line {"messages": [{"role", "content"}, ...]}, becomes shard i.

    Conversations are rendered by the tokenizer's chat template (transformers' sandboxed Jinja). A content that spells out a special
    token would be read as the end of its turn, so it is refused (InputError with the line).
    """

    def __init__(self, files: Sequence[str], tokenizer: str, out: Folder, end_of_text: str | None = None) -> None:
        from transformers import PreTrainedTokenizerFast

        one_thread()
        self._files, self._out = list(files), out
        self._loaded = load_tokenizer(tokenizer, end_of_text)
        self._chat = PreTrainedTokenizerFast.from_pretrained(local_folder(tokenizer))
        if not self._chat.chat_template:
            raise InputError("the tokenizer has no chat template", where=tokenizer, expected="chat_template.jinja",
                             remedy="take the tokenizer of an instruct model")  # fmt: skip
        added = self._loaded.tokenizer.get_added_tokens_decoder().values()
        self._special = [t.content for t in added if t.special]

    def run(self, task: Task) -> Receipt:
        number = cast(int, task.payload["file"])
        shard, lines = _Shard(self._loaded.eos_id), self._conversations(self._files[number])
        while batch := list(islice(lines, BATCH_DOCS)):
            texts = cast("list[str]", self._chat.apply_chat_template([c for _, c in batch], tokenize=False))
            sizes = np.array([len(t.encode()) for t in texts])
            keys = [doc_key(number, line) for line, _ in batch]
            shard.add(self._loaded, texts, keys, sizes, np.ones(len(batch)))  # a conversation stands for itself
        return shard.write(task, self._out, number)

    def _conversations(self, url: str) -> Iterator[tuple[int, Conversation]]:
        """(line number from 0, messages); blank lines are skipped."""
        with open_input(url) as source:
            for number, line in enumerate(source):
                if line.strip():
                    yield number, self._parse(line, f"{url}, line {number + 1}")

    def _parse(self, line: bytes, where: str) -> Conversation:
        expected = '{"messages": [{"role": "user", "content": "..."}, ...]}'
        try:
            messages = json.loads(line)["messages"]
            contents = [m["content"] for m in messages if isinstance(m["role"], str)]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"not a conversation ({type(error).__name__})", where=where, expected=expected) from error
        if not contents or not all(isinstance(c, str) for c in contents):
            raise InputError("a conversation needs messages, and a message a text", where=where, expected=expected)
        for token in self._special:
            if any(token in c for c in contents):
                raise InputError(f"a message spells out the special token {token}", where=where, remedy="remove it from the text")
        return cast(Conversation, messages)


def _cluster_sizes(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """[n] documents each one stands for; 0 where that is not known."""
    if CLUSTER_SIZE not in batch.schema.names:
        return np.zeros(batch.num_rows, np.int64)
    sizes: npt.NDArray[np.int64] = batch.column(CLUSTER_SIZE).cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return np.maximum(sizes, 0)


def tokenise_tasks(n_rows: Sequence[int | None]) -> list[Task]:
    """One task per input file, given its number of documents (1 where unknown)."""
    return [Task(f"{i:05d}", {"file": i}, n or 1) for i, n in enumerate(n_rows)]


def token_summary(receipts: Sequence[Receipt], loaded: LoadedTokenizer, digest: str) -> dict[str, Json]:
    """The summary of a tokens artifact. ``digest`` is tokenizer.tokenizer_digest of the source."""
    total = {k: sum(r.counts[k] for r in receipts) for k in ("read", "tokens", "bytes")}
    return {
        "format": TOKEN_FORMAT, "n_docs": total["read"], "n_tokens": total["tokens"], "n_bytes": total["bytes"],
        "vocab_size": loaded.vocab_size, "eos_id": loaded.eos_id, "tokenizer": digest,
    }  # fmt: skip


def one_thread() -> None:
    """One thread for the tokenizers library, unless the environment says otherwise. It reads both when it first encodes a batch."""
    os.environ.setdefault("RAYON_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
