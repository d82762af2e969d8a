"""A small SVG writer: escaped elements, linear and logarithmic scales with round ticks, and a frame that is fluid in width.

The trick that makes plots readable on a phone and in print alike: horizontal positions are percentages of the plot's real width,
vertical ones are pixels, so the plot stretches but its letters do not. Curves cannot be written in percentages; they lie in an
inner ``svg`` of 1000 units that is stretched without its strokes (class ``curve``). Colours and fonts are the style sheet's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from evaluation.report.typography import scientific, short

UNITS = 1000  # of the stretched coordinate system
AXIS_HEIGHT = 22


def element(tag: str, *children: str | Markup, **attributes: str | float | int | None) -> Markup:
    """An element. Trailing underscores are cut and inner ones become dashes (``class_``, ``text_anchor``); None is left out."""
    parts = [f"<{tag}"]
    for name, value in attributes.items():
        if value is not None:
            key = name.rstrip("_").replace("_", "-").replace("viewbox", "viewBox").replace("preserveaspectratio", "preserveAspectRatio")
            parts.append(f' {key}="{escape(_plain(value))}"')
    inner = Markup("").join(children)
    return Markup("".join(parts)) + (Markup(">") + inner + Markup(f"</{tag}>") if inner else Markup("/>"))


def _plain(value: str | float | int) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def percent(fraction: float) -> str:
    """A horizontal position."""
    return f"{100 * fraction:.2f}".rstrip("0").rstrip(".") + "%"


@dataclass(frozen=True)
class Scale:
    """Maps values to [0, 1]."""

    low: float
    high: float
    log: bool = False

    def __call__(self, value: float) -> float:
        at, low, high = (math.log10(max(v, 1e-300)) if self.log else v for v in (value, self.low, self.high))
        return min(1.0, max(0.0, (at - low) / (high - low))) if high > low else 0.5

    def ticks(self, n: int = 4) -> list[float]:
        """About n round values inside the scale."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            stride = max(1, math.ceil((last - first + 1) / n))
            return [10.0**e for e in range(first, last + 1, stride)]
        if self.high <= self.low:
            return [self.low]
        step = round_step((self.high - self.low) / n)
        first_tick = math.ceil(self.low / step - 1e-9)
        return [float(f"{i * step:.12g}") for i in range(first_tick, math.floor(self.high / step + 1e-9) + 1)]


def round_step(rough: float) -> float:
    """The next of 1, 2, 2.5, 5, 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))


def scale_over(values: Iterable[float], *, zero: bool = False, pad: float = 0.06) -> Scale:
    """A linear scale around the values, padded by a share of their span."""
    found = list(values) + ([0.0] if zero else [])
    low, high = (min(found), max(found)) if found else (0.0, 1.0)
    margin = pad * (high - low) if high > low else abs(high) * 0.05 or 0.5
    return Scale(low if zero and low >= 0 else low - margin, high + margin)


def tick_label(value: float, ticks: list[float]) -> str:
    """A tick with as many decimals as the step between ticks needs."""
    top = max(abs(t) for t in ticks)
    if top >= 1e4 or top == 0:
        return short(value)
    if top < 1e-3:
        return scientific(value)
    step = min((b - a for a, b in pairwise(ticks)), default=top)
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    places += int(abs(step * 10**places - round(step * 10**places)) > 1e-9)
    return f"{value:,.{places}f}".replace("-", "\u2212")


def frame(height: float, label: str, *children: Markup, margin: str = "left") -> Markup:
    """The outer svg: full width, ``height`` pixels; ``label`` is what a screen reader says. The margin is the style sheet's."""
    return element("svg", *children, class_=f"plot m-{margin}", width="100%", height=height, role="img", aria_label=label)


def x_axis(scale: Scale, top: float, bottom: float, title: str = "", n: int = 4) -> list[Markup]:
    """Vertical hairlines with labels below; the outermost labels stay inside the plot."""
    ticks, out = scale.ticks(n), []
    for tick in ticks:
        at = scale(tick)
        anchor = "start" if at < 0.04 else "end" if at > 0.96 else "middle"
        out.append(element("line", class_="rule", x1=percent(at), x2=percent(at), y1=top, y2=bottom))
        out.append(element("text", tick_label(tick, ticks), class_="tick", x=percent(at), y=bottom + 15, text_anchor=anchor))
    if title:
        out.append(element("text", title, class_="axis", x="100%", y=bottom + 15 + AXIS_HEIGHT - 6, text_anchor="end"))
    return out


def y_axis(scale: Scale, top: float, bottom: float, n: int = 4) -> list[Markup]:
    """Horizontal hairlines with labels in the left margin."""
    ticks, out = scale.ticks(n), []
    for tick in ticks:
        y = bottom - scale(tick) * (bottom - top)
        out.append(element("line", class_="rule", x1="0", x2="100%", y1=y, y2=y))
        out.append(element("text", tick_label(tick, ticks), class_="tick", x=-8, y=y + 4, text_anchor="end"))
    return out


def curve(points: list[tuple[float, float]], height: float, class_: str) -> Markup:
    """A line through points (x in [0, 1], y in pixels)."""
    path = "M" + "L".join(f"{UNITS * x:.1f} {y:.1f}" for x, y in points)
    return stretched(height, element("path", d=path, class_=f"curve {class_}"))


def band(upper: list[tuple[float, float]], lower: list[tuple[float, float]], height: float, class_: str) -> Markup:
    """The area between two lines."""
    path = "M" + "L".join(f"{UNITS * x:.1f} {y:.1f}" for x, y in [*upper, *reversed(lower)]) + "Z"
    return stretched(height, element("path", d=path, class_=f"band {class_}"))


def stretched(height: float, *children: Markup) -> Markup:
    """The inner coordinate system: 1000 units wide, pixels high."""
    box = f"0 0 {UNITS} {height:g}"
    return element("svg", *children, x="0", y="0", width="100%", height=height, viewbox=box, preserveaspectratio="none")
