"""Bits per byte: how well a model predicts texts, comparable between models with different tokenizers.

    bits per byte = sum over documents of -log2 p(document) / sum of their UTF-8 bytes

Each document starts afresh after the model's start token (evaluation.model), so every token, and with them every byte, is
predicted exactly once. A document longer than the context is cut into windows as lm-evaluation-harness does
(``get_rolling_token_windows`` with ``context_len=1``): windows advance by the context, and the last one reaches back so that its
few tokens are predicted from a full context. Tests hold these figures equal to the harness's.

Windows are sorted by length and padded on the right, at most ``tokens_per_batch`` at a time; that bounds memory: logits of
``tokens_per_batch x vocabulary`` in the model's number format, and float32 for 1,024 rows of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.items import spaced
from evaluation.model import OpenModel
from evaluation.statistics import Estimate, ratio
from store.errors import InputError
from store.fs import open_input
from store.schema import require_columns

if TYPE_CHECKING:
    import torch

ROWS_AT_ONCE = 1024
TEXTS_AT_ONCE = 256
IGNORED = -100
Window = tuple[int, int, int]
"""(first input position, end, first target position) in a document's tokens x, x[0] being the start token: inputs x[begin:end],
targets x[scored:end + 1]."""


@dataclass(frozen=True)
class Likelihood:
    """Per document: -ln p of the text, its UTF-8 bytes and its tokens. [n_docs] each."""

    nats: npt.NDArray[np.float64]
    n_bytes: npt.NDArray[np.int64]
    n_tokens: npt.NDArray[np.int64]

    @property
    def bits_per_byte(self) -> Estimate:
        """Ratio over documents; the standard error takes the document as the unit."""
        return ratio(self.nats / math.log(2), self.n_bytes.astype(np.float64))


def score_texts(lm: OpenModel, texts: Sequence[str], *, context: int = 2048, tokens_per_batch: int = 4096) -> Likelihood:
    """Score every text on its own. ``context`` is capped at what the model was made for.

    Deterministic for given arguments on one machine; ``tokens_per_batch`` changes round-off only.
    """
    width = min(context, lm.max_context)
    x_docs = [[lm.start_id, *ids] for ids in _encode(lm, texts)]
    jobs = [(doc, w) for doc, x in enumerate(x_docs) for w in windows(len(x) - 1, width)]
    order = sorted(range(len(jobs)), key=lambda j: (jobs[j][1][0] - jobs[j][1][1], j))  # longest first: memory peaks at once
    nats = np.zeros(len(jobs))
    for batch in _batches(order, [w[1] - w[0] for _, w in jobs], tokens_per_batch):
        nats[batch] = _score(lm, [(x_docs[jobs[j][0]], jobs[j][1]) for j in batch])
    by_doc = np.bincount([doc for doc, _ in jobs], weights=nats, minlength=len(texts)) if jobs else np.zeros(len(texts))
    return Likelihood(
        nats=by_doc[: len(texts)].astype(np.float64),
        n_bytes=np.array([len(t.encode()) for t in texts], dtype=np.int64),
        n_tokens=np.array([len(x) - 1 for x in x_docs], dtype=np.int64),
    )


def windows(n_tokens: int, width: int) -> list[Window]:
    """Windows that score each of n tokens once with at most ``width`` inputs."""
    ends = [*range(width, n_tokens, width), n_tokens] if n_tokens else []
    starts = [0, *ends][: len(ends)]
    return [(max(0, end - width), end, start + 1) for start, end in zip(starts, ends, strict=True)]


def read_texts(files: Sequence[str], max_docs: int | None, column: str = "text") -> list[str]:
    """The texts of Parquet files in order; with ``max_docs`` that many, evenly spaced over all rows. Reads only what it returns."""
    shards = []
    for url in files:
        with open_input(url) as file:
            try:
                parquet = pq.ParquetFile(file)
            except pa.ArrowInvalid as error:
                raise InputError(f"the file is not Parquet ({error})", where=url) from error
            require_columns(parquet.schema_arrow, [column], url)
            sizes = [parquet.metadata.row_group(g).num_rows for g in range(parquet.num_row_groups)]
            shards += [(url, g, size) for g, size in enumerate(sizes)]
    wanted = np.array(spaced(sum(s[2] for s in shards), max_docs), dtype=np.int64)
    ends = np.cumsum([s[2] for s in shards])
    texts: list[str] = []
    for (url, group, size), end in zip(shards, ends, strict=True):
        rows = wanted[(wanted >= end - size) & (wanted < end)] - (end - size)
        if len(rows):
            texts += _rows(url, group, rows, column)
    if not texts:
        raise InputError("the held-out set has no documents", where=files[0] if files else "evaluation.heldout",
                         remedy="hold out a larger share of the corpus")  # fmt: skip
    return texts


def _rows(url: str, group: int, rows: npt.NDArray[np.int64], column: str) -> list[str]:
    with open_input(url) as file:
        found = pq.ParquetFile(file).read_row_group(group, columns=[column]).column(column).take(pa.array(rows))
    if found.null_count:
        raise InputError(f"the column {column} has nulls", where=f"{url}, row group {group}", remedy="remove these documents")
    return [str(t) for t in found.to_pylist()]


def _encode(lm: OpenModel, texts: Sequence[str]) -> Iterator[list[int]]:
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        yield from lm.tokenizer(list(texts[start : start + TEXTS_AT_ONCE]), add_special_tokens=False)["input_ids"]


def _batches(order: list[int], widths: list[int], tokens_per_batch: int) -> Iterator[list[int]]:
    """Consecutive jobs whose padded size stays within the limit; a wider job stands alone. ``order`` is longest first."""
    at = 0
    while at < len(order):
        n = max(1, tokens_per_batch // widths[order[at]])
        yield order[at : at + n]
        at += n


def _score(lm: OpenModel, jobs: list[tuple[list[int], Window]]) -> npt.NDArray[np.float64]:
    """-ln p of each window's targets. Shapes: B windows, T positions, V vocabulary."""
    import torch

    width = max(end - begin for _, (begin, end, _) in jobs)
    ids_BT = torch.full((len(jobs), width), lm.start_id, dtype=torch.long)
    targets_BT = torch.full((len(jobs), width), IGNORED, dtype=torch.long)
    mask_BT = torch.zeros((len(jobs), width), dtype=torch.long)
    for row, (x, (begin, end, scored)) in enumerate(jobs):
        ids_BT[row, : end - begin] = torch.tensor(x[begin:end])
        mask_BT[row, : end - begin] = 1
        targets_BT[row, scored - 1 - begin : end - begin] = torch.tensor(x[scored : end + 1])
    device = lm.model.device
    with torch.inference_mode():
        logits_BTV = lm.model(ids_BT.to(device), attention_mask=mask_BT.to(device), use_cache=False).logits
        losses_BT = _losses(logits_BTV, targets_BT.to(device))
    return losses_BT.double().sum(dim=1).cpu().numpy()


def _losses(logits_BTV: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in float32, 0 where nothing is scored. Rows go through in slices: float32 logits of a whole batch are large."""
    import torch
    from torch.nn.functional import cross_entropy

    flat, targets = logits_BTV.flatten(0, 1), targets_BT.flatten()
    parts = [
        cross_entropy(flat[i : i + ROWS_AT_ONCE].float(), targets[i : i + ROWS_AT_ONCE], ignore_index=IGNORED, reduction="none")
        for i in range(0, len(targets), ROWS_AT_ONCE)
    ]
    return torch.cat(parts).view(targets_BT.shape)
