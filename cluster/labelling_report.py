"""What labelling gave, in sentences and as a chapter of the classifier's page: sample, votes, failures, agreement, shares.

Made from the summary of the artifact ``labels`` alone: numbers and names of labels, strata and voters, no text and no person's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from evaluation.report import blocks
from evaluation.report.blocks import Block, Cell, Figure, Paragraph, Section, n_cell, right, table, x_cell
from evaluation.report.plots import Dot, dots
from evaluation.report.svg import Scale
from evaluation.report.typography import count, decimal, plural
from store.params import Json

Summary = Mapping[str, Json]
SCORES = {"precision": "Precision", "recall": "Recall", "f1": "F1"}
MOST_STRATA = 30


def number(part: Summary, key: str) -> float | None:
    """A number of a summary, or None."""
    value = part.get(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def part_of(summary: Summary, key: str) -> dict[str, Json]:
    """A part of a summary; empty if it has none."""
    value = summary.get(key)
    return value if isinstance(value, dict) else {}


def rows_of(summary: Summary, key: str) -> list[dict[str, Json]]:
    """Rows of a summary; none if it has none."""
    value = summary.get(key)
    return [r for r in value if isinstance(r, dict)] if isinstance(value, list) else []


def whole(part: Summary, key: str) -> int:
    """A count of a summary; 0 if it has none."""
    return int(number(part, key) or 0)


def with_interval(part: Summary, key: str) -> str:
    """A figure and its interval."""
    value, low, high = (number(part, k) for k in (key, f"{key}_low", f"{key}_high"))
    if value is None:
        return "not known"
    return f"{value:.3f}" + ("" if low is None or high is None else f" ({low:.3f} to {high:.3f})")


def agreement_lines(agreement: Summary) -> list[str]:
    """The agreement in lines for a terminal."""
    out: list[str] = []
    for key, words in (("sample", "the models against people, weighed to the sample"), ("corpus", "weighed to the corpus")):
        if found := part_of(agreement, key):
            out.append(f"{words}: {plural(whole(found, 'n'), 'page')}, kappa {with_interval(found, 'kappa')}, "
                       f"accuracy {with_interval(found, 'accuracy')}, mean F1 {with_interval(found, 'f1_macro')}")  # fmt: skip
            for row in rows_of(found, "by_label"):
                scores = ", ".join(f"{k} {with_interval(row, k)}" for k in SCORES)
                out.append(f"  {row['label']}: {scores}; {whole(row, 'n_truth')} by people, {whole(row, 'n_said')} by the models")
    for row in rows_of(agreement, "voters"):
        out.append(f"voter {row['voter']}: kappa {with_interval(row, 'kappa')}, mean F1 {with_interval(row, 'f1_macro')}, "
                   f"{whole(row, 'n_no_label')} pages without a label")  # fmt: skip
    for row in rows_of(agreement, "people"):
        out.append(
            f"person {row['one']} and person {row['other']}: {plural(whole(row, 'n'), 'page')}, kappa {with_interval(row, 'kappa')}"
        )
    return out


def labelling_section(summary: Summary) -> Section:
    """The chapter about labelling."""
    parts: list[Block] = [Paragraph(labelling_sentence(summary))]
    parts += [_sample(summary), *_shares(summary), *_voters(summary), *_agreement(summary)]
    return Section("labelling", "Labelling", tuple(parts))


def labelling_sentence(summary: Summary) -> str:
    """How many pages were drawn, and who labelled them."""
    without, elsewhere, people = whole(summary, "n_unlabelled"), whole(summary, "n_not_drawn"), part_of(summary, "people")
    text = (f"Of {plural(whole(summary, 'n_sampled'), 'page')} drawn, {count(whole(summary, 'n_sampled') - without)} bear a label and "
            f"{count(without)} none. {count(whole(summary, 'n_by_model'))} labels are the models', "
            f"{count(whole(summary, 'n_by_people'))} people's.")  # fmt: skip
    text += f" {plural(elsewhere, 'page')} that people labelled were not drawn here." if elsewhere else ""
    for one in rows_of(summary, "rounds"):
        if whole(one, "n") < whole(one, "n_wanted"):
            text += f" Round {one['round']} found {count(whole(one, 'n'))} of the {count(whole(one, 'n_wanted'))} pages wanted."
    undecided = whole(people, "n_undecided")
    return text + (f" On {plural(undecided, 'page')} people did not agree." if undecided else "")


def _sample(summary: Summary) -> Block:
    rows = []
    for one in rows_of(summary, "rounds"):
        strata = [(k, v) for k, v in part_of(one, "strata").items() if isinstance(v, dict)]
        for name, row in strata[:MOST_STRATA]:
            shown = name if one.get("by") != "boundary" else f"at random, {name}"
            rows.append([Cell(str(one["round"])), Cell(shown), n_cell(whole(row, "n_pool")), n_cell(whole(row, "n"))])
        if more := strata[MOST_STRATA:]:
            n_pool, n = (sum(whole(v, k) for _, v in more) for k in ("n_pool", "n"))
            rows.append([Cell(str(one["round"])), Cell(f"{len(more)} further strata"), n_cell(n_pool), n_cell(n)])
        if n_near := whole(one, "n_boundary"):
            near = f"nearest to {one['threshold']}: scores {number(one, 'score_low') or 0:.3f} to {number(one, 'score_high') or 0:.3f}"
            rows.append([Cell(str(one["round"])), Cell(near), n_cell(whole(one, "n_pool")), n_cell(n_near)])
    note = "The pool is what the language stage keeps of pages drawn by a hash of their ids."
    return table("Pages drawn to be labelled", ["Round", "Stratum", "Pool", "Pages"], rows, note)


def _shares(summary: Summary) -> list[Block]:
    rows = []
    for key, who in (("shares_by_people", "people"), ("shares_by_model", "the models")):
        for row in rows_of(summary, key):
            low, high = (100 * (number(row, f"share_{end}") or 0) for end in ("low", "high"))
            share = 100 * (number(row, "share") or 0)
            rows.append([Cell(str(row["label"])), Cell(who), x_cell(share, f"{share:.2f} %"), right(f"{low:.2f} to {high:.2f} %"),
                         n_cell(whole(row, "n_label")), n_cell(whole(row, "n"))])  # fmt: skip
    if not rows:
        return []
    note = "From the first round, weighed by the probability with which its pages were drawn. It is a share of labels, right or wrong."
    head = ["Label", "By", "Share of the corpus", "95 % interval", "Pages with it", "Pages labelled"]
    return [table("How much of the corpus bears a label", head, rows, note)]


def _voters(summary: Summary) -> list[Block]:
    rows, pairs = [], []
    for at, one in enumerate(rows_of(summary, "answers"), 1):
        for v in rows_of(one, "voters"):
            votes = ", ".join(f"{n:,} {label}" for label, n in part_of(v, "votes").items())
            failed = number(v, "failure_rate")
            rows.append([Cell(str(at)), Cell(str(v.get("name"))), Cell(votes), n_cell(whole(v, "asked_again")),
                         x_cell(failed, "" if failed is None else f"{100 * failed:.2f} %")])  # fmt: skip
        for p in rows_of(one, "agreement"):
            kappa = with_interval({**p, "kappa_low": p.get("low"), "kappa_high": p.get("high")}, "kappa")
            pairs.append([Cell(str(at)), Cell(f"{p.get('a')} and {p.get('b')}"), right(kappa), n_cell(whole(p, "n"))])
    found: list[Block] = []
    if rows:
        note = "An answer that is no label after all tries is a failure; it is never guessed."
        found.append(table("Votes of the language models", ["Round", "Voter", "Votes", "Asked again", "Failures"], rows, note))
    if pairs:
        found.append(table("Language models among themselves", ["Round", "Voters", "Kappa (95 % interval)", "Pages"], pairs))
    return found


def _agreement(summary: Summary) -> list[Block]:
    agreement = part_of(summary, "agreement")
    found: list[Block] = []
    if sample := part_of(agreement, "sample"):
        found += _against_people(sample, part_of(agreement, "corpus"))
    voters = [
        [Cell(str(r["voter"])), right(with_interval(r, "kappa")), right(with_interval(r, "f1_macro")), n_cell(whole(r, "n_no_label"))]
        for r in rows_of(agreement, "voters")
    ]
    if len(voters) > 1:
        found.append(table("Each voter against people", ["Voter", "Kappa", "Mean F1", "Without a label"], voters))
    people = [
        [
            Cell(f"{r['one']} and {r['other']}"),
            right(with_interval(r, "kappa")),
            right(with_interval(r, "accuracy")),
            n_cell(whole(r, "n")),
        ]
        for r in rows_of(agreement, "people")
    ]
    if people:
        found.append(table("People among themselves", ["Persons", "Kappa", "Same label", "Pages"], people))
    return found


def _against_people(sample: Summary, corpus: Summary) -> list[Block]:
    by_label: Sequence[dict[str, Json]] = rows_of(sample, "by_label")
    shown = [(r, n) for r in by_label for n in SCORES if number(r, n) is not None]
    items = [Dot(f"{r['label']}: {SCORES[n]}", number(r, n) or 0, decimal(number(r, n) or 0), list(SCORES).index(n),
                 number(r, f"{n}_low"), number(r, f"{n}_high")) for r, n in shown]  # fmt: skip
    kappa = f"Cohen's kappa {with_interval(sample, 'kappa')} on {plural(whole(sample, 'n'), 'page')} that people labelled too"
    over = f"; weighed to the corpus {with_interval(corpus, 'kappa')}" if corpus else ""
    rows = [[Cell(str(r["label"])), n_cell(whole(r, "n_truth")), n_cell(whole(r, "n_said")),
             *(right(with_interval(r, n)) for n in SCORES)] for r in by_label]  # fmt: skip
    names = [str(r["label"]) for r in by_label]
    confusion = cast(list[list[int]], sample.get("confusion") or [])
    cells = [[Cell(name), *(n_cell(n) for n in row)] for name, row in zip(names, confusion, strict=True)]
    low = min((x for r, n in shown if (x := number(r, f"{n}_low")) is not None), default=0.0)
    plot = dots(items, "The models against people", "", Scale(0.0 if low < 0.5 else 0.5, 1.0))
    return [
        Paragraph(f"{kappa}{over}. Figures are weighed to all pages drawn."),
        blocks.Columns((Figure(plot, "Whiskers are 95 % intervals.", "The models against people", wide=False),
                        table("By label", ["Label", "By people", "By models", *SCORES.values()], rows))),
        table("Pages by people's label (rows) and the models' (columns)", ["People \\ models", *names, "no label"], cells),
    ]  # fmt: skip
