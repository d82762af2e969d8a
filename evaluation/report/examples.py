"""The chapter of examples: kept documents, dropped ones by reason, and the models' answers to the same questions side by side.

Examples are the first of each file in name order, so the same artifacts give the same examples. Every text is masked again here, kept
ones too: a recipe may have no privacy stage, and a model may recite.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from evaluation.report.blocks import Block, Details, Example, Examples, Section
from evaluation.report.files import RunFiles, StepFiles, integer, number, sequence, text
from evaluation.report.ledger import read_ledger
from evaluation.report.mask import excerpt, host
from evaluation.report.typography import count, decimal, words
from store.params import Json

PER_SET, PER_REASON, PER_QUIZ, QUESTIONS, REASONS = 3, 2, 3, 9, 24
FILES_SEARCHED = 8  # of dropped documents: texts are kept for a sample of them only
ROWS_SEARCHED = 65_536  # in each such file
ANSWER_CHARS, QUESTION_CHARS = 600, 900
KEPT_COLUMNS = ["text", "url", "date", "language", "language_score", "score_", "n_masked"]


def examples_section(files: RunFiles, colours: dict[str, int]) -> Section | None:
    """The chapter, or None if there is nothing to show."""
    kept, dropped, answers = _kept(files), _dropped(files), _answers(files, colours)
    blocks: list[Block] = [*answers]
    if kept:
        blocks.append(Details("Documents that were kept", tuple(kept)))
    if dropped:
        blocks.append(Details("Documents that were dropped, by reason", tuple(dropped)))
    return Section("examples", "Examples", tuple(blocks)) if blocks else None


def _kept(files: RunFiles) -> list[Block]:
    out: list[Block] = []
    for step in files.of_kind("select"):
        for name in [k.removeprefix("kept/") for k in step.counts if k.startswith("kept/")]:
            out += _first(step, f"{name}/", f"Kept in {name}")
    for step in files.of_kind("documents") if not out else []:
        out += _first(step, "kept/", "Kept by the filtering pass")
    return out


def _first(step: StepFiles, prefix: str, title: str) -> list[Block]:
    items: list[Example] = []
    for name in step.names(prefix, ".parquet"):
        for batch in step.batches(name, KEPT_COLUMNS, 4 * PER_SET):
            for row in batch.to_pylist():
                if text(row.get("text")) and len(items) < PER_SET:
                    items.append(Example(excerpt(row["text"]), _facts(row)))
            break
        if len(items) == PER_SET:
            break
    return [Examples(title, tuple(items))] if items else []


def _facts(row: Mapping[str, Json]) -> str:
    parts = [host(text(row.get("url"))), text(row.get("date"))[:10], text(row.get("language"))]
    for key, value in row.items():
        found = number(value)
        if found is not None and "score" in key:
            parts.append(f"{words(key)} {decimal(found)}")
    if masked := integer(row.get("n_masked")):
        parts.append(f"{count(masked)} masked")
    return " · ".join(p for p in parts if p)


def _dropped(files: RunFiles) -> list[Block]:
    ledger = read_ledger(files)
    wanted = list(ledger.dropped)[:REASONS] if ledger else []
    found: dict[tuple[str, str], list[Example]] = {key: [] for key in wanted}
    for step in files.of_kind("documents", "select"):
        for name in step.names("dropped/", ".parquet")[:FILES_SEARCHED]:
            _search(step, name, found)
    return [Examples(_title(stage, reason), tuple(items)) for (stage, reason), items in found.items() if items]


def _title(stage: str, reason: str) -> str:
    return words(stage) if stage == reason else f"{words(stage)} · {words(reason)}"


def _search(step: StepFiles, name: str, found: dict[tuple[str, str], list[Example]]) -> None:
    n_rows = 0
    for batch in step.batches(name, ["stage", "reason", "value", "url", "text"], 4096):
        n_rows += batch.num_rows
        if "text" in batch.schema.names:
            for row in batch.filter(batch["text"].is_valid()).to_pylist():
                items = found.get((text(row.get("stage")), text(row.get("reason"))))
                if items is not None and len(items) < PER_REASON and row["text"].strip():
                    items.append(Example(excerpt(row["text"]), _dropped_facts(row)))
        if n_rows >= ROWS_SEARCHED or all(len(v) == PER_REASON for v in found.values()):
            return


def _dropped_facts(row: Mapping[str, Json]) -> str:
    value = number(row.get("value"))
    return " · ".join(p for p in (host(text(row.get("url"))), "" if value is None else f"value {decimal(value)}") if p)


def _answers(files: RunFiles, colours: dict[str, int]) -> list[Block]:
    by_question: dict[str, list[Example]] = {}
    references: dict[str, str] = {}
    asked: Counter[str] = Counter()
    for step in files.of_kind("evaluate"):
        for name in step.names("samples/", ".jsonl"):
            model = name.removeprefix("samples/").removesuffix(".jsonl")
            for line in step.lines(name):
                question = text(line.get("question"))
                quiz = text(line.get("set"))
                if question and question not in by_question and asked[quiz] < PER_QUIZ and len(by_question) < QUESTIONS:
                    asked[quiz] += 1
                    by_question[question] = []
                    references[question] = _reference(line.get("reference"))
                if question in by_question:
                    by_question[question].append(_answer(line, model, colours.setdefault(model, len(colours))))
    order = {m: i for i, m in enumerate(colours)}
    out = []
    for question, items in by_question.items():
        reference = excerpt(references[question], ANSWER_CHARS)
        shown = tuple(sorted(items, key=lambda e: order.get(e.label, 0)))
        out.append(Examples("Question", shown, excerpt(question, QUESTION_CHARS), reference, columns=True))
    return list(out)


def _reference(value: Json) -> str:
    """One right answer or several."""
    return " / ".join(v for v in map(text, sequence(value)) if v) or text(value)


def _answer(line: Mapping[str, Json], model: str, series: int) -> Example:
    correct = {True: "holds the reference", False: "does not hold the reference"}
    facts = [text(line.get("language")), "cut off at the limit" if line.get("truncated") is True else ""]
    facts += [v for k, v in correct.items() if line.get("correct") is k]
    answer = text(line.get("answer"))
    return Example(excerpt(answer, ANSWER_CHARS) if answer.strip() else "(no answer)", " · ".join(f for f in facts if f), series, model)
