"""Steps from sets of documents to token shards: tokenizer, and tokens for every set and every file of conversations."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow.parquet as pq

from cluster.graph import Context, Node
from cluster.inputs import Inputs
from cluster.recipe import ChatData, Recipe, TokensParams, TrainedModel, chat_name, heldout_rules
from corpus.heldout_text import HeldoutFile, HeldoutTokeniseWorker
from corpus.select import HELDOUT
from corpus.tokenise import ChatTokeniseWorker, TokeniseWorker, token_summary, tokenise_tasks
from corpus.tokenizer import FILES, TokenizerParams, check_tokenizer, load_tokenizer, local_folder, tokenizer_digest, train_tokenizer
from store.artifact import Artifact, Draft, Receipt
from store.errors import StepError
from store.executor import Job, Task
from store.fs import Folder, open_input
from store.params import Json

VERSIONS = {"tokenizer": 1, "tokens": 2}
TOKENIZER = "tokenizer"


def token_nodes(recipe: Recipe, inputs: Inputs) -> list[Node]:
    """The nodes of the tokens section, and of conversations that models train on."""
    assert recipe.tokens is not None
    nodes = [_tokenizer_node(recipe.tokens, inputs, list(recipe.corpus.select.sets))]
    for name in recipe.tokens.sets or recipe.corpus.select.sets:
        nodes.append(_set_node(name, recipe.tokens))
        if name in heldout_rules(recipe):
            nodes.append(_set_node(name + HELDOUT, recipe.tokens))
    for name, url in chat_sources(recipe).items():
        nodes.append(_chat_node(name, url, recipe.tokens, inputs))
    nodes += [_heldout_node(h, recipe.tokens, inputs) for h in recipe.tokens.heldout]
    return nodes


def chat_sources(recipe: Recipe) -> dict[str, str]:
    """Name -> file of the conversations that models of the recipe train on, each once."""
    found: dict[str, str] = {}
    for spec in recipe.models.values():
        if isinstance(spec, TrainedModel):
            for data in spec.train.data:
                if isinstance(data, ChatData):
                    found.setdefault(chat_name(data), data.chat)
    return found


@dataclass(frozen=True)
class TokenizerWorker:
    """One task: train a tokenizer on the first documents of every set, or copy one that exists."""

    folder: Folder
    params: TokenizerParams
    files: Sequence[Sequence[str]]
    max_docs: int

    def run(self, task: Task) -> Receipt:
        if self.params.vocab_size is not None:
            entries = train_tokenizer(self._texts(), self.params.vocab_size, self.folder, f"{TOKENIZER}/")
            return Receipt(key=task.key, files=tuple(entries))
        assert self.params.source is not None
        check_tokenizer(self.params.source, self.params.end_of_text)
        source = local_folder(self.params.source)
        copied = []
        for name in FILES:
            path = os.path.join(source, name)
            if os.path.isfile(path):
                with open(path, "rb") as handle:
                    copied.append(self.folder.write_bytes(f"{TOKENIZER}/{name}", handle.read()))
        return Receipt(key=task.key, files=tuple(copied))

    def _texts(self) -> Iterator[str]:
        """max_docs documents, the same number of each set as far as they go, in file order."""
        share = max(1, self.max_docs // max(1, len(self.files)))
        for files in self.files:
            left = share
            for file in files:
                if left == 0:
                    break
                with open_input(file) as handle:
                    for batch in pq.ParquetFile(handle).iter_batches(256, columns=["text"]):
                        texts = batch.column("text").to_pylist()[:left]
                        yield from texts
                        left -= len(texts)
                        if left == 0:
                            break


def _tokenizer_node(tokens: TokensParams, inputs: Inputs, sets: Sequence[str]) -> Node:
    names = tokens.train_sets or tuple(sets)
    trains = tokens.tokenizer.vocab_size is not None

    def run(ctx: Context, draft: Draft, artifacts: Mapping[str, Artifact]) -> Artifact:
        files = [set_files(artifacts["documents"], n) for n in names] if trains else []
        kwargs = {"folder": draft.folder, "params": tokens.tokenizer, "files": files, "max_docs": tokens.train_docs}
        receipts = ctx.executor.map(Job(TOKENIZER, TokenizerWorker, kwargs, [Task("tokenizer", {})], draft, unit="tokenizers"))
        loaded = load_tokenizer(draft.folder.path(TOKENIZER), tokens.tokenizer.end_of_text)
        summary: dict[str, Json] = {"vocab_size": loaded.vocab_size, "eos_token": loaded.eos_token, "eos_id": loaded.eos_id}
        return draft.commit(receipts, summary=summary)

    def identity() -> dict[str, Json]:
        own = tokens.tokenizer.identity(inputs.digest)
        return {**own, "train_sets": list(names), "train_docs": tokens.train_docs} if trains else own

    about = f"train a byte-level BPE of {tokens.tokenizer.vocab_size:,} tokens" if trains else f"take {tokens.tokenizer.source}"
    return Node(TOKENIZER, TOKENIZER, VERSIONS[TOKENIZER], {"documents": "select"} if trains else {}, identity, run, about)


def set_files(documents: Artifact, name: str) -> list[str]:
    """Paths of a set's Parquet files; a set without documents is an error that says so."""
    files = [documents.path(e.name) for e in documents.files(f"{name}/")]
    if not files:
        raise StepError(f"the set {name} has no documents", where="step select", expected="at least one document",
                        remedy="look at the report for what was dropped and why; loosen corpus.select.sets")  # fmt: skip
    return files


def _set_node(name: str, tokens: TokensParams) -> Node:
    def run(ctx: Context, draft: Draft, artifacts: Mapping[str, Artifact]) -> Artifact:
        files = set_files(artifacts["documents"], name)
        sizes = [e.n_rows for e in artifacts["documents"].files(f"{name}/")]
        return _tokenise(ctx, draft, artifacts[TOKENIZER], TokeniseWorker, files, sizes, tokens.tokenizer.end_of_text)

    roles = {"documents": "select", TOKENIZER: TOKENIZER}
    return Node(f"tokens/{name}", "tokens", VERSIONS["tokens"], roles, lambda: _token_params(tokens, {"set": name}), run,
                f"tokenise the set {name}")  # fmt: skip


def _chat_node(name: str, url: str, tokens: TokensParams, inputs: Inputs) -> Node:
    def run(ctx: Context, draft: Draft, artifacts: Mapping[str, Artifact]) -> Artifact:
        return _tokenise(ctx, draft, artifacts[TOKENIZER], ChatTokeniseWorker, [ctx.local(url)], [None], tokens.tokenizer.end_of_text)

    def identity() -> dict[str, Json]:
        return _token_params(tokens, {"chat": inputs.digest(url)})

    return Node(f"tokens/{name}", "tokens", VERSIONS["tokens"], {TOKENIZER: TOKENIZER}, identity, run, f"tokenise {url}")


def _heldout_node(held: HeldoutFile, tokens: TokensParams, inputs: Inputs) -> Node:
    def run(ctx: Context, draft: Draft, artifacts: Mapping[str, Artifact]) -> Artifact:
        end = tokens.tokenizer.end_of_text
        return _tokenise(ctx, draft, artifacts[TOKENIZER], HeldoutTokeniseWorker, [ctx.local(held.file)], [None], end)

    def identity() -> dict[str, Json]:
        return _token_params(tokens, {"heldout": inputs.digest(held.file)})

    name = f"tokens/heldout-{held.name}"
    return Node(name, "tokens", VERSIONS["tokens"], {TOKENIZER: TOKENIZER}, identity, run, f"tokenise {held.file}")


def _token_params(tokens: TokensParams, own: Mapping[str, Json]) -> dict[str, Json]:
    return {"end_of_text": tokens.tokenizer.end_of_text, **own}


def _tokenise(
    ctx: Context,
    draft: Draft,
    tokenizer: Artifact,
    worker: type[TokeniseWorker] | type[ChatTokeniseWorker],
    files: list[str],
    sizes: Sequence[int | None],
    end_of_text: str | None,
) -> Artifact:
    source = tokenizer.path(TOKENIZER)
    kwargs: dict[str, object] = {"files": files, "tokenizer": source, "out": draft.folder, "end_of_text": end_of_text}
    receipts = ctx.executor.map(Job("tokens", worker, kwargs, tokenise_tasks(sizes), draft, unit="documents"))
    loaded = load_tokenizer(source, end_of_text)
    return draft.commit(receipts, summary=token_summary(receipts, loaded, tokenizer_digest(source)))
