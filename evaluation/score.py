"""Scoring models: every model on its own (resumable, mappable), then all of them side by side.

Layout of ``out``::

    scores.json             every metric of every model with standard errors, and paired differences between models
    items/<model>.jsonl     one line per held-out document, benchmark item and answer: all that scores.json is made from
    samples/<model>.jsonl   questions and answers as written
    models/<model>.json     what was scored and how; written last, so its existence means the model is done

``evaluate_one`` does the work of one model and may run anywhere; ``combine`` reads the items of all models and writes scores.json.
Numbers keep six significant digits (log-likelihoods eight), below which batch sizes and machines disagree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from evaluation.answers import Identify, answer_questions
from evaluation.choice import METRICS, ChoiceTask, score_choices
from evaluation.items import read_items, read_questions, spaced
from evaluation.likelihood import read_texts, score_texts
from evaluation.model import OpenModel, open_model
from evaluation.params import EvaluationParams
from evaluation.tables import compare
from store.errors import ArtifactError, InputError, RecipeError
from store.fingerprint import canonical_json, fingerprint
from store.fs import Folder, digest_file
from store.models import ModelFolder
from store.params import Json

SCORES = "scores.json"
STEP, VERSION = "evaluate", 1
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
Heldout = Mapping[str, Sequence[str]]
Rows = list[dict[str, Json]]


def evaluate(
    params: EvaluationParams,
    models: Mapping[str, str],
    heldout: Heldout,
    out: str,
    identify: Identify | None = None,
    device: str = "auto",
) -> dict[str, Json]:
    """Score every model and write ``out``; models scored by an earlier run with the same inputs are not scored again.

    Args:
        models: name -> model folder, in the order in which they are compared (parents first).
        heldout: name -> Parquet files with a column ``text``.
        out: folder to write, local or remote.
        identify: names the language of texts; None: the language of answers is not measured.
        device: "auto", "cpu" or "cuda".

    Returns:
        The content of scores.json.
    """
    for name, folder in models.items():
        evaluate_one(params, name, folder, heldout, out, identify, device)
    return combine(params, list(models), out)


def evaluate_one(
    params: EvaluationParams,
    name: str,
    folder: str,
    heldout: Heldout,
    out: str,
    identify: Identify | None = None,
    device: str = "auto",
) -> dict[str, Json]:
    """Score one model and write its three files. Returns models/<name>.json."""
    if not MODEL_NAME.fullmatch(name):
        raise RecipeError(f"{name!r} cannot name a model", expected="letters, digits, dots, dashes and underscores")
    root = Folder(out).make()
    identity = _identity(params, folder, heldout, identify)
    done = _finished(root, name)
    if done is not None and done["fingerprint"] == identity:
        return done
    benchmarks = _benchmarks(params)
    lm = open_model(folder, device, params.dtype)
    items = _heldout_rows(params, lm, heldout) + _choice_rows(params, lm, benchmarks)
    answers, samples = _answer_rows(params, lm, identify)
    root.write_bytes(f"items/{name}.jsonl", _jsonl(items + answers))
    root.write_bytes(f"samples/{name}.jsonl", _jsonl(samples))
    about: dict[str, Json] = {
        "fingerprint": identity,
        "n_parameters": sum(p.numel() for p in lm.model.parameters()),
        "dtype": str(lm.model.dtype).removeprefix("torch."),
        "start_token": str(lm.tokenizer.convert_ids_to_tokens(lm.start_id)),
        "context": min(params.context, lm.max_context),
        "chat_template": lm.has_chat_template,
    }
    root.write_bytes(f"models/{name}.json", _pretty(about))
    return about


def combine(params: EvaluationParams, names: Sequence[str], out: str) -> dict[str, Json]:
    """Compare the models scored in ``out`` and write scores.json. ArtifactError names a model that is not there."""
    root = Folder(out)
    items: dict[str, Rows] = {}
    about: dict[str, Json] = {}
    for name in names:
        done = _finished(root, name)
        if done is None:
            raise ArtifactError(f"the model {name} has not been scored", where=out, remedy="run the evaluation again")
        about[name] = {k: v for k, v in done.items() if k != "fingerprint"}
        items[name] = [json.loads(line) for line in root.read_bytes(f"items/{name}.jsonl").splitlines()]
    scores: dict[str, Json] = {"models": list(names), "about": about, "metrics": compare(params, items)}
    root.write_bytes(SCORES, _pretty(scores))
    return scores


def _identity(params: EvaluationParams, folder: str, heldout: Heldout, identify: Identify | None) -> str:
    """Fingerprint of everything a model's items depend on, by content."""
    inputs = {f"model/{n}": d for n, d in ModelFolder.open(folder).digests().items()}
    for name, files in heldout.items():
        inputs |= {f"heldout/{name}/{i:06d}": digest_file(f)[1] for i, f in enumerate(files)}
    identity = params.identity(lambda url: digest_file(url)[1]) | {"languages": identify is not None}
    return fingerprint(STEP, VERSION, identity, inputs)


def _finished(root: Folder, name: str) -> dict[str, Json] | None:
    wanted = [f"models/{name}.json", f"items/{name}.jsonl", f"samples/{name}.jsonl"]
    return dict(json.loads(root.read_bytes(wanted[0]))) if all(root.exists(f) for f in wanted) else None


def _benchmarks(params: EvaluationParams) -> list[ChoiceTask]:
    tasks = []
    for b in params.benchmarks:
        found = read_items(b.file, b.duplicates)
        if params.n_shot >= len(found):
            raise InputError(f"the benchmark has {len(found)} items, too few for {params.n_shot} shots", where=b.file)
        tasks.append(ChoiceTask(b.name, [found[i] for i in spaced(len(found), params.max_items)], b.template or params.template))
    return tasks


def _heldout_rows(params: EvaluationParams, lm: OpenModel, heldout: Heldout) -> Rows:
    rows: Rows = []
    for name, files in heldout.items():
        texts = read_texts(files, params.max_docs)
        found = score_texts(lm, texts, context=params.context, tokens_per_batch=params.tokens_per_batch)
        for i, (nats, n_bytes, n_tokens) in enumerate(zip(found.nats, found.n_bytes, found.n_tokens, strict=True)):
            row: dict[str, Json] = {"kind": "text", "set": name, "line": i, "nats": _digits(float(nats), 8)}
            rows.append(row | {"n_bytes": int(n_bytes), "n_tokens": int(n_tokens)})
    return rows


def _choice_rows(params: EvaluationParams, lm: OpenModel, tasks: list[ChoiceTask]) -> Rows:
    rows: Rows = []
    for name, choices in score_choices(lm, tasks, n_shot=params.n_shot, batch_size=params.batch_size).items():
        for c in choices:
            row: dict[str, Json] = {"kind": "choice", "set": name, "line": c.item.line, "id": c.item.id, "gold": c.item.answer}
            values: list[Json] = [_digits(v, 8) for v in c.log_likelihoods]
            row |= {"n_choices": len(c.item.choices), "log_likelihoods": values}
            rows.append(row | {m: int(c.scores[m]) for m in METRICS} | {"cut": c.cut})
    return rows


def _answer_rows(params: EvaluationParams, lm: OpenModel, identify: Identify | None) -> tuple[Rows, Rows]:
    rows: Rows = []
    samples: Rows = []
    for asked in params.open_questions:
        questions = read_questions(asked.file)
        answers = answer_questions(
            lm, questions, template=params.template, system_prompt=params.system_prompt, max_new_tokens=params.max_new_tokens,
            batch_size=params.batch_size, identify=identify,
        )  # fmt: skip
        for a in answers:
            row: dict[str, Json] = {"kind": "answer", "set": asked.name, "line": a.question.line, "id": a.question.id}
            row |= {"n_tokens": a.n_tokens, "n_chars": len(a.text), "truncated": a.truncated, "empty": a.empty, "correct": a.correct}
            row |= {"language": a.language}
            rows.append(row)
            p = a.language_probability
            text: dict[str, Json] = {"question": a.question.question, "reference": list(a.question.references), "answer": a.text}
            samples.append(row | text | {"language_probability": None if p is None else _digits(p, 6)})
    return rows, samples


def _digits(value: float, n: int) -> float:
    return float(f"{value:.{n}g}")


def _jsonl(rows: Rows) -> bytes:
    return b"".join(canonical_json(row) + b"\n" for row in rows)


def _pretty(body: dict[str, Json]) -> bytes:
    return (json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
