"""The four movements of a specialised model, told from the figures: specialise, forget, merge, recover.

Who plays which part follows from the steps that made the models, else from their names and the pairs that the evaluation compared.
The sentences follow the numbers also where they are bad; where a difference is within its error they say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation.report.comparison import Difference, Metric, Scores
from evaluation.report.typography import capital, decimal, listing, plural, signed, signed_percent, words
from store.run import StepRecord

MERGED_NAMES = ("merg", "slerp", "soup")
SPECIAL_NAMES = ("special", "domain", "adapted", "continued", "cpt", "pretrained", "trained", "tuned")
PARENT_NAMES = ("instruct", "chat", "parent", "base", "start")
NEGLIGIBLE = 1e-12
PLACES = {"domain": "on the domain", "general": "in general", "answers": "in its answers"}


@dataclass(frozen=True)
class Roles:
    """Which model is which; None where the run has no such model."""

    parent: str | None
    special: str | None
    merged: str | None


def find_roles(scores: Scores, steps: Sequence[StepRecord]) -> Roles:
    """Roles from the steps that made the models; where those do not say, from the names of the models and of the pairs compared."""
    made = {s.name.removeprefix(s.kind + "/"): s for s in steps if s.kind in ("model", "train", "merge")}
    models = {s.name: m for m, s in made.items() if m in scores.models}  # step -> model that was scored
    merge = next((m for m in scores.models if m in made and made[m].kind == "merge"), None) or _named(scores.models, MERGED_NAMES, ())
    inputs = made[merge].inputs if merge in made else {}
    special = models.get(inputs.get("trained", "")) or _special(scores, made, merge)
    parent = models.get(inputs.get("instruct", "")) or (models.get(made[special].inputs.get("parent", "")) if special in made else None)
    parent = parent or _parent(scores, special, merge)
    return Roles(parent, special if special != parent else None, merge)


def _special(scores: Scores, made: Mapping[str, StepRecord], merge: str | None) -> str | None:
    """Of several trained models the one named so, else the one trained last."""
    trained = [m for m in made if made[m].kind == "train" and m in scores.models]
    return _named(trained, SPECIAL_NAMES, ()) or next(reversed(trained), None) or _named(scores.models, SPECIAL_NAMES, (merge,))


def _parent(scores: Scores, special: str | None, merge: str | None) -> str | None:
    others = [b for a, b in scores.pairs if a == special and b != merge] or [b for a, b in scores.pairs if a == merge and b != special]
    return _named(others, PARENT_NAMES, ()) or next(iter(others), None) or _named(scores.models, PARENT_NAMES, (merge, special))


def _named(models: Sequence[str], parts: Sequence[str], not_these: Sequence[str | None]) -> str | None:
    for part in parts:
        for model in models:
            if part in model.lower() and model not in not_these:
                return model
    return None


def story(scores: Scores, roles: Roles) -> list[tuple[str, str]]:
    """(movement, sentence) for those of specialise, forget, merge and recover that the models allow."""
    parent, special, merged = roles.parent, roles.special, roles.merged
    out: list[tuple[str, str]] = []
    if special and parent:
        out.append(("Specialise", _movement(scores, special, parent, ("domain",), PLACES["domain"])))
        rest = [g for g in scores.groups if g != "domain"]
        out.append(("Forget", _movement(scores, special, parent, rest, where(rest))))
    if merged and special:
        out.append(("Merge", _movement(scores, merged, special, scores.groups, "taken together")))
    if merged and special and parent:
        out.append(("Recover", _recovery(scores, roles)))
    return [(name, sentence) for name, sentence in out if sentence]


def where(groups: Sequence[str]) -> str:
    """Groups of metrics as a place."""
    return listing([PLACES.get(g, f"in {words(g)}") for g in groups])


def _movement(scores: Scores, a: str, b: str, groups: Sequence[str], place: str) -> str:
    found = compared(scores, a, b, groups)
    if not found:
        return ""
    figures = "; ".join(phrase(m, a, b, d) for m, d in strongest(found)[:2])
    return f"Against {b}, {a} is {tally([d for _, d in found])} {place}: {figures}."


def tally(found: Sequence[Difference]) -> str:
    """significantly better in 2 of 4 measures and worse in 1; not measurably different in any of 3 measures."""
    better, worse = sum(d.verdict > 0 for d in found), sum(d.verdict < 0 for d in found)
    of = plural(len(found), "measure")
    if not better and not worse:
        return "not measurably different" + (f" in any of {of}" if len(found) > 1 else "")
    n = better or worse
    text = f"significantly {'better' if better else 'worse'}" + (
        f" in {'all' if n == len(found) else n} of {of}" if len(found) > 1 else ""
    )
    return text.replace("all of 2", "both").replace("all of", "all") + (f" and worse in {worse}" if better and worse else "")


def compared(scores: Scores, a: str, b: str, groups: Sequence[str]) -> list[tuple[Metric, Difference]]:
    """Metrics with a better and a worse side on which both models were measured."""
    return [(m, d) for m in scores.main if m.group in groups and m.sign and (d := m.difference(a, b)) is not None]


def strongest(found: Sequence[tuple[Metric, Difference]]) -> list[tuple[Metric, Difference]]:
    """Significant differences first, then by size in standard errors."""
    return sorted(found, key=lambda item: (item[1].verdict == 0, -abs(item[1].value) / (item[1].stderr or float("inf"))))


def phrase(metric: Metric, a: str, b: str, d: Difference) -> str:
    """One metric's move from b to a: bits per byte 1.31 → 1.12 (−14.5 %)."""
    doubt = ", error unknown" if not d.stderr else "" if d.significant else ", within the error"
    before, after = metric.values.get(b), metric.values.get(a)
    if before is None or after is None:
        return f"{words(metric.name)} {signed(d.value, d.stderr)}{doubt}"
    moved = f"{words(metric.name)} {decimal(before.value, before.stderr)} → {decimal(after.value, after.stderr)}"
    return f"{moved} ({step(metric, before.value, after.value)}{doubt})"


def step(metric: Metric, before: float, after: float) -> str:
    """A change: relative for losses, absolute for shares, whose ratio would shout."""
    relative = metric.sign < 0 and before > 0 and not metric.is_share
    return signed_percent(after / before - 1) if relative else signed(round(after - before, 6))


def _recovery(scores: Scores, roles: Roles) -> str:
    parent, special, merged = roles.parent or "", roles.special or "", roles.merged or ""
    lost = [m for m, d in compared(scores, special, parent, scores.groups) if d.verdict < 0]
    won = [m for m, d in compared(scores, special, parent, ("domain",)) if d.verdict > 0]
    parts = []
    back = [(m, s) for m in lost if (s := _share_back(m, special, parent, merged)) is not None]
    if back:
        parts.append(f"Of what {special} had lost, {merged} " + listing([_returned(m, s) for m, s in back]))
    elif not lost:
        parts.append(f"{capital(special)} had lost nothing measurable, so there was nothing to win back")
    kept = [(m, 1 - s) for m in won if (s := _share_back(m, special, parent, merged)) is not None]
    if kept:
        parts.append(f"Of the gain on the domain, {merged} " + listing([_retained(m, s) for m, s in kept]))
    elif not won:
        parts.append(f"{capital(special)} had gained nothing measurable on the domain")
    return ". ".join(parts) + "." if parts else ""


def _share_back(metric: Metric, special: str, parent: str, merged: str) -> float | None:
    """How much of the way from the specialised model to its parent the merged one has gone: 0 none, 1 all."""
    way, gone = metric.difference(parent, special), metric.difference(merged, special)
    return None if way is None or gone is None or abs(way.value) < NEGLIGIBLE else gone.value / way.value


def _returned(metric: Metric, part: float) -> str:
    name = words(metric.name)
    if part < 0:
        return f"lost more in {name}"
    return f"won back all in {name}" if part >= 1 else f"won back {100 * part:.0f}\u202f% in {name}"


def _retained(metric: Metric, part: float) -> str:
    name = words(metric.name)
    if part <= 0:
        return f"kept nothing in {name}"
    return f"kept all and more in {name}" if part > 1 else f"kept {100 * part:.0f}\u202f% in {name}"


def headline(scores: Scores, roles: Roles) -> str:
    """A clause for the verdict: the final model against its parent, on the domain and outside it."""
    final = roles.merged or roles.special
    if not final or not roles.parent:
        return ""
    parts = []
    for groups in (["domain"], [g for g in scores.groups if g != "domain"]):
        found = compared(scores, final, roles.parent, groups)
        if found:
            metric, d = strongest(found)[0]
            values = metric.values.get(roles.parent), metric.values.get(final)
            change = step(metric, values[0].value, values[1].value) if values[0] and values[1] else signed(d.value, d.stderr)
            parts.append(f"{_summary(found)} {where(groups)} ({words(metric.name)} {change})")
    return f"against {roles.parent}, {final} is {listing(parts)}" if parts else ""


def _summary(found: Sequence[tuple[Metric, Difference]]) -> str:
    better, worse = sum(d.verdict > 0 for _, d in found), sum(d.verdict < 0 for _, d in found)
    if better and worse:
        return "better in some measures and worse in others"
    return "better" if better else "worse" if worse else "not measurably different"
