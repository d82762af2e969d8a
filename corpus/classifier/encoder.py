"""Transformers encoders for training: a folder that exists, or a small random one; texts to batches; pooled vectors.

torch and transformers are imported when an encoder is opened. Weights come from safetensors only and no code from a model's folder is
run. Batches are cut from texts sorted by length, a function of the texts alone. Scoring at scale is corpus.scoring's.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from corpus.classifier.params import TransformerParams
from store.errors import InputError
from store.fs import FileEntry, Folder
from store.models import MODEL, ModelFolder
from store.params import Json

if TYPE_CHECKING:
    import torch

CARD = "encoder.json"
F32 = npt.NDArray[np.float32]
BATCH_TOKENS = 8192
SMALL: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
SMALL_VOCABULARY = 4000
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


@dataclass(frozen=True)
class Tokens:
    """A tokenizer with the prefix and the length that texts get."""

    tokenizer: Any  # transformers' tokenizers are untyped
    prefix: str
    max_tokens: int

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, special ones included."""
        if not texts:
            return []
        return list(self.tokenizer([self.prefix + t for t in texts], truncation=True, max_length=self.max_tokens)["input_ids"])

    def padded(self, ids: Sequence[Sequence[int]], device: str) -> dict[str, torch.Tensor]:
        """input_ids and attention_mask [B, T], padded on the right."""
        import torch

        longest = max(len(i) for i in ids)
        pad = self.tokenizer.pad_token_id
        rows = [list(i) + [pad] * (longest - len(i)) for i in ids]
        mask = [[1] * len(i) + [0] * (longest - len(i)) for i in ids]
        return {"input_ids": torch.tensor(rows, device=device), "attention_mask": torch.tensor(mask, device=device)}


def batches(lengths: Sequence[int], n_tokens: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Rows sorted by length, cut where padded tokens pass ``n_tokens``."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    batch: list[int] = []
    for row in order:
        if batch and lengths[row] * (len(batch) + 1) > n_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def start(params: TransformerParams, texts: Sequence[str], n_classes: int | None, seed: int) -> tuple[Tokens, Any, dict[str, Json]]:
    """(tokens, model, facts): a sequence classifier of ``n_classes``, or without classes the bare encoder. InputError: not readable."""
    from transformers import set_seed

    set_seed(seed)
    if params.model is None:
        return _small(params, texts, n_classes)
    folder = ModelFolder.open(params.model)
    digests: dict[str, Json] = {n: d for n, d in folder.digests().items() if "/" not in n and n.endswith((".json", ".safetensors"))}
    tokens, model = opened(folder.path, params, n_classes)
    return tokens, model, {"encoder": digests}


def opened(folder: str, params: TransformerParams, n_classes: int | None) -> tuple[Tokens, Any]:
    """The tokenizer and the model of a folder. InputError: not readable."""
    from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

    offline: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **offline)
        if n_classes is None:
            model = AutoModel.from_pretrained(folder, use_safetensors=True, **offline)
        else:
            model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=n_classes, use_safetensors=True, **offline)
    except (OSError, ValueError) as error:
        raise InputError(f"the encoder cannot be read ({type(error).__name__})", where=folder,
                         expected="an encoder with its tokenizer", remedy="save both (save_pretrained)") from error  # fmt: skip
    if tokenizer.pad_token_id is None:
        raise InputError("the tokenizer has no padding token", where=folder, remedy="set pad_token in its tokenizer_config.json")
    longest = min(params.max_tokens, positions(model.config))
    return Tokens(tokenizer, params.prefix, longest), model


def positions(config: Any) -> int:
    """Tokens an encoder can place; RoBERTa's positions begin behind the padding token's."""
    n = int(getattr(config, "max_position_embeddings", 0) or 1 << 30)
    return n - config.pad_token_id - 1 if "roberta" in str(config.model_type) else n


def _small(params: TransformerParams, texts: Sequence[str], n_classes: int | None) -> tuple[Tokens, Any, dict[str, Json]]:
    """A random BERT of 2 layers and a tokenizer of the texts' most frequent words, so that trials need no download."""
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    tokenizer = _word_tokenizer(texts)
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=params.max_tokens, pad_token_id=0, **SMALL)
    if n_classes is None:
        model: Any = BertModel(config, add_pooling_layer=False)
    else:
        config.num_labels = n_classes
        model = BertForSequenceClassification(config)
    return Tokens(tokenizer, params.prefix, params.max_tokens), model, {"encoder": "small, random"}


def _word_tokenizer(texts: Sequence[str]) -> Any:
    """Lower-cased words, the most frequent first and of equal ones the first by name; characters for the others."""
    from collections import Counter

    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.BertPreTokenizer()
    lower = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    words = Counter(w for t in texts for w, _ in split.pre_tokenize_str(lower.normalize_str(t)))
    signs = sorted({c for w in words for c in w})[: SMALL_VOCABULARY // 4]
    pieces = [*SPECIAL, *signs, *(f"##{c}" for c in signs)]
    known = set(pieces)
    pieces += [w for w, _ in sorted(words.items(), key=lambda e: (-e[1], e[0])) if w not in known][: SMALL_VOCABULARY - len(pieces)]
    made = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer, made.pre_tokenizer, made.decoder = lower, split, decoders.WordPiece()
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )  # fmt: skip


def pooled(tokens: Tokens, model: Any, texts: Sequence[str], device: str) -> F32:
    """[n, D] means over each text's tokens of the last layer, special tokens included."""
    import torch

    model.to(device).eval()
    ids = tokens.ids(texts)
    out = np.zeros((len(texts), int(model.config.hidden_size)), np.float32)
    for rows in batches([len(i) for i in ids]):
        given = tokens.padded([ids[r] for r in rows], device)
        with torch.inference_mode():
            hidden_BTD = model(**given).last_hidden_state.float()
        mask_BT1 = given["attention_mask"][..., None].float()
        out[rows] = ((hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)).cpu().numpy()
    return out


def save_model(folder: Folder, tokens: Tokens, model: Any, card: dict[str, Json]) -> list[FileEntry]:
    """model/ with weights and tokenizer, and encoder.json. A file system is not asked of the folder."""
    entries = []
    with tempfile.TemporaryDirectory() as scratch:
        model.cpu().save_pretrained(scratch, safe_serialization=True)
        tokens.tokenizer.save_pretrained(scratch)
        _forget_place(scratch)
        for name in sorted(os.listdir(scratch)):
            with open(os.path.join(scratch, name), "rb") as handle:
                entries.append(folder.write_bytes(f"{MODEL}/{name}", handle.read()))
    entries.append(folder.write_bytes(CARD, json.dumps(card, indent=1, sort_keys=True, ensure_ascii=False).encode()))
    return entries


def _forget_place(folder: str) -> None:
    """Where a model was read from is no part of it: the same model from another folder is the same bytes."""
    for name in ("config.json", "tokenizer_config.json"):
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            continue
        with open(path, encoding="utf-8") as file:
            content = dict(json.load(file))
        for key in ("_name_or_path", "name_or_path", "local_files_only"):
            content.pop(key, None)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1, sort_keys=True, ensure_ascii=False)
