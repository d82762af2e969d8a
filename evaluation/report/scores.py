"""The chapter on scores: models by metrics with standard errors, paired differences, and what they say together."""

from __future__ import annotations

from evaluation.report.blocks import Block, Cell, Details, Figure, Grid, Section, Story, Table, right, table
from evaluation.report.comparison import Metric, Scores
from evaluation.report.plane import Axis, Place, plane
from evaluation.report.plots import Dot, dots, measured
from evaluation.report.story import Roles, story
from evaluation.report.svg import scale_over
from evaluation.report.typography import DASH, capital, count, decimal, signed, words

ARROWS = {1: "↑", -1: "↓", 0: ""}
TITLES = {"domain": "Domain", "general": "General", "answers": "Answers"}
DIRECTIONS = {1: "Higher is better.", -1: "Lower is better.", 0: "Neither direction is better."}
VERDICTS = {1: "better", -1: "worse", 0: "not significant"}


def scores_section(scores: Scores | None, roles: Roles, colours: dict[str, int]) -> Section | None:
    """The chapter, or None if nothing was evaluated."""
    if scores is None:
        return None
    for model in scores.models:
        colours.setdefault(model, len(colours))
    movements = story(scores, roles)
    blocks: list[Block] = [Story(tuple(movements))] if movements else []
    blocks.append(_table(scores, scores.main, "Scores ± standard error"))
    blocks += _plane(scores, roles, colours) + _plots(scores, colours)
    blocks += _differences(scores, roles)
    return Section("scores", "Scores", tuple(blocks))


def title(group: str) -> str:
    """A group's heading."""
    return TITLES.get(group, words(group).capitalize())


def heading(metric: Metric) -> str:
    """A metric's name with its group in front, if the name does not say it."""
    name = words(metric.name)
    return capital(name) if name.lower().startswith(metric.group.lower()) else f"{title(metric.group)} · {name}"


def _table(scores: Scores, metrics: list[Metric], caption: str) -> Block:
    rows: list[list[Cell]] = []
    for group in dict.fromkeys(m.group for m in metrics):
        rows.append([Cell(title(group))])
        for metric in [m for m in metrics if m.group == group]:
            best = metric.best(scores.models)
            name = f"{words(metric.name)} {ARROWS[metric.sign]}".rstrip()
            rows.append([Cell(name, detail=metric.unit), _sizes(metric), *(_cell(metric, m, m == best) for m in scores.models)])
    note = "↓ lower is better, ↑ higher is better. ★ is significantly better than every other model (95 %)."
    return table(caption, ["Metric", "n", *scores.models], rows, note)


def _sizes(metric: Metric) -> Cell:
    sizes = sorted({v.n for v in metric.values.values() if v.n is not None})
    if not sizes:
        return right(DASH)
    return right(count(sizes[0]) if len(sizes) == 1 else f"{count(sizes[0])}–{count(sizes[-1])}")


def _cell(metric: Metric, model: str, best: bool) -> Cell:
    found = metric.values.get(model)
    if found is None:
        return right(DASH)
    error = f" ± {decimal(found.stderr, found.stderr)}" if found.stderr is not None else ""
    return Cell(decimal(found.value, found.stderr) + error, repr(found.value), "number", best=best)


def _plots(scores: Scores, colours: dict[str, int]) -> list[Block]:
    """The main metrics of domain and general side by side; those of the answers, which are many, behind a fold."""
    shown: dict[bool, list[Figure]] = {True: [], False: []}
    for metric in scores.main:
        best = metric.best(scores.models)
        items = [
            measured(m, v.value, v.stderr, colours[m], m == best, v.interval)
            for m in scores.models
            if (v := metric.values.get(m)) is not None
        ]
        label = f"{words(metric.name)}: " + ", ".join(f"{d.name} {d.shown}" for d in items)
        caption = DIRECTIONS[metric.sign] + ("" if metric.chance is None else f" Dashed: guessing ({metric.chance:.3g}).")
        figure = Figure(dots(items, label, reference=metric.chance), caption, heading(metric), wide=False)
        shown[metric.group != "answers"].append(figure)
    out: list[Block] = [Grid(tuple(shown[True]), "Scores with 95 % intervals")] if shown[True] else []
    return out + ([Details("Measures of the answers, with 95 % intervals", (Grid(tuple(shown[False])),))] if shown[False] else [])


def _plane(scores: Scores, roles: Roles, colours: dict[str, int]) -> list[Block]:
    """The first metric of the domain against the first of the general group: where specialising led, and where merging led back."""
    pair = [next((m for m in scores.main if m.group == g and m.sign and len(m.values) > 1), None) for g in ("domain", "general")]
    domain, general = pair
    if domain is None or general is None:
        return []
    places = [
        Place(
            m,
            measured(m, x.value, x.stderr, colours[m], interval=x.interval),
            measured(m, y.value, y.stderr, colours[m], interval=y.interval),
            colours[m],
        )
        for m in scores.models
        if (x := domain.values.get(m)) and (y := general.values.get(m))
    ]
    if len(places) < 2:
        return []
    path = [m for m in (roles.parent, roles.special, roles.merged) if m]
    label = "; ".join(f"{p.name}: domain {p.x.shown}, general {p.y.shown}" for p in places)
    axes = _axis(domain, [p.x for p in places]), _axis(general, [p.y for p in places])
    way = " The line leads from the parent through the specialised model to the merged one." if len(path) == 3 else ""
    caption = f"Right is better on the domain, up is better in general; whiskers are 95 % intervals.{way}"
    return [Figure(plane(places, path, *axes, label), caption, "Domain against general")]


def _axis(metric: Metric, items: list[Dot]) -> Axis:
    ends = [v for d in items for v in (d.value, d.low, d.high) if v is not None]
    return Axis(heading(metric), scale_over(ends), metric.sign < 0)


def _differences(scores: Scores, roles: Roles) -> list[Block]:
    """The pairs the story is about, then all others behind a fold."""
    story_pairs = [
        (a, b) for a, b in ((roles.special, roles.parent), (roles.merged, roles.parent), (roles.merged, roles.special)) if a and b
    ]
    measured_pairs = set(scores.pairs)
    main = [p for p in story_pairs if p in measured_pairs] or scores.pairs[:3]
    note = "Paired: tighter than the intervals of the scores themselves."
    out: list[Block] = [_pairs(main, [m for m in scores.main if m.sign], "Differences on the same examples", note)] if main else []
    if len(main) < len(scores.pairs) or len(scores.main) < len(scores.metrics):
        rest: list[Block] = (
            [_table(scores, scores.metrics, "All scores ± standard error")] if len(scores.main) < len(scores.metrics) else []
        )
        out.append(Details("All measures and pairs", (*rest, _pairs(scores.pairs, scores.metrics, "All differences", note))))
    return out


def _pairs(pairs: list[tuple[str, str]], metrics: list[Metric], caption: str, note: str) -> Table:
    rows: list[list[Cell]] = []
    for a, b in pairs:
        rows.append([Cell(f"{a} − {b}")])
        for metric in metrics:
            if (a, b) in metric.paired and (d := metric.difference(a, b)) is not None:
                error = DASH if d.stderr is None else f"± {decimal(1.96 * d.stderr, d.stderr)}"
                verdict = VERDICTS[d.verdict] if metric.sign else DASH
                rows.append([Cell(f"{words(metric.name)} {ARROWS[metric.sign]}".rstrip()), Cell(title(metric.group)),
                             Cell(signed(d.value, d.stderr), repr(d.value), "number"), right(error), Cell(verdict)])  # fmt: skip
    return table(caption, ["Metric", "Group", "Difference", "95 %", "First model is"], rows, note)
