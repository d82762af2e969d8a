"""Another program's token shards as a tokens artifact, so that they can be packed and trained on.

What the ids mean is for the caller to say, with a tokenizer; what the files say of theirs must agree with it. Every file is read once
for its sha256, which makes the artifact's identity, and once for its ids. A document without end-of-text id at its end gets one,
counted.
"""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from corpus.token_files import Kind, datatrove, megatron
from corpus.token_files.export import NOTE
from corpus.token_files.shard import I64, TRUNCATED, Shard, Tokens
from corpus.tokenise import token_summary
from corpus.tokenizer import LoadedTokenizer, load_tokenizer, tokenizer_digest
from store.artifact import Artifact, Draft, Identity, Receipt
from store.errors import InputError
from store.fs import Folder, local_copy
from store.params import Json
from store.schema import TOKEN_INDEX, doc_key
from store.tokens import TOKEN_FORMAT, write_token_shard

DECODED_DOCS = 256
SUFFIXES: dict[Kind, str] = {"datatrove": datatrove.SUFFIX, "megatron": megatron.SUFFIX}


def import_tokens(
    source: Folder, to: Folder, kind: Kind, tokenizer: str, end_of_text: str | None = None, written_by: str | None = None
) -> Artifact:
    """Read every shard in ``source``, in order of name, into a tokens artifact below ``to``; one that exists is opened.

    ``tokenizer`` is a folder or hub name; ``written_by`` the name of it that the files carry, if that is another. InputError, by name:
    a wrong tokenizer, an id outside its vocabulary, a file that is missing, cut, or not what its checksum says.
    """
    loaded, digest = load_tokenizer(tokenizer, end_of_text), tokenizer_digest(tokenizer)
    names = [n for n in source.names() if n.endswith(SUFFIXES[kind]) and "/" not in n]
    note = _note(source, digest)
    if not names:
        raise InputError(f"there are no {SUFFIXES[kind]} files", where=source.url, expected=f"token shards of {kind}")
    digests = _digests(source, names, note)
    params: dict[str, Json] = {"imported": dict(digests), "kind": kind, "end_of_text": loaded.eos_token}
    draft = Draft.begin(to, Identity("tokens", TOKEN_FORMAT, params, {"tokenizer": digest}))
    if draft.folder.exists("manifest.json"):
        return Artifact.open(draft.folder)
    receipts: list[Receipt] = []
    for name in names:
        if note is None:
            _require_tokenizer(source, name, kind, written_by or tokenizer, digest)
        shard = datatrove.read_shard(source, name) if kind == "datatrove" else megatron.read_shard(source, name)
        for first, last in shard.parts():
            receipts.append(_part(draft, len(receipts), shard, first, last, loaded, _documents(source, name, kind, note)))
    return draft.commit(receipts, summary=token_summary(receipts, loaded, digest))


def _note(source: Folder, digest: str) -> dict[str, Json] | None:
    """definemed.json, if it is there, and its tokenizer is the one given."""
    if not source.exists(NOTE):
        return None
    try:
        note = json.loads(source.read_bytes(NOTE))
        found = str(note["tokenizer"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"the file is damaged ({type(error).__name__})", where=source.path(NOTE), remedy=TRUNCATED) from error
    if found != digest:
        raise InputError("the shards were made with another tokenizer", where=source.url,
                         expected=f"a tokenizer of sha256 {found[:12]}…, given is {digest[:12]}…",
                         remedy="give the tokenizer that made them")  # fmt: skip
    return dict(note)


def _digests(source: Folder, names: list[str], note: dict[str, Json] | None) -> dict[str, str]:
    """sha256 of every file that bears tokens or ends; those of definemed.json are compared."""
    stems = {n.removesuffix(".idx").removesuffix(".ds") for n in names}
    there = [n for n in source.names() if "/" not in n and n.split(".")[0] in {s.split(".")[0] for s in stems} and n != NOTE]
    listed = {str(f["name"]): str(f["sha256"]) for f in note["files"]} if note else {}  # type: ignore[union-attr,index,call-overload]
    found: dict[str, str] = {}
    for name in sorted({*there, *listed}):
        if not source.exists(name):
            raise InputError("a shard's file is missing", where=source.path(name), expected="all files that definemed.json lists",
                             remedy=TRUNCATED)  # fmt: skip
        found[name] = source.entry(name).sha256
        if name in listed and listed[name] != found[name]:
            raise InputError("the file is not what definemed.json says (sha256)", where=source.path(name),
                             expected=f"{listed[name][:12]}…, found {found[name][:12]}…", remedy=TRUNCATED)  # fmt: skip
    return found


def _require_tokenizer(source: Folder, name: str, kind: Kind, given: str, digest: str) -> None:
    said, _ = datatrove.written_with(source, name) if kind == "datatrove" else (None, None)
    if said not in (None, "Unknown Tokenizer", given, given.rstrip("/"), f"sha256:{digest}"):
        raise InputError(f"the shard says that it was made with the tokenizer {said}, not {given}", where=source.path(name),
                         remedy=f"give that tokenizer; if it is the same under another name, say --written-by {said}")  # fmt: skip


def _documents(source: Folder, name: str, kind: Kind, note: dict[str, Json] | None) -> str | None:
    """The file beside a shard that keeps what its format has no place for, if we wrote it."""
    return local_copy(source.path(f"documents/{name.removesuffix(SUFFIXES[kind])}.parquet")) if note else None


def _part(draft: Draft, number: int, shard: Shard, first: int, last: int, loaded: LoadedTokenizer, documents: str | None) -> Receipt:
    key = f"{number:05d}"
    if done := draft.receipt(key):
        return done
    tokens, lengths = shard.part(first, last)
    if len(tokens) and (int(tokens.max()) >= loaded.vocab_size or int(tokens.min()) < 0):
        wrong = int(tokens.max()) if int(tokens.max()) >= loaded.vocab_size else int(tokens.min())
        raise InputError(f"token id {wrong} is outside the tokenizer's vocabulary", where=shard.where,
                         expected=f"ids below {loaded.vocab_size}", remedy="give the tokenizer that made the shards")  # fmt: skip
    if documents:
        table = pq.read_table(documents, columns=TOKEN_INDEX.names).slice(first, last - first)
        keys, n_bytes, clusters = (table[c].to_numpy() for c in ("doc_key", "n_bytes", "minhash_cluster_size"))
    else:
        keys, clusters = doc_key(number, 0) + np.arange(last - first), np.zeros(last - first, np.int64)
        n_bytes = _bytes(tokens, lengths, loaded)
    closed, lengths, n_added = _closed(tokens, lengths, loaded, shard.where)
    files = write_token_shard(draft.folder, key, closed, keys, lengths.astype(np.int32), n_bytes.astype(np.int32), clusters)
    counts = {"read": len(lengths), "tokens": len(closed), "bytes": int(n_bytes.sum(dtype=np.int64)), "closed_here": n_added}
    return draft.finish(Receipt(key=key, files=files, counts=counts))


def _closed(tokens: Tokens, lengths: I64, loaded: LoadedTokenizer, where: str) -> tuple[npt.NDArray[np.uint32], I64, int]:
    """(ids, lengths, documents closed here). InputError if most documents end in something else: then eos is not what ends them."""
    ends = np.cumsum(lengths)
    last = np.where(lengths > 0, tokens[np.maximum(ends - 1, 0)] if len(tokens) else 0, -1)
    missing = np.flatnonzero(last != loaded.eos_id)
    if 2 * len(missing) > len(lengths):
        raise InputError(
            f"{len(missing)} of {len(lengths)} documents do not end in {loaded.eos_token} (id {loaded.eos_id})", where=where,
            expected="the id that closes a document", remedy="give the tokenizer that made the shards, or name its --end-of-text",
        )  # fmt: skip
    out = tokens.astype(np.uint32)
    if len(missing):
        out = np.insert(out, ends[missing], loaded.eos_id)
        lengths = lengths + (last != loaded.eos_id)
    return out, lengths, len(missing)


def _bytes(tokens: Tokens, lengths: I64, loaded: LoadedTokenizer) -> I64:
    """[n] UTF-8 bytes of the documents' texts, decoded; special tokens are no text."""
    ends = np.cumsum(lengths)
    out = np.empty(len(lengths), np.int64)
    for first in range(0, len(lengths), DECODED_DOCS):
        here = range(first, min(first + DECODED_DOCS, len(lengths)))
        ids = [tokens[ends[d] - lengths[d] : ends[d]].tolist() for d in here]
        out[first : here.stop] = [len(t.encode()) for t in loaded.tokenizer.decode_batch(ids, skip_special_tokens=True)]
    return out
