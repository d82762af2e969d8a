"""Multiple choice by log-likelihood, computed by lm-evaluation-harness on local files.

All benchmarks of a model go through one call of the harness. Each becomes a task whose prompt is ready-made (column ``prompt``), so
what the harness sees is exactly what the template says. The harness continues the prompt with a space and each choice, and takes

* acc: the choice of greatest log-likelihood,
* acc_norm: of greatest log-likelihood per character,
* acc_bytes: per UTF-8 byte.

Nothing is fetched: task, data and the datasets library's cache lie in a temporary folder. Results are kept by item, so that two
models can be compared on the same items.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from evaluation.items import Item
from evaluation.model import OpenModel
from store.errors import StepError

if TYPE_CHECKING:
    from lm_eval.api.model import LM

METRICS = ("acc", "acc_norm", "acc_bytes")
FEWSHOT_SEED = 1234
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")


@dataclass(frozen=True)
class Choice:
    """What a model made of one item.

    Attributes:
        log_likelihoods: ln p of each choice after the prompt, in the item's order.
        scores: METRICS -> 1.0 right, 0.0 wrong.
        cut: the prompt was longer than the model's context and lost its beginning.
    """

    item: Item
    log_likelihoods: tuple[float, ...]
    scores: Mapping[str, float]
    cut: bool


@dataclass(frozen=True)
class ChoiceTask:
    """A benchmark as it is put to the models."""

    name: str
    items: Sequence[Item]
    template: str


def score_choices(lm: OpenModel, tasks: Sequence[ChoiceTask], *, n_shot: int = 0, batch_size: int = 16) -> dict[str, list[Choice]]:
    """Every benchmark's items in file order, by benchmark name.

    ``n_shot`` solved items of the same benchmark (drawn with a fixed seed, never the item itself) precede each prompt.
    StepError if the harness answers with other items than it was given.
    """
    if not tasks:
        return {}
    with tempfile.TemporaryDirectory(prefix="definemed-") as folder, _offline():
        ids = [f"task_{i:03d}" for i in range(len(tasks))]  # a benchmark's name may hold what a task name may not
        for name, task in zip(ids, tasks, strict=True):
            _write_task(folder, name, task, n_shot)
        samples = _run(lm, folder, ids, batch_size)
    return {task.name: _collect(lm, task, samples[name]) for name, task in zip(ids, tasks, strict=True)}


def prompt_of(template: str, question: str) -> str:
    """The template with the question in it; braces in the question mean nothing."""
    return template.replace("{question}", question)


def _write_task(folder: str, name: str, task: ChoiceTask, n_shot: int) -> None:
    data = os.path.join(folder, f"{name}.jsonl")
    with open(data, "w", encoding="utf-8") as file:
        for item in task.items:
            row = {"line": item.line, "prompt": prompt_of(task.template, item.question), "choices": item.choices, "gold": item.answer}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    config = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": data}, "cache_dir": os.path.join(folder, "cache")},
        "test_split": "test",
        "fewshot_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "prompt",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "target_delimiter": " ",
        "num_fewshot": n_shot,
        "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in METRICS],
    }
    with open(os.path.join(folder, f"{name}.yaml"), "w", encoding="utf-8") as file:
        yaml.safe_dump(config, file)


def _run(lm: OpenModel, folder: str, names: list[str], batch_size: int) -> Mapping[str, list[dict[str, Any]]]:
    """The harness's samples by task; everything it says about them is recomputed from these."""
    from lm_eval import evaluator
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=folder, include_defaults=False)
    results = evaluator.simple_evaluate(
        model=_harness_model(lm, batch_size), tasks=list(names), task_manager=manager, bootstrap_iters=0,
        log_samples=True, fewshot_random_seed=FEWSHOT_SEED,
    )  # fmt: skip
    if results is None:
        raise StepError("lm-evaluation-harness returned nothing", where="step evaluate")
    samples: Mapping[str, list[dict[str, Any]]] = results["samples"]
    return samples


def _harness_model(lm: OpenModel, batch_size: int) -> LM:
    from lm_eval.models.huggingface import HFLM

    class Quiet(HFLM):  # type: ignore[misc]  # lm-eval is untyped
        """The harness's own model, without a progress bar of its own inside ours."""

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:  # noqa: ARG002
            return super().loglikelihood(requests, disable_tqdm=True)  # type: ignore[no-any-return]

    return Quiet(pretrained=lm.model, tokenizer=lm.tokenizer, batch_size=batch_size, backend="causal")


def _collect(lm: OpenModel, task: ChoiceTask, samples: list[dict[str, Any]]) -> list[Choice]:
    found = {int(s["doc"]["line"]): s for s in samples}
    if found.keys() != {i.line for i in task.items} or len(samples) != len(task.items):
        raise StepError(f"lm-evaluation-harness answered {len(samples)} of {len(task.items)} items", where=f"benchmark {task.name}")
    out = []
    for item in task.items:
        sample = found[item.line]
        values = tuple(float(r[0]) for r in sample["filtered_resps"])
        out.append(Choice(item, values, {m: float(sample[m]) for m in METRICS}, _is_cut(lm, sample["arguments"])))
    return out


def _is_cut(lm: OpenModel, arguments: Sequence[Sequence[str]]) -> bool:
    """Whether the harness had to shorten a prompt of the item: it does so from the left, and only logs it."""
    ids = lm.tokenizer([context + choice for context, choice in arguments])["input_ids"]
    return any(len(i) > lm.max_context + 1 for i in ids)  # the last token is predicted, not read


@contextmanager
def _offline() -> Iterator[None]:
    """No request leaves the machine, whatever the environment says, and the harness's chatter stays out of our log."""
    import datasets

    before = {name: os.environ.get(name) for name in OFFLINE}
    had_bars = datasets.are_progress_bars_disabled() is False
    datasets.disable_progress_bars()
    loggers = [logging.getLogger(n) for n in ("lm_eval", "datasets")]
    levels = [logger.level for logger in loggers]
    os.environ.update(dict.fromkeys(OFFLINE, "1"))
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        if had_bars:
            datasets.enable_progress_bars()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
