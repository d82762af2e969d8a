"""What must hold before two models may be merged. Only headers and JSON are read: seconds, also for large models.

Every difference that would make the merge meaningless is an InputError that says what differs, shows the first few names, and
what to do about it. Differences that do not matter, because the merged model takes the instruct parent's setting, become notes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from merging.params import MergeParams
from merging.weights import DTYPES, TensorEntry, read_headers, read_json
from store.errors import InputError
from store.models import ModelFolder

N_SHOWN = 3
# Settings that change what the weights mean and that shapes do not show.
ARCHITECTURE_KEYS = (
    "model_type",
    "architectures",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "rms_norm_eps",
    "tie_word_embeddings",
)
TAKEN_FROM_INSTRUCT = ("bos_token_id", "eos_token_id", "pad_token_id", "max_position_embeddings")


@dataclass(frozen=True)
class Preflight:
    """Two models that can be merged.

    Attributes:
        n_tensors: number of tensors.
        n_parameters: number of weights.
        dtype: number format of the result, torch's name.
        notes: harmless differences, settled in favour of the instruct parent.
    """

    n_tensors: int
    n_parameters: int
    dtype: str
    notes: tuple[str, ...]


def preflight(params: MergeParams, instruct: ModelFolder, trained: ModelFolder) -> Preflight:
    """Check that ``trained`` can be merged into ``instruct``; InputError says what differs."""
    first, second = instruct.config, trained.config
    _same_architecture(first, second, trained.path)
    ours, theirs = read_headers(instruct), read_headers(trained)
    _same_names(ours, theirs, trained.path)
    _same_shapes(ours, theirs, trained.path)
    dtype = _dtype(params, ours, theirs, trained.path)
    _tokenizers(instruct, trained, n_rows=_embedding_rows(ours, first))
    notes = [
        f"{key}: {second[key]} in the trained model, {first[key]} kept from the instruct parent"
        for key in TAKEN_FROM_INSTRUCT
        if key in first and key in second and first[key] != second[key]
    ]
    return Preflight(len(ours), sum(_size(e.shape) for e in ours.values()), dtype, tuple(notes))


def _same_architecture(first: dict[str, object], second: dict[str, object], where: str) -> None:
    for key in ARCHITECTURE_KEYS:
        if key in first and key in second and first[key] != second[key]:
            raise InputError(f"the models differ in {key}: {second[key]} here, {first[key]} in the instruct parent",
                             where=where, expected="two models of one architecture",
                             remedy="merge a model only with the parent it was trained from, or a sibling of it")  # fmt: skip
    if _rotary(first) != _rotary(second):
        raise InputError(f"the position encodings differ: {_rotary(second)} here, {_rotary(first)} in the instruct parent",
                         where=where, remedy="merge before the context is extended, or extend both parents")  # fmt: skip


def _rotary(config: dict[str, object]) -> dict[str, object]:
    """The rotary settings in one form: transformers 5 writes rope_parameters, earlier ones rope_theta and rope_scaling."""
    settings: dict[str, object] = {"rope_theta": config.get("rope_theta", 10000.0), "rope_type": "default"}
    for key in ("rope_scaling", "rope_parameters"):
        part = config.get(key)
        if isinstance(part, dict):
            settings.update({("rope_type" if k == "type" else k): v for k, v in part.items()})
    return settings


def _same_names(ours: dict[str, TensorEntry], theirs: dict[str, TensorEntry], where: str) -> None:
    missing, extra = sorted(ours.keys() - theirs.keys()), sorted(theirs.keys() - ours.keys())
    if not missing and not extra:
        return
    remedy = "the models are not of one architecture; choose the parent the model was trained from"
    if {*missing, *extra} <= {"lm_head.weight"}:
        remedy = "one model stores its tied output layer and the other does not: load and save both with save_pretrained"
    parts = [f"{len(n)} {what} ({_some(n)})" for n, what in ((missing, "are missing here"), (extra, "are only here")) if n]
    raise InputError(f"the tensor names differ from the instruct parent's: {', '.join(parts)}", where=where, remedy=remedy)


def _same_shapes(ours: dict[str, TensorEntry], theirs: dict[str, TensorEntry], where: str) -> None:
    different = [n for n in ours if ours[n].shape != theirs[n].shape]
    if not different:
        return
    shown = _some(f"{n} {list(theirs[n].shape)} here, {list(ours[n].shape)} there" for n in different)
    vocabulary = all(ours[n].shape[1:] == theirs[n].shape[1:] for n in different)
    raise InputError(
        f"{len(different)} tensor{'s differ' if len(different) > 1 else ' differs'} in shape from the instruct parent: {shown}",
        where=where,
        remedy="the vocabularies have different sizes: train with the instruct parent's tokenizer and do not resize its embeddings"
        if vocabulary
        else "choose the parent the model was trained from",
    )


def _dtype(params: MergeParams, ours: dict[str, TensorEntry], theirs: dict[str, TensorEntry], where: str) -> str:
    unknown = [e for e in (*ours.values(), *theirs.values()) if e.dtype not in DTYPES]
    if unknown:
        raise InputError(f"tensors of type {unknown[0].dtype} cannot be merged ({_some(e.name for e in unknown)})", where=where,
                         remedy="merge the models before they are quantised")  # fmt: skip
    different = [n for n in ours if ours[n].dtype != theirs[n].dtype]
    if params.dtype is not None:
        return params.dtype
    if different:
        name = different[0]
        raise InputError(
            f"{len(different)} tensors differ in number format from the instruct parent: "
            f"{_some(f'{n} {DTYPES[theirs[n].dtype]} here, {DTYPES[ours[n].dtype]} there' for n in different)}",
            where=where, remedy=f"say which format the merged model has: merge.dtype: {DTYPES[ours[name].dtype]}")  # fmt: skip
    formats = sorted({DTYPES[e.dtype] for e in ours.values()})
    if len(formats) > 1:
        raise InputError(f"the models mix number formats ({', '.join(formats)})", where=where,
                         remedy="say which one the merged model has: merge.dtype: bfloat16")  # fmt: skip
    return formats[0]


def _tokenizers(instruct: ModelFolder, trained: ModelFolder, n_rows: int | None) -> None:
    """One vocabulary for both; the instruct parent's chat template must exist, for the merged model inherits it."""
    if not instruct.has_chat_template:
        raise InputError("the instruct parent has no chat template, so the merged model could not hold a conversation",
                         where=instruct.path, expected="chat_template.jinja, or chat_template in tokenizer_config.json",
                         remedy="name the instruct model (not the base model) as merge.instruct")  # fmt: skip
    first, second = vocabulary(instruct.path), vocabulary(trained.path)
    if first and second and first != second:
        different = sorted(
            (t for t in first.keys() | second.keys() if first.get(t) != second.get(t)), key=lambda t: (first.get(t, -1), t)
        )
        shown = _some(f"{t!r} {second.get(t, 'absent')} here, {first.get(t, 'absent')} there" for t in different)
        raise InputError(f"{len(different)} tokens have other ids than in the instruct parent's tokenizer: {shown}",
                         where=trained.path, expected="one vocabulary for both models",
                         remedy="train with the instruct parent's tokenizer, and add no tokens to it")  # fmt: skip
    top = max(first.values(), default=-1)
    if n_rows is not None and top >= n_rows:
        raise InputError(f"the tokenizer knows token {top}, but the model has only {n_rows} embeddings", where=instruct.path,
                         remedy="use the tokenizer that belongs to the model")  # fmt: skip


def vocabulary(folder: str) -> dict[str, int]:
    """Token -> id, special tokens included, from tokenizer.json; {} where a model keeps its tokenizer in another form."""
    found = read_json(folder, "tokenizer.json")
    model = found.get("model", {}).get("vocab", {})
    tokens = {str(t): int(i) for t, i in model.items()} if isinstance(model, dict) else {str(p[0]): i for i, p in enumerate(model)}
    tokens.update({str(t["content"]): int(t["id"]) for t in found.get("added_tokens", [])})
    return tokens


def _embedding_rows(entries: dict[str, TensorEntry], config: dict[str, object]) -> int | None:
    rows = [e.shape[0] for n, e in entries.items() if n.endswith(("embed_tokens.weight", "wte.weight", "word_embeddings.weight"))]
    size = config.get("vocab_size")
    return rows[0] if rows else size if isinstance(size, int) else None


def _some(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found[:N_SHOWN]) + (", ..." if len(found) > N_SHOWN else "")


def _size(shape: tuple[int, ...]) -> int:
    n = 1
    for d in shape:
        n *= d
    return n
