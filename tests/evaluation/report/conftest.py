"""A run of every shape the report knows, built of real artifacts: seeded figures that look like a small reference job."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store.artifact import Artifact, Draft, Identity, Receipt
from store.fs import FileEntry, Folder
from store.run import RunRecord, StepRecord
from store.schema import DROPPED, doc_key

HOSTILE = "<script>alert('document')</script><img src=\"http://evil.example/x.png\" onerror=alert(1)>"
HOSTILE_ANSWER = "</p></blockquote><script>alert('answer')</script> & \"quoted\""
MODELS = ("base", "instruct", "continued", "merged")


@dataclass
class Builder:
    """Writes artifacts and collects step records."""

    out: Folder
    cached: frozenset[str] = frozenset()
    steps: list[StepRecord] = field(default_factory=list)

    def add(
        self,
        name: str,
        inputs: Mapping[str, str] | None = None,
        *,
        files: Mapping[str, bytes] | None = None,
        counts: Mapping[str, int] | None = None,
        summary: Mapping[str, object] | None = None,
        params: Mapping[str, object] | None = None,
        provenance: Mapping[str, object] | None = None,
        busy: Mapping[str, float] | None = None,
    ) -> Artifact:
        kind = name.split("/")[0]
        known = {s.name: s.fingerprint for s in self.steps}
        roles = dict(inputs or {})
        identity = Identity(kind, 1, {"name": name, **(params or {})}, {r: known[n] for r, n in roles.items() if n in known})
        draft = Draft.begin(self.out / "artifacts", identity)
        entries: list[FileEntry] = [draft.folder.write_bytes(n, data) for n, data in (files or {}).items()]
        receipt = Receipt(key="0", files=tuple(entries), counts=dict(counts or {}), timing=dict(busy or {}))
        artifact = draft.commit([receipt], summary=summary, provenance=provenance)  # type: ignore[arg-type]
        folder = f"artifacts/{kind}/{identity.fingerprint[:16]}"
        took = (provenance or {}).get("elapsed_s")
        elapsed = float(took) if isinstance(took, (int, float)) else 0.0
        cached = name in self.cached
        self.steps.append(
            StepRecord(
                name=name,
                kind=kind,
                folder=folder,
                fingerprint=identity.fingerprint,
                inputs=roles,
                cached=cached,
                elapsed_s=0.0 if cached else elapsed,
            )
        )
        return artifact

    def record(self, source: str = "sample", **changes: object) -> Folder:
        """Write run.json with the steps so far."""
        recipe = {
            "name": "demo",
            "corpus": {
                "source": {source: {"n_docs": 20000, "seed": 7} if source == "sample" else "s3://key:pass@bucket/data"},
                "stages": [
                    {"stage": "language", "keep": "de", "min_score": 0.65},
                    {"stage": "classify", "name": "medical", "threshold": 0.5},
                ],
            },
            "hub": {"api_key": "sk-verysecret"},
        }
        values = {
            "name": "demo",
            "run_id": "demo-1a2b3c4d",
            "status": "finished",
            "recipe": recipe,
            "steps": tuple(self.steps),
            "started_unix_s": 1_785_000_000.0,
            "elapsed_s": 1234.5,
            "error": None,
            "machine": {
                "cpu": "AMD EPYC 7B13",
                "n_cores": 2,
                "memory_bytes": 23_000_000_000,
                "gpus": [],
                "versions": {"torch": "2.13.0"},
                "hostname": "ward-7-pc",
            },
        }
        run = self.out / "runs" / "demo-1a2b3c4d"
        RunRecord.model_validate({**values, **changes}).write(run.make())
        return run


def parquet(rows: list[dict[str, object]], schema: pa.Schema | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    return sink.getvalue().to_pybytes()


def jsonl(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode()


KEPT_TEXTS = (
    "Die arterielle Hypertonie gehört zu den häufigsten Anlässen für einen Besuch in der Hausarztpraxis. Entscheidend ist, dass der "
    "Blutdruck an mehreren Tagen und in Ruhe gemessen wird; ein einzelner erhöhter Wert genügt nicht. Bei der Untersuchung "
    "achtet man auf Geräusche über den Nierenarterien und auf die Fußpulse.",
    "Nach der Implantation einer Hüftprothese beginnt die Mobilisation meist am ersten Tag. Die Patientin erhielt ⟨e-mail⟩ "
    "zur Rückfrage und wurde mit Unterarmgehstützen entlassen.",
    HOSTILE + " Metformin wird bei eingeschränkter Nierenfunktion angepasst.",
)


def kept_file(texts: tuple[str, ...] = KEPT_TEXTS) -> bytes:
    return parquet(
        [
            {
                "doc_key": doc_key(0, i),
                "id": f"d{i}",
                "text": t,
                "url": f"https://www.beispiel-{i}.de/praxis/frau-meier",
                "dump": "CC-MAIN-2024-10",
                "date": "2024-03-01T10:00:00Z",
                "language": "deu",
                "language_score": 0.98,
                "score_medical": 0.91 - 0.1 * i,
                "n_masked": i,
            }
            for i, t in enumerate(texts)
        ]
    )


DROPS = {
    "dropped/language/not_german": 3120,
    "dropped/language/low_score": 411,
    "dropped/quality/too_short": 1890,
    "dropped/quality/bullets": 77,
    "dropped/quality/ellipsis": 31,
    "dropped/quality/symbols": 118,
    "dropped/quality/stop_words": 260,
    "dropped/quality/no_alphabetic": 12,
    "dropped/quality/word_length": 45,
    "dropped/repetition/top_ngram": 502,
    "dropped/repetition/duplicate_lines": 203,
    "dropped/classify/below_threshold": 7004,
}


def dropped_file(drops: Mapping[str, int], planted: str = "") -> bytes:
    rows: list[dict[str, object]] = []
    for i, key in enumerate(drops):
        _, stage, reason = key.split("/")
        sample = (
            f"Dieses Dokument fiel wegen {reason} heraus. Rückfragen an max.mustermann@klinik-beispiel.de oder +49 30 1234567. "
            + planted
        )
        rows.append(
            {
                "doc_key": doc_key(1, i),
                "id": f"x{i}",
                "url": "https://forum.example.org/user/mustermann",
                "stage": stage,
                "reason": reason,
                "value": 0.31,
                "text": sample + "Das Wetter bleibt wechselhaft. " * 20,
            }
        )
        rows.append(
            {"doc_key": doc_key(2, i), "id": f"y{i}", "url": None, "stage": stage, "reason": reason, "value": None, "text": None}
        )
    return parquet(rows, DROPPED)


def add_corpus(b: Builder) -> None:
    """Sample, classifier, filtering pass, deduplication, selection, tokens and pack plan. 20,000 documents in all."""
    rng = np.random.default_rng(7)
    b.add(
        "sample",
        counts={"read": 20000, "german": 15800, "english": 4200},
        provenance={"elapsed_s": 3.1, "n_workers": 1, "peak_rss_mb": 210},
    )
    card = {
        "n_train": 1600,
        "n_test": 400,
        "positive": "medical",
        "precision": 0.943,
        "recall": 0.921,
        "f1": 0.932,
        "f1_low": 0.902,
        "f1_high": 0.957,
        "tp": 186,
        "fp": 11,
        "fn": 16,
        "threshold": 0.5,
        "curve": [{"threshold": t / 20, "precision": 0.7 + 0.28 * t / 20, "recall": 1 - 0.2 * (t / 20) ** 2} for t in range(1, 20)],
    }
    b.add(
        "classifier",
        {"sample": "sample"},
        files={"card.json": json.dumps(card).encode()},
        provenance={"elapsed_s": 6.4, "n_workers": 1},
    )
    scores = np.concatenate([rng.beta(1.2, 9, 9500), rng.beta(9, 1.6, 6200)])
    counts, edges = np.histogram(scores, 40, (0, 1))
    lang, lang_edges = np.histogram(np.concatenate([rng.beta(40, 1, 15000), rng.random(1200)]), 40, (0, 1))
    n_dropped, quarantined = sum(DROPS.values()), {"quarantined/null_text": 9, "quarantined/invalid_utf8": 3}
    kept = 20000 - n_dropped - 12
    b.add(
        "documents",
        {"source": "sample", "classifier": "classifier"},
        files={"kept/00000.parquet": kept_file(), "dropped/00000.parquet": dropped_file(DROPS)},
        counts={
            "read": 20000,
            "kept": kept,
            **DROPS,
            **quarantined,
            "masked/email": 812,
            "masked/phone": 455,
            "masked/iban": 12,
            "masked/ip": 3,
        },
        summary={
            "stages": ["normalise", "language", "quality", "repetition", "privacy", "classify", "signatures"],
            "n_units": 20,
            "histograms": {
                "score_medical": {"edges": edges.tolist(), "counts": counts.tolist()},
                "language_score": {"edges": lang_edges.tolist(), "counts": lang.tolist()},
            },
        },
        params={"stages": [{"stage": "language", "min_score": 0.65}]},
        provenance={"elapsed_s": 41.7, "n_workers": 2, "peak_rss_mb": 1420.5},
        busy={"language": 20.1, "quality": 14.2, "repetition": 22.9, "classify": 9.4, "signatures": 11.0, "read": 2.0},
    )
    b.add(
        "dedup",
        {"documents": "documents"},
        counts={"read": kept},
        summary={
            "n_docs": kept,
            "n_clusters": 410,
            "n_duplicates": 733,
            "largest_cluster": 131,
            "cluster_sizes": {"2": 301, "3-4": 77, "5-9": 22, "10-99": 9, "100+": 1},
        },
        provenance={"elapsed_s": 2.2, "n_workers": 2, "peak_rss_mb": 640},
    )
    late = {
        "dropped/dedup/exact_duplicate": 133,
        "dropped/dedup/near_duplicate": 600,
        "dropped/decontaminate/overlap": 17,
        "dropped/select/not_sampled": 400,
    }
    left = kept - sum(late.values())
    sets = {"kept/domain": left - 1500 - 120 - 60, "kept/domain-heldout": 120, "kept/general": 1500, "kept/general-heldout": 60}
    b.add(
        "select",
        {"documents": "documents", "dedup": "dedup"},
        files={
            "domain/00000.parquet": kept_file(),
            "domain-heldout/00000.parquet": kept_file(KEPT_TEXTS[:1]),
            "dropped/00000.parquet": dropped_file(late),
        },
        counts={"read": kept, **sets, **late},
        provenance={"elapsed_s": 4.0, "n_workers": 2, "peak_rss_mb": 580},
    )
    b.add("tokenizer", {"select": "select"}, summary={"vocab_size": 8192}, provenance={"elapsed_s": 5.5})
    for name, n_docs, n_tokens in (
        ("domain", 3048, 2_812_344),
        ("general", 1500, 1_200_100),
        ("domain-heldout", 120, 110_020),
        ("general-heldout", 60, 48_007),
    ):
        b.add(
            f"tokens/{name}",
            {"documents": "select", "tokenizer": "tokenizer"},
            summary={"n_docs": n_docs, "n_tokens": n_tokens, "n_bytes": 4 * n_tokens, "vocab_size": 8192},
            provenance={"elapsed_s": 1.0 + n_tokens / 1e6, "n_workers": 2, "peak_rss_mb": 400},
        )


def add_models(b: Builder, n_steps: int = 400) -> None:
    """Pack plans, three trained models, and a merge."""
    rng = np.random.default_rng(8)
    for model, sources in (("base", ("general",)), ("instruct", ("general",)), ("continued", ("domain", "general"))):
        b.add(
            f"pack/{model}",
            {s: f"tokens/{s}" for s in sources},
            summary={
                "seq_len": 512,
                "n_rows": 7840,
                "n_tokens": 4_012_444,
                "padding": 0.0004,
                "sources": [{"name": s, "n_tokens": 2_000_000} for s in sources],
            },
            provenance={"elapsed_s": 0.7},
        )
        start = {"base": 9.0, "instruct": 3.9, "continued": 3.6}[model]
        inputs = {"pack": f"pack/{model}", "heldout": "tokens/domain-heldout", "general": "tokens/general-heldout"}
        inputs |= {"instruct": {"parent": "train/base"}, "continued": {"parent": "train/instruct"}}.get(model, {})
        b.add(
            f"train/{model}",
            inputs,
            files=curves(rng, start, n_steps, model == "continued"),
            summary={"n_steps": n_steps, "n_tokens": n_steps * 8192, "n_parameters": 15_731_200, "final_loss": start * 0.71},
            provenance={"elapsed_s": 180.2, "n_workers": 2, "tokens_per_s": 18_211.4, "peak_rss_mb": 2890, "mfu": 0.412,
                        "speed_curve": [[s, 18_000.0 + s] for s in range(2, n_steps + 1, 2)]},
        )  # fmt: skip
    b.add(
        "merge/merged",
        {"instruct": "train/instruct", "trained": "train/continued"},
        params={"method": "slerp", "t": 0.5},
        summary={
            "n_tensors": 148,
            "n_slerped": 97,
            "n_linear": 51,
            "n_zero": 0,
            "n_unchanged": 4,
            "median_angle": 0.0441,
            "max_angle": 0.3127,
            "max_angle_tensor": "lm_head.weight",
            "relative_distance": 0.0731,
            "relative_distance_by_layer": [0.031, 0.052, 0.066, 0.084],
            "relative_distance_by_part": {"attention": 0.041, "mlp": 0.062, "norm": 0.004, "embedding": 0.113},
        },
        provenance={"elapsed_s": 2.4, "n_workers": 1, "peak_rss_mb": 900},
    )


def curves(rng: np.random.Generator, start: float, n_steps: int, forgets: bool) -> dict[str, bytes]:
    metrics, heldout = [], []
    for i in range(1, n_steps + 1):
        loss = start * (0.7 + 0.3 * math.exp(-i / 60)) + float(rng.normal(0, 0.03))
        lr = 3e-4 * min(1, i / 40) * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * i / n_steps)))
        metrics.append(
            {
                "step": i,
                "loss": loss,
                "lr": lr,
                "grad_norm": 0.6 + float(rng.random()),
                "tokens": i * 8192,
                **({"skipped": True} if i % 199 == 0 else {}),
            }
        )
    for i in range(0, n_steps + 1, max(1, n_steps // 8)):
        gain = 1 - math.exp(-i / 120)
        heldout.append({"step": i, "name": "domain", "bits_per_byte": start / 3 * (1 - 0.22 * gain)})
        heldout.append({"step": i, "name": "general", "bits_per_byte": start / 3 * (1 + (0.05 if forgets else -0.12) * gain)})
    return {"metrics.jsonl": jsonl(metrics), "heldout.jsonl": jsonl(heldout), "model/config.json": b"{}"}


SCORES = json.loads(Path(__file__).with_name("scores.json").read_text(encoding="utf-8"))
QUESTIONS = (
    ("Welche Werte sprechen für eine Hypertonie?", "Wiederholt über 140/90 mmHg."),
    ("Wie wird Metformin bei Niereninsuffizienz dosiert?", "Nach der GFR angepasst, unter 30 ml/min nicht."),
)


def samples(model: str) -> bytes:
    said = {
        "base": "Welche Werte sprechen für eine Hypertonie? Welche Werte sprechen",
        "instruct": "Ein Wert über 140/90 mmHg.",
        "continued": "Die Hypertonie ist eine Erkrankung, bei der der Blutdruck dauerhaft erhöht ist und",
        "merged": HOSTILE_ANSWER,
    }
    return jsonl(
        [
            {
                "question": q,
                "reference": [r],
                "set": "open medical",
                "correct": model != "base",
                "answer": said[model] + f" ({i})",
                "language": "de",
                "truncated": model == "continued",
            }
            for i, (q, r) in enumerate(QUESTIONS)
        ]
    )


def add_scores(b: Builder) -> None:
    """An evaluation of the four models."""
    models = {"base": "train/base", "instruct": "train/instruct", "continued": "train/continued", "merged": "merge/merged"}
    b.add(
        "evaluate",
        models,
        files={"scores.json": json.dumps(SCORES).encode(), **{f"samples/{m}.jsonl": samples(m) for m in MODELS}},
        provenance={"elapsed_s": 75.0, "n_workers": 1, "peak_rss_mb": 2500},
    )


def full_run(folder: Path) -> tuple[Builder, Folder]:
    """The whole of it."""
    b = Builder(Folder(str(folder)), frozenset({"sample", "classifier", "tokenizer"}))
    add_corpus(b)
    add_models(b)
    add_scores(b)
    return b, b.record()


@pytest.fixture
def build(tmp_path: Path) -> Builder:
    return Builder(Folder(str(tmp_path)))


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Builder, Folder]:
    return full_run(tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="session")
def corpus() -> Callable[[Builder], None]:
    return add_corpus
