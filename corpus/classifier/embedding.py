"""The kind embedding: logistic regression on the mean-pooled vectors of a frozen encoder; the strength of L2 by cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from corpus.classifier.encoder import Tokens, pooled, save_model, start
from corpus.classifier.logistic import Logistic, fit_logistic
from corpus.classifier.model import Pages
from corpus.classifier.params import ClassifierParams
from store.fs import FileEntry, Folder
from store.params import Json

HEAD = "head.safetensors"
F64 = npt.NDArray[np.float64]


@dataclass
class EmbeddingModel:
    """An encoder and a linear head."""

    tokens: Tokens
    encoder: Any
    head: Logistic
    names: tuple[str, ...]
    max_chars: int
    device: str
    facts: dict[str, Json]

    def probabilities(self, texts: Sequence[str]) -> F64:
        """[n, L]."""
        return np.exp(self.head.log_probabilities(pooled(self.tokens, self.encoder, texts, self.device).astype(np.float64)))

    def save(self, folder: Folder) -> list[FileEntry]:
        """model/, head.safetensors (float32), encoder.json."""
        from safetensors.numpy import save

        data = save({"weight": self.head.weight.astype(np.float32), "bias": self.head.bias.astype(np.float32)})
        card: dict[str, Json] = {
            "kind": "embedding", "labels": list(self.names), "pooling": "mean", "dim": self.head.weight.shape[1],
            "prefix": self.tokens.prefix, "max_tokens": self.tokens.max_tokens, "max_chars": self.max_chars,
            "encoder": self.facts["encoder"],
        }  # fmt: skip
        return [*save_model(folder, self.tokens, self.encoder, card), folder.write_bytes(HEAD, data)]


def fit_embedding(params: ClassifierParams, train: Pages, device: str) -> EmbeddingModel:
    """Embed the training pages once, choose the strength by held-out log loss over groups, fit on all of them."""
    tokens, encoder, facts = start(params.transformer, train.texts, None, params.seed)
    x = pooled(tokens, encoder, train.texts, device).astype(np.float64)
    losses = cross_validated(x, train, params)
    best = min(losses, key=lambda l2: (losses[l2], -l2))
    head = fit_logistic(x, train.classes, len(params.names), best)
    tried: list[Json] = [{"l2": l2, "log_loss": round(v, 6)} for l2, v in losses.items()]
    facts |= {"l2": best, "cross_validation": tried, "n_steps": head.n_steps}
    return EmbeddingModel(tokens, encoder, head, params.names, params.max_chars, device, facts)


def cross_validated(x: F64, pages: Pages, params: ClassifierParams) -> dict[float, float]:
    """Mean held-out log loss by strength; groups stay in one fold."""
    names, numbers = np.unique(pages.groups, return_inverse=True)
    fold = np.random.default_rng(params.seed).permutation(len(names))[numbers] % params.transformer.folds
    losses = dict.fromkeys(params.transformer.l2, 0.0)
    for l2 in losses:
        for k in range(params.transformer.folds):
            out = fold == k
            if out.all() or not out.any():
                continue
            head = fit_logistic(x[~out], pages.classes[~out], len(params.names), l2)
            losses[l2] -= float(head.log_probabilities(x[out])[np.arange(int(out.sum())), pages.classes[out]].sum())
    return {l2: total / max(1, len(x)) for l2, total in losses.items()}
