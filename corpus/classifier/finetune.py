"""The kind encoder: a transformers sequence classifier, fine-tuned in float32 by AdamW with a rate that rises and falls linearly.

Several looks at the validation pages in every epoch; the weights of the best look are kept, and training stops after ``patience`` looks
without a better one. The order of pages is a seeded permutation for each epoch. On a CPU the same pages give the same weights for the
same number of threads and versions; on a GPU the last bits may differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from corpus.classifier.encoder import Tokens, batches, save_model, start
from corpus.classifier.model import Pages
from corpus.classifier.params import ClassifierParams
from store.fs import FileEntry, Folder
from store.params import Json

F64 = npt.NDArray[np.float64]
GIVEN_RATE, SMALL_RATE = 3e-5, 1e-3
MAX_NORM = 1.0


@dataclass
class EncoderModel:
    """A sequence classifier with its tokenizer."""

    tokens: Tokens
    model: Any
    names: tuple[str, ...]
    max_chars: int
    device: str
    facts: dict[str, Json]

    def probabilities(self, texts: Sequence[str]) -> F64:
        """[n, L]."""
        logits = _logits(self.tokens, self.model, self.tokens.ids(texts), len(self.names), self.device)
        logits -= logits.max(axis=1, keepdims=True)
        return np.asarray(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))

    def save(self, folder: Folder) -> list[FileEntry]:
        """model/ and encoder.json."""
        card: dict[str, Json] = {
            "kind": "encoder", "labels": list(self.names), "pooling": None, "prefix": self.tokens.prefix,
            "max_tokens": self.tokens.max_tokens, "max_chars": self.max_chars, "encoder": self.facts["encoder"],
        }  # fmt: skip
        return save_model(folder, self.tokens, self.model, card)


def _logits(tokens: Tokens, model: Any, ids: Sequence[Sequence[int]], n_classes: int, device: str) -> F64:
    import torch

    model.to(device).eval()
    out = np.zeros((len(ids), n_classes))
    for rows in batches([len(i) for i in ids]):
        with torch.inference_mode():
            out[rows] = model(**tokens.padded([ids[r] for r in rows], device)).logits.float().cpu().numpy()
    return out


@dataclass
class Progress:
    """The looks at the validation pages, and the weights of the best one."""

    patience: int | None
    looks: list[Json] = field(default_factory=list)
    best: float = math.inf
    weights: dict[str, Any] = field(default_factory=dict)
    since: int = 0

    def look(self, step: int, loss: float, model: Any) -> bool:
        """Record a loss; True when it is time to stop."""
        self.looks.append({"step": step, "log_loss": round(loss, 6)})
        if loss < self.best:
            self.best, self.since = loss, 0
            self.weights = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
        else:
            self.since += 1
        return self.patience is not None and self.since >= self.patience


def fit_encoder(params: ClassifierParams, train: Pages, validation: Pages, device: str) -> EncoderModel:
    """Fine-tune. InputError if the encoder cannot be read."""
    t = params.transformer
    tokens, model, facts = start(t, train.texts, len(params.names), params.seed)
    model.config.id2label = dict(enumerate(params.names))
    model.config.label2id = {name: i for i, name in enumerate(params.names)}
    weights = class_weights(train.classes, len(params.names)) if t.class_weights else np.ones(len(params.names))
    ids, held = tokens.ids(train.texts), tokens.ids(validation.texts)
    progress = Progress(t.patience)
    _train(params, tokens, model, weights, ids, train.classes, held, validation.classes, progress, device)
    model.load_state_dict(progress.weights)
    facts |= {"learning_rate": rate_of(params), "looks": progress.looks, "class_weights": [round(w, 6) for w in weights.tolist()]}
    return EncoderModel(tokens, model, params.names, params.max_chars, device, facts)


def rate_of(params: ClassifierParams) -> float:
    """AdamW's peak rate."""
    given = params.transformer.learning_rate
    return given if given is not None else SMALL_RATE if params.transformer.model is None else GIVEN_RATE


def class_weights(classes: npt.NDArray[np.int64], n_classes: int) -> F64:
    """[L] weights under which classes count alike; their mean over pages is 1."""
    return np.asarray(len(classes) / (n_classes * np.maximum(1, np.bincount(classes, minlength=n_classes))))


def _train(
    params: ClassifierParams, tokens: Tokens, model: Any, weights: F64, ids: list[list[int]], classes: npt.NDArray[np.int64],
    held: list[list[int]], held_classes: npt.NDArray[np.int64], progress: Progress, device: str,
) -> None:  # fmt: skip
    import torch

    t, n = params.transformer, len(ids)
    per_epoch = math.ceil(n / t.batch_rows)
    total = per_epoch * t.epochs
    optimiser = _optimiser(model.to(device), rate_of(params), t.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: rate_at(s, total, t.warmup_ratio))
    loss_of = torch.nn.CrossEntropyLoss(torch.tensor(weights, dtype=torch.float32, device=device))
    looks = {math.ceil(per_epoch * (k + 1) / t.evals_per_epoch) for k in range(t.evals_per_epoch)}
    for epoch in range(t.epochs):
        order = np.random.default_rng([params.seed, epoch]).permutation(n)
        for step in range(per_epoch):
            rows = order[step * t.batch_rows : (step + 1) * t.batch_rows]
            model.train()
            logits = model(**tokens.padded([ids[r] for r in rows], device)).logits
            loss = loss_of(logits.float(), torch.tensor(classes[rows], device=device))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
            optimiser.step()
            schedule.step()
            if step + 1 in looks:
                found = _held_out_loss(_logits(tokens, model, held, len(weights), device), held_classes, weights)
                if progress.look(epoch * per_epoch + step + 1, found, model):
                    return


def _held_out_loss(logits: F64, classes: npt.NDArray[np.int64], weights: F64) -> float:
    logits = logits - logits.max(axis=1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    w = weights[classes]
    return float(-(w * logs[np.arange(len(logs)), classes]).sum() / w.sum())


def rate_at(step: int, total: int, warmup_ratio: float) -> float:
    """Share of the peak rate: a linear rise, then a linear fall to 0."""
    warm = warmup_ratio * total
    return (step + 1) / (warm + 1) if step < warm else max(0.0, (total - step) / max(1.0, total - warm))


def _optimiser(model: Any, rate: float, weight_decay: float) -> Any:
    import torch

    plain = [p for n, p in model.named_parameters() if p.ndim < 2 or n.endswith("bias")]
    decayed = [p for n, p in model.named_parameters() if not (p.ndim < 2 or n.endswith("bias"))]
    return torch.optim.AdamW([{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}], lr=rate)
