"""Scoring at scale against the bare model: the worker's CPU time over that of forward passes on the same token ids in the same batches.

The worker (corpus.scoring) reads a Parquet file of documents, tokenises, pads, computes, rounds and writes; the peer calls the model on
tensors that were made before. Both in one process on one thread, in alternation: the ratio is the median of the turns'. Tokenising is
timed alone as well, because it is the largest part of the rest. The probabilities of both must agree within a step of the grid.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from corpus.classifier.encoder import batches
from corpus.classifier.model import Pages, fit
from corpus.classifier.params import ClassifierParams
from corpus.outputs import FLUSH_DOCS
from corpus.scoring import ScoringParams
from corpus.scoring.scorer import GRID, Scorer, padded
from corpus.scoring.worker import SCORES, Check, ScoringWorker
from store.executor import Task
from store.fs import Folder
from store.params import Json
from store.schema import DOCUMENT


def compare(params: ClassifierParams, texts: Sequence[str], classes: Sequence[int], work: str, rounds: int) -> dict[str, Json]:
    """Figures of one encoder over the texts; ``classes`` are anything with two values, to learn a head from a few of them."""
    torch.set_num_threads(1)
    model = Folder(os.path.join(work, "encoder")).make()
    few = min(16, len(texts))
    nothing = Pages([], np.zeros(0, np.int64), np.zeros(0, np.int64))
    learnt = fit(params, Pages(list(texts[:few]), np.array(classes[:few]), np.arange(few)), nothing)
    learnt.save(model)
    documents = Folder(os.path.join(work, "documents")).make()
    write_documents(documents, texts)
    scoring = ScoringParams(dtype="float32", check_pages=None)
    worker = ScoringWorker(Folder(os.path.join(work, "scores")).make(), documents, model, scoring, None, Check())
    scorer = worker.scorer
    ids = scorer.prepare(pa.array(texts, pa.large_string()))
    given = [padded([ids[r] for r in rows], scorer.tokens.tokenizer.pad_token_id, "cpu")
             for rows in batches([len(i) for i in ids], scoring.tokens_per_batch)]  # fmt: skip
    task = Task("000000", {"kept": "kept/000000.parquet", "dropped": None})
    times: dict[str, list[float]] = {"ours": [], "bare": [], "tokenise": []}
    calls = {"ours": lambda: worker.run(task), "bare": lambda: bare(scorer, given),
             "tokenise": lambda: scorer.prepare(pa.array(texts, pa.large_string()))}  # fmt: skip
    for turn in range(rounds + 1):
        # The order changes, so that neither profits from what the other left in the caches; the first turn fills them.
        for name in list(calls)[:: 1 if turn % 2 else -1]:
            begin = time.process_time()
            calls[name]()
            if turn:
                times[name].append(time.process_time() - begin)
    best = {name: float(np.median(found)) for name, found in times.items()}
    ratio = float(np.median(np.array(times["bare"]) / np.array(times["ours"])))
    n, tokens = len(texts), sum(map(len, ids))
    flops = forward_flops(scorer.model.config.to_dict(), [len(i) for i in ids])
    return {
        "n_pages": n, "tokens_per_page": round(tokens / n, 1), "max_tokens": params.transformer.max_tokens,
        "ratio_vs_bare_forward": round(ratio, 4), "pages_per_s_per_core": round(n / best["ours"], 3),
        "tokenise_us_per_page": round(best["tokenise"] / n * 1e6, 1), "share_tokenise": round(best["tokenise"] / best["ours"], 4),
        "gflops_per_core": round(flops / best["bare"] / 1e9, 2), "characters_per_page": round(sum(map(len, texts)) / n, 1),
        "max_score_difference": difference(scorer, ids, os.path.join(work, "scores", SCORES, "000000.parquet")),
    }  # fmt: skip


def bare(scorer: Scorer, given: Sequence[dict[str, torch.Tensor]]) -> None:
    """The forward passes alone."""
    with torch.inference_mode():
        for one in given:
            scorer.model(**one)


def difference(scorer: Scorer, ids: Sequence[Sequence[int]], file: str) -> float:
    """Largest difference of a written score from that of the page alone, for 16 pages."""
    table = pq.read_table(file)
    written = np.stack([table[name].to_numpy() for name in scorer.labels], axis=1)
    rows = range(0, len(ids), max(1, len(ids) // 16))
    alone = np.concatenate([scorer.probabilities([ids[r]]) for r in rows])
    found = float(np.abs(written[list(rows)] - alone).max())
    if found > 1.5 / GRID:
        raise SystemExit(f"scores differ by {found}")
    return found


def forward_flops(config: dict[str, Any], lengths: Sequence[int]) -> float:
    """Of the encoder's layers: 2 a weight and token, and 4 x width x length a token and layer for attention."""
    from cluster.costs import EncoderShape

    shape = EncoderShape.from_config(config)
    return sum(shape.flops(n) for n in lengths)


def write_documents(folder: Folder, texts: Sequence[str]) -> None:
    """A kept file as pass 1 writes it."""
    columns = {f.name: pa.nulls(len(texts), f.type) for f in DOCUMENT}
    columns |= {"doc_key": pa.array(range(len(texts)), pa.int64()), "text": pa.array(texts, pa.large_string())}
    os.makedirs(folder.path("kept"), exist_ok=True)
    pq.write_table(pa.table(columns), folder.path("kept/000000.parquet"), row_group_size=FLUSH_DOCS, write_page_checksum=True)
