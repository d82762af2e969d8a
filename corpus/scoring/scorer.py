"""A classifier of kind embedding or encoder, opened from its files for scoring at scale: tokenise, cut batches, forward, round.

What decides a score: the page's own tokens, and in the last bits the shape of its batch. Batches are cut from pages sorted by length
under a budget of padded tokens, a function of the pages that come together (a row group), never of workers or time; scores are rounded
to the grid 1/4096 before anything compares or writes them. So the same row group gives the same bytes in every worker, and a page in
another company the same score up to rounding: one step of the grid in float32 (measured: docs/scoring.md).

torch and transformers are imported when a scorer is opened. Memory: the model, and the activations of one batch.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from corpus.calibration import NONE, Calibration, read_calibration
from corpus.classifier.embedding import HEAD
from corpus.classifier.encoder import CARD, Tokens, batches, opened
from corpus.classifier.logistic import log_softmax
from corpus.classifier.params import TransformerParams
from store.errors import InputError
from store.fs import Folder, read_bytes
from store.models import MODEL

if TYPE_CHECKING:
    import torch

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
GRID = 4096
"""Steps of a written score: an exact float32, and no threshold of up to four decimals lies closer than rounding to a step."""


def on_grid(p: F64) -> F32:
    """Probabilities rounded to the grid."""
    return np.asarray(np.rint(p * GRID) / GRID, np.float32)


def precision(dtype: str, device: str) -> str:
    """The precision that "auto" means on a device: bfloat16 only where the hardware computes in it."""
    if dtype != "auto":
        return dtype
    import torch

    if device != "cpu":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "float32"


@dataclass
class Scorer:
    """A model in memory.

    Attributes:
        labels: classes in the order of the columns of probabilities.
        head: (weight [L, D], bias [L]) of an embedding; None for a sequence classifier.
    """

    labels: tuple[str, ...]
    tokens: Tokens
    model: Any  # transformers' models are untyped
    head: tuple[F64, F64] | None
    calibration: Calibration
    max_chars: int
    device: str
    dtype: str
    tokens_per_batch: int

    @classmethod
    def open(cls, artifact: Folder, device: str = "cpu", dtype: str = "auto", tokens_per_batch: int = 16_384) -> Scorer:
        """From a classifier's artifact. InputError: it is of another kind, or cannot be read."""
        import torch

        about = _about(artifact)
        labels = tuple(str(n) for n in about["labels"])
        transformer = TransformerParams(prefix=about["prefix"], max_tokens=about["max_tokens"])
        sequence = about["kind"] == "encoder"
        with tempfile.TemporaryDirectory() as scratch:
            tokens, model = opened(_local_model(artifact, scratch), transformer, len(labels) if sequence else None)
        found = precision(dtype, device)
        model.to(device=device, dtype=getattr(torch, found)).eval()
        calibration = _calibration(artifact)
        return cls(labels, tokens, model, None if sequence else _head(artifact), calibration, int(about["max_chars"]), device, found,
                   tokens_per_batch)  # fmt: skip

    def prepare(self, text: pa.Array) -> list[list[int]]:
        """Token ids of pages (large_string): of the heads that the classifier learnt from."""
        return self.tokens.ids(pc.utf8_slice_codeunits(text, 0, self.max_chars).to_pylist())

    def probabilities(self, ids: Sequence[Sequence[int]]) -> F32:
        """[n, L] probabilities on the grid, in the order of the pages."""
        out = np.zeros((len(ids), len(self.labels)))
        for rows in batches([len(i) for i in ids], self.tokens_per_batch):
            out[rows] = self._logits([ids[r] for r in rows])
        p = np.exp(log_softmax(out))
        if self.calibration != NONE:
            p[:, 0] = self.calibration(p[:, 0])
            p[:, 1] = 1.0 - p[:, 0]
        return on_grid(p)

    def _logits(self, ids: Sequence[Sequence[int]]) -> F64:
        import torch

        given = padded(ids, self.tokens.tokenizer.pad_token_id, self.device)
        with torch.inference_mode():
            if self.head is None:
                return np.asarray(self.model(**given).logits.float().cpu().numpy(), np.float64)
            hidden_BTD = self.model(**given).last_hidden_state.float()
            mask_BT1 = given["attention_mask"][..., None].float()
            mean_BD = ((hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)).cpu().numpy().astype(np.float64)
        weight_LD, bias_L = self.head
        return np.asarray(mean_BD @ weight_LD.T + bias_L)


def padded(ids: Sequence[Sequence[int]], pad: int, device: str) -> dict[str, torch.Tensor]:
    """input_ids and attention_mask [B, T], padded on the right."""
    import torch

    lengths = np.array([len(i) for i in ids])
    mask = np.arange(lengths.max())[None, :] < lengths[:, None]
    rows = np.full(mask.shape, pad, np.int64)
    rows[mask] = np.concatenate([np.asarray(i, np.int64) for i in ids])
    to = {"input_ids": torch.from_numpy(rows), "attention_mask": torch.from_numpy(mask.astype(np.int64))}
    return {name: tensor.to(device) for name, tensor in to.items()}


def _about(artifact: Folder) -> dict[str, Any]:
    if not artifact.exists(CARD):
        raise InputError("this classifier has no encoder", where=artifact.url, expected="an artifact of kind embedding or encoder",
                         remedy="score a fastText model by the stage score")  # fmt: skip
    return dict(json.loads(artifact.read_bytes(CARD)))


def _local_model(artifact: Folder, scratch: str) -> str:
    """The model's folder; a copy in ``scratch`` if the artifact lies in an object store."""
    if artifact.is_local:
        return artifact.path(MODEL)
    for name in artifact.names(MODEL):
        with open(os.path.join(scratch, os.path.basename(name)), "wb") as out:
            out.write(artifact.read_bytes(name))
    return scratch


def _head(artifact: Folder) -> tuple[F64, F64]:
    from safetensors.numpy import load

    found = load(artifact.read_bytes(HEAD))
    return found["weight"].astype(np.float64), found["bias"].astype(np.float64)


def _calibration(artifact: Folder) -> Calibration:
    path = artifact.path("calibration.json")
    if not artifact.exists("calibration.json") or not json.loads(read_bytes(path)).get("applied"):
        return NONE
    return read_calibration(path)
