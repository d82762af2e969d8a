"""The book-keeping of documents: every document read is kept, dropped or quarantined, and the three are counted independently.

Pass 1 (step ``documents``) counts read, kept, dropped and quarantined; ``select`` counts what deduplication, decontamination and
selection dropped of the kept ones, and what each set holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from evaluation.report.blocks import Equation
from evaluation.report.files import RunFiles, mapping, sequence, text
from evaluation.report.plots import Step
from evaluation.report.typography import words

DEDUP, SELECT = "dedup", "select"
REASONS_SHOWN = 5  # per stage in the waterfall; the table has them all


@dataclass(frozen=True)
class Ledger:
    """Counts of a run's documents.

    Attributes:
        read: documents read by pass 1.
        dropped: (stage, reason) -> count, in the order of the stages, then by falling count.
        quarantined: reason -> count.
        kept: set -> count; "documents" before selection.
        masked: kind -> count.
        passed: documents kept by pass 1, None if it is not there.
        selected_from: documents that selection read, None if there was none.
        n_dropped_late: how many of the dropped ones selection dropped.
    """

    read: int
    dropped: Mapping[tuple[str, str], int]
    quarantined: Mapping[str, int]
    kept: Mapping[str, int]
    masked: Mapping[str, int]
    passed: int | None
    selected_from: int | None
    n_dropped_late: int

    @property
    def n_kept(self) -> int:
        return sum(self.kept.values())

    @property
    def n_dropped(self) -> int:
        return sum(self.dropped.values())

    @property
    def n_quarantined(self) -> int:
        return sum(self.quarantined.values())

    def equations(self) -> list[Equation]:
        """read = kept + dropped + quarantined, for the whole, and for each pass where there are two."""
        parts = (("kept", self.n_kept), ("dropped", self.n_dropped), ("quarantined", self.n_quarantined))
        out = [Equation("Whole run", ("read", self.read), parts)]
        if self.passed is not None and self.selected_from is not None:
            later = self.n_dropped_late
            first = (("kept", self.passed), ("dropped", self.n_dropped - later), ("quarantined", self.n_quarantined))
            out.append(Equation("Filtering pass", ("read", self.read), first))
            out.append(Equation("Selection", ("read", self.selected_from), (("kept", self.n_kept), ("dropped", later))))
        return out

    def steps(self) -> list[Step]:
        """The waterfall: read, what each stage and reason took away, what each set holds."""
        out = [Step("read", "total", 0, self.read)]
        left = self.read
        for reason, n in self.quarantined.items():
            out.append(Step(f"quarantined · {words(reason)}", "quarantined", left - n, left))
            left -= n
        for stage in dict.fromkeys(stage for stage, _ in self.dropped):
            for label, n in self._reasons(stage):
                out.append(Step(label, "dropped", left - n, left))
                left -= n
        base = 0
        for name, n in self.kept.items():
            out.append(Step(f"kept · {name}", "kept", base, base + n))
            base += n
        return out

    def _reasons(self, stage: str) -> list[tuple[str, int]]:
        found = [(reason, n) for (s, reason), n in self.dropped.items() if s == stage]
        label = words(stage)
        rows = [(label if reason == stage else f"{label} · {words(reason)}", n) for reason, n in found[:REASONS_SHOWN]]
        rest = found[REASONS_SHOWN:]
        return [*rows, (f"{label} · {len(rest)} more reasons", sum(n for _, n in rest))] if rest else rows


def read_ledger(files: RunFiles) -> Ledger | None:
    """The ledger of a run; None if neither pass has finished."""
    first, second = files.of_kind("documents"), files.of_kind("select")
    if not first and not second:
        return None
    early, late = _total(s.counts for s in first), _total(s.counts for s in second)
    after = [text(mapping(s).get("stage")) for s in sequence(mapping(files.record.recipe.get("corpus")).get("after_dedup"))]
    order = [*(str(n) for s in first for n in sequence(s.summary.get("stages"))), DEDUP, *after, SELECT]
    counts = early + late
    kept = _below(late, "kept/") if second else {"documents": early["kept"]}
    return Ledger(
        read=early["read"] if first else late["read"],
        dropped=_dropped(counts, order),
        quarantined=_falling(_below(counts, "quarantined/")),
        kept=kept,
        masked=_falling(_below(counts, "masked/")),
        passed=early["kept"] if first else None,
        selected_from=late["read"] if second else None,
        n_dropped_late=sum(_below(late, "dropped/").values()),
    )


def _total(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    out: Counter[str] = Counter()
    for c in counts:
        out.update(c)
    return out


def _below(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {k[len(prefix) :]: counts[k] for k in sorted(counts) if k.startswith(prefix)}


def _falling(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _dropped(counts: Mapping[str, int], order: list[str]) -> dict[tuple[str, str], int]:
    """Counts below dropped/ by the order of stages; a stage nobody announced comes last."""
    found = {}
    for key, n in _below(counts, "dropped/").items():
        stage, _, reason = key.partition("/")
        found[(stage, reason or stage)] = n
    rank = {stage: i for i, stage in reversed(list(enumerate(order)))}
    return dict(sorted(found.items(), key=lambda item: (rank.get(item[0][0], len(order)), item[0][0], -item[1], item[0][1])))
