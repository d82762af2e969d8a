"""The plots of the report, each a pure function from numbers to Markup. Every one is readable without colour: by position, label,
dash pattern or marker shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from evaluation.report.svg import AXIS_HEIGHT, Scale, band, curve, element, frame, percent, scale_over, x_axis, y_axis
from evaluation.report.typography import count, decimal, share, short

ROW = 34
DOT_ROW = 38
LABEL_CHARS = 40
DETAIL_WIDTH = 54
N_COLOURS = 6  # as many as the style sheet has


def tone(series: int) -> str:
    """The class of a series' colour. Shapes and dashes go round with other periods, so that more models than colours differ still."""
    return f"s{series % N_COLOURS}"


@dataclass(frozen=True)
class Step:
    """A row of a waterfall: a bar from ``begin`` to ``end``, in documents. ``kind`` is total, dropped, quarantined or kept."""

    label: str
    kind: str
    begin: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.begin


def waterfall(steps: Sequence[Step], total: int, label: str) -> Markup:
    """Bars that hang from one another: what was read, what each rule took away, what is left."""
    children: list[Markup] = []
    for i, step in enumerate(steps):
        top = i * ROW
        sign = "\u2212" if step.kind in ("dropped", "quarantined") else ""
        children += _row_text(top, step.label, f"{sign}{count(step.size)}", share(step.size, total), DETAIL_WIDTH)
        children.append(element("rect", class_="track", x="0", y=top + 20, width="100%", height=7, rx=1))
        x, width = step.begin / total if total else 0.0, step.size / total if total else 0.0
        # A rule that took five of a million still shows: half a pixel at least.
        bar = element("rect", element("title", f"{step.label}: {count(step.size)}"), class_=f"bar {step.kind}", x=percent(x),
                      y=top + 20, width=percent(max(width, 0.0015)), height=7)  # fmt: skip
        children.append(bar)
    return frame(len(steps) * ROW, label, *children, margin="none")


def _row_text(top: float, label: str, value: str, detail: str, indent: float = 0) -> list[Markup]:
    shown = label if len(label) <= LABEL_CHARS else label[: LABEL_CHARS - 1] + "…"
    return [
        element("text", element("title", label), shown, class_="name", x="0", y=top + 14),
        element("text", value, class_="figure strong", x="100%", dx=-indent, y=top + 14, text_anchor="end"),
        element("text", detail, class_="figure soft", x="100%", y=top + 14, text_anchor="end") if detail else Markup(""),
    ]


@dataclass(frozen=True)
class Bar:
    """A bar with its label and its number as text. ``series`` picks the colour."""

    label: str
    value: float
    shown: str
    detail: str = ""
    series: int = 0


def bars(items: Sequence[Bar], label: str) -> Markup:
    """Horizontal bars from zero, each under its label."""
    top_value = max((b.value for b in items), default=0.0)
    children: list[Markup] = []
    for i, bar in enumerate(items):
        top = i * ROW
        children += _row_text(top, bar.label, bar.shown, bar.detail, DETAIL_WIDTH if any(b.detail for b in items) else 0)
        children.append(element("rect", class_="track", x="0", y=top + 20, width="100%", height=7, rx=1))
        width = bar.value / top_value if top_value > 0 else 0.0
        children.append(element("rect", class_=f"bar {tone(bar.series)}", x="0", y=top + 20, width=percent(width), height=7))
    return frame(len(items) * ROW, label, *children, margin="none")


def histogram(edges: Sequence[float], counts: Sequence[float], label: str, x_title: str, threshold: float | None = None) -> Markup:
    """Counts per interval, with the threshold as a dashed line. Logarithmic where the largest bin would flatten the others."""
    positive = sorted(c for c in counts if c > 0)
    log = bool(positive) and positive[-1] > 50 * positive[len(positive) // 2]
    y = Scale(0.5, max(counts) * 1.6, log=True) if log else Scale(0, (max(counts, default=0) or 1) * 1.08)
    x = Scale(edges[0], edges[-1])
    height, top, bottom = 170, 16, 126
    out = [*y_axis(y, top, bottom, 3), *x_axis(x, top, bottom, x_title + (" · counts on a log scale" if log else ""))]
    for (low, high), n in zip(pairwise(edges), counts, strict=True):
        if n > 0:
            size = max(1.0, y(n) * (bottom - top))
            below = threshold is not None and high <= threshold + 1e-12
            title = element("title", f"{low:g} to {high:g}: {count(int(n))}")
            out.append(element("rect", title, class_="bin muted" if below else "bin", x=percent(x(low)), y=bottom - size,
                               width=percent(x(high) - x(low)), height=size))  # fmt: skip
    if threshold is not None and edges[0] <= threshold <= edges[-1]:
        at = x(threshold)
        out.append(element("line", class_="threshold", x1=percent(at), x2=percent(at), y1=top - 2, y2=bottom))
        out.append(element("text", f"threshold {threshold:g}", class_="tick strong", x=percent(at), y=top - 5,
                           text_anchor="start" if at < 0.25 else "end" if at > 0.75 else "middle"))  # fmt: skip
    return frame(height, label, *out)


@dataclass(frozen=True)
class Series:
    """A curve: points (x, y), a colour index, and its name."""

    name: str
    index: int
    points: Sequence[tuple[float, float]]


def lines(series: Sequence[Series], label: str, x_title: str, *, height: int = 200, dots: bool = False,
          reference: float | None = None, n_points: int = 120, y_title: str = "") -> Markup:  # fmt: skip
    """Curves over a common x. More than ``n_points`` points become means of equal groups, with the groups' range as a band."""
    everything = [p for s in series for p in s.points]
    xs, ys = [p[0] for p in everything], [p[1] for p in everything]
    ys += [] if reference is None else [reference]
    x, y = scale_over(xs, pad=0.0), scale_over(ys)
    top, bottom = 10 + (14 if y_title else 0), height - 20 - AXIS_HEIGHT
    out = [*y_axis(y, top, bottom), *x_axis(x, top, bottom, x_title)]
    if y_title:
        out.append(element("text", y_title, class_="axis", x=-46, y=12))
    if reference is not None:
        at = bottom - y(reference) * (bottom - top)
        out.append(element("line", class_="reference", x1="0", x2="100%", y1=at, y2=at))
    for s in series:
        out += _line(s, x, y, top, bottom, dots, n_points)
        if s.points:
            out += _end_mark(s, x, y, top, bottom)
    return frame(height, label, *out)


def _line(s: Series, x: Scale, y: Scale, top: float, bottom: float, dots: bool, n_points: int) -> list[Markup]:
    def place(px: float, py: float) -> tuple[float, float]:
        return x(px), bottom - y(py) * (bottom - top)

    if len(s.points) > n_points:
        groups = grouped(s.points, n_points)
        mean = [place(gx, gy) for gx, gy, _, _ in groups]
        high, low = [place(gx, h) for gx, _, _, h in groups], [place(gx, g) for gx, _, g, _ in groups]
        return [band(high, low, bottom, tone(s.index)), curve(mean, bottom, f"{tone(s.index)} d{s.index % N_COLOURS}")]
    placed = [place(*p) for p in s.points]
    out = [curve(placed, bottom, f"{tone(s.index)} d{s.index % N_COLOURS}")] if len(placed) > 1 else []
    if dots or len(placed) == 1:
        for (px, py), (vx, vy) in zip(placed, s.points, strict=True):
            out.append(marker(percent(px), py, s.index, f"{s.name}, {short(vx)}: {decimal(vy)}"))
    return out


def _end_mark(s: Series, x: Scale, y: Scale, top: float, bottom: float) -> list[Markup]:
    last_x, last_y = s.points[-1]
    return [marker(percent(x(last_x)), bottom - y(last_y) * (bottom - top), s.index, f"{s.name}: {decimal(last_y)} at {short(last_x)}")]


def grouped(points: Sequence[tuple[float, float]], n: int) -> list[tuple[float, float, float, float]]:
    """(mean x, mean y, min y, max y) of n runs of neighbouring points."""
    out = []
    for i in range(n):
        part = points[i * len(points) // n : (i + 1) * len(points) // n]
        ys = [p[1] for p in part]
        out.append((math.fsum(p[0] for p in part) / len(part), math.fsum(ys) / len(ys), min(ys), max(ys)))
    return out


# Marker shapes by series, so that colour is never the only difference: circle, square, diamond, triangle up, triangle down.
_SHAPES = ("", "M-4 -4H4V4H-4Z", "M0 -5.4L5.4 0L0 5.4L-5.4 0Z", "M0 -5.2L5 4H-5Z", "M0 5.2L5 -4H-5Z")


def marker(x: str, y: float, series: int, title: str = "") -> Markup:
    """The mark of a series, centred."""
    name = element("title", title) if title else Markup("")
    shape = _SHAPES[series % len(_SHAPES)]
    if not shape:
        return element("circle", name, class_=f"mark {tone(series)}", cx=x, cy=y, r=4.2)
    # An inner svg takes a percentage for its origin; a path does not.
    return element(
        "svg", element("path", name, d=shape, class_=f"mark {tone(series)}"), x=x, y=y, overflow="visible", width=1, height=1
    )


def swatch(series: int) -> Markup:
    """The key of a legend."""
    key = element("line", class_=f"curve {tone(series)} d{series % N_COLOURS}", x1=0, x2=26, y1=7, y2=7)
    return element("svg", key, marker("13", 7, series), class_="swatch", width=26, height=14, aria_hidden="true")


@dataclass(frozen=True)
class Dot:
    """A value with its interval, the number as text, and a colour index."""

    name: str
    value: float
    shown: str
    series: int
    low: float | None = None
    high: float | None = None
    best: bool = False


def measured(
    name: str, value: float, stderr: float | None, series: int, best: bool = False, interval: tuple[float, float] | None = None
) -> Dot:
    """A dot whose whiskers are its interval, else 1.96 standard errors, else none."""
    shown = f"{decimal(value, stderr)} ± {decimal(stderr, stderr)}" if stderr else decimal(value)
    low, high = interval or ((value - 1.96 * stderr, value + 1.96 * stderr) if stderr else (None, None))
    return Dot(name, value, shown, series, low, high, best)


def dots(items: Sequence[Dot], label: str, x_title: str = "", scale: Scale | None = None, reference: float | None = None) -> Markup:
    """Dots with whiskers, one row each, the name above the whisker; a dashed line at ``reference``."""
    ends = [v for d in items for v in (d.value, d.low, d.high, reference) if v is not None]
    x = scale or scale_over(ends)
    top, bottom = 2, 2 + DOT_ROW * len(items)
    out = x_axis(x, top, bottom, x_title, 3)
    if reference is not None:
        out.append(element("line", class_="reference", x1=percent(x(reference)), x2=percent(x(reference)), y1=top, y2=bottom))
    for i, dot in enumerate(items):
        out += _dot_row(dot, x, top + i * DOT_ROW)
    return frame(bottom + 20 + (AXIS_HEIGHT - 6 if x_title else 0), label, *out, margin="none")


def _dot_row(dot: Dot, x: Scale, top: float) -> list[Markup]:
    out = _row_text(top, dot.name + (" ★" if dot.best else ""), dot.shown, "")
    y = top + 25
    if dot.low is not None and dot.high is not None:
        low, high = percent(x(dot.low)), percent(x(dot.high))
        out.append(element("line", class_=f"whisker {tone(dot.series)}", x1=low, x2=high, y1=y, y2=y))
        out += [element("line", class_=f"whisker {tone(dot.series)}", x1=end, x2=end, y1=y - 4, y2=y + 4) for end in (low, high)]
    return [*out, marker(percent(x(dot.value)), y, dot.series, f"{dot.name}: {dot.shown}")]
