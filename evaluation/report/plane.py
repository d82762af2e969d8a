"""Models on the plane of two scores, each with crossed whiskers: where specialising led, and where merging led back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from evaluation.report.plots import Dot, marker, tone
from evaluation.report.svg import Scale, curve, element, frame, percent, tick_label

HEIGHT, TOP, BOTTOM = 300, 22, 256


@dataclass(frozen=True)
class Place:
    """A model on the plane of two scores, each with its standard error."""

    name: str
    x: Dot
    y: Dot
    series: int


@dataclass(frozen=True)
class Axis:
    """A direction of the plane; ``flip`` puts small values to the right or up, so that better always is."""

    title: str
    scale: Scale
    flip: bool

    def __call__(self, value: float) -> float:
        return 1 - self.scale(value) if self.flip else self.scale(value)


def plane(places: Sequence[Place], path: Sequence[str], x: Axis, y: Axis, label: str) -> Markup:
    """Models by two scores with crossed whiskers; a thin line follows ``path`` from model to model."""
    out = [element("text", y.title, class_="axis", x=-46, y=12)]
    out.append(element("text", x.title, class_="axis", x="100%", y=BOTTOM + 32, text_anchor="end"))
    for tick in (ticks := x.scale.ticks(4)):
        at = percent(x(tick))
        out.append(element("line", class_="rule", x1=at, x2=at, y1=TOP, y2=BOTTOM))
        out.append(element("text", tick_label(tick, ticks), class_="tick", x=at, y=BOTTOM + 15, text_anchor="middle"))
    for tick in (ticks := y.scale.ticks(4)):
        level = BOTTOM - y(tick) * (BOTTOM - TOP)
        out.append(element("line", class_="rule", x1="0", x2="100%", y1=level, y2=level))
        out.append(element("text", tick_label(tick, ticks), class_="tick", x=-8, y=level + 4, text_anchor="end"))
    spots = {p.name: (x(p.x.value), BOTTOM - y(p.y.value) * (BOTTOM - TOP)) for p in places}
    if len(way := [spots[n] for n in path if n in spots]) > 1:
        out.append(curve(way, BOTTOM, "path"))
    for p in places:
        out += _crossed(p, x, y)
    return frame(HEIGHT, label, *out)


def _crossed(p: Place, x: Axis, y: Axis) -> list[Markup]:
    at, level = x(p.x.value), BOTTOM - y(p.y.value) * (BOTTOM - TOP)
    out = []
    if p.x.low is not None and p.x.high is not None:
        ends = [percent(x(v)) for v in (p.x.low, p.x.high)]
        out.append(element("line", class_=f"whisker thin {tone(p.series)}", x1=ends[0], x2=ends[1], y1=level, y2=level))
    if p.y.low is not None and p.y.high is not None:
        levels = [BOTTOM - y(v) * (BOTTOM - TOP) for v in (p.y.low, p.y.high)]
        out.append(element("line", class_=f"whisker thin {tone(p.series)}", x1=percent(at), x2=percent(at), y1=levels[0], y2=levels[1]))
    out.append(marker(percent(at), level, p.series, f"{p.name}: {p.x.shown}; {p.y.shown}"))
    anchor, dx = ("end", -8) if at > 0.6 else ("start", 8)
    out.append(
        element(
            "text",
            p.name,
            class_="name strong",
            x=percent(at),
            dx=dx,
            y=level - 8 if level < (TOP + BOTTOM) / 2 else level + 18,
            text_anchor=anchor,
        )
    )
    return out
