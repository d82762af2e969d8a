"""A small layered layout for the graph of a run's steps (after Sugiyama, Tagawa and Toda 1981).

Steps lie in layers by their longest path from a source; edges that cross layers pass through way points; the order in a layer comes
from a few sweeps of barycentres. Sizes are a few dozen nodes, so the plain quadratic steps are enough. The result depends only on the
order and the names of the steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

NODE_WIDTH, NODE_HEIGHT, GAP_X, GAP_Y, WAY_WIDTH = 146.0, 40.0, 16.0, 34.0, 8.0
SWEEPS = 8


@dataclass
class Vertex:
    """A step, or a way point of a long edge (``name`` is empty). x, y are the centre."""

    name: str
    layer: int
    x: float = 0.0

    @property
    def width(self) -> float:
        return NODE_WIDTH if self.name else WAY_WIDTH

    @property
    def y(self) -> float:
        return self.layer * (NODE_HEIGHT + GAP_Y) + NODE_HEIGHT / 2


@dataclass(frozen=True)
class Layout:
    """Placed vertices and the chains of vertex numbers that edges follow."""

    vertices: list[Vertex]
    chains: list[list[int]]
    width: float
    height: float


def layout(names: Sequence[str], inputs: Mapping[str, Sequence[str]]) -> Layout:
    """Place steps, given in an order in which inputs come before their users; inputs that are no step are left out."""
    layers: dict[str, int] = {}
    for name in names:
        layers[name] = 1 + max((layers[i] for i in inputs[name] if i in layers), default=-1)
    vertices = [Vertex(n, layers[n]) for n in layers]
    index = {v.name: i for i, v in enumerate(vertices)}
    chains = []
    for name in layers:
        for source in dict.fromkeys(i for i in inputs[name] if layers.get(i, layers[name]) < layers[name]):
            ways = [Vertex("", layer) for layer in range(layers[source] + 1, layers[name])]
            chains.append([index[source], *range(len(vertices), len(vertices) + len(ways)), index[name]])
            vertices += ways
    rows = _ordered(vertices, chains)
    _place(vertices, chains, rows)
    left = min((v.x - v.width / 2 for v in vertices), default=0.0)
    for v in vertices:
        v.x -= left
    width = max((v.x + v.width / 2 for v in vertices), default=0.0)
    return Layout(vertices, chains, width, len(rows) * (NODE_HEIGHT + GAP_Y) - GAP_Y if rows else 0.0)


def _neighbours(vertices: Sequence[Vertex], chains: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[list[int]]]:
    above: list[list[int]] = [[] for _ in vertices]
    below: list[list[int]] = [[] for _ in vertices]
    for chain in chains:
        for a, b in pairwise(chain):
            below[a].append(b)
            above[b].append(a)
    return above, below


def _ordered(vertices: Sequence[Vertex], chains: Sequence[Sequence[int]]) -> list[list[int]]:
    """Rows of vertex numbers, ordered so that few edges cross."""
    above, below = _neighbours(vertices, chains)
    n_layers = 1 + max((v.layer for v in vertices), default=-1)
    rows = [[i for i, v in enumerate(vertices) if v.layer == layer] for layer in range(n_layers)]
    best, fewest = [list(r) for r in rows], _crossings(rows, below)
    for sweep in range(SWEEPS):
        near = above if sweep % 2 == 0 else below
        for layer in range(n_layers) if sweep % 2 == 0 else reversed(range(n_layers)):
            place = {v: k for row in rows for k, v in enumerate(row)}
            old = {v: k for k, v in enumerate(rows[layer])}
            rows[layer].sort(key=lambda v: (sum(place[n] for n in near[v]) / len(near[v]) if near[v] else old[v], old[v]))
        if (found := _crossings(rows, below)) < fewest:
            best, fewest = [list(r) for r in rows], found
    return best


def _crossings(rows: Sequence[Sequence[int]], below: Sequence[Sequence[int]]) -> int:
    total = 0
    for upper, lower in pairwise(rows):
        place = {v: k for k, v in enumerate(lower)}
        edges = [(k, place[b]) for k, v in enumerate(upper) for b in below[v]]
        total += sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for i, a in enumerate(edges) for b in edges[:i])
    return total


def _place(vertices: Sequence[Vertex], chains: Sequence[Sequence[int]], rows: Sequence[Sequence[int]]) -> None:
    """x coordinates: towards the mean of the neighbours, never closer than the gap."""
    above, below = _neighbours(vertices, chains)
    for row in rows:
        _spread(vertices, row, [k * (NODE_WIDTH + GAP_X) for k in range(len(row))])
    for sweep in range(2 * SWEEPS):
        near = (above, below)[sweep % 2]
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wish = [sum(vertices[n].x for n in near[v]) / len(near[v]) if near[v] else vertices[v].x for v in row]
            _spread(vertices, row, wish)


def _spread(vertices: Sequence[Vertex], row: Sequence[int], wish: Sequence[float]) -> None:
    """The mean of the tightest placements from the left and from the right that keep order and gaps."""
    gaps = [(vertices[a].width + vertices[b].width) / 2 + GAP_X for a, b in pairwise(row)]
    left, right = list(wish), list(wish)
    for k in range(1, len(row)):
        left[k] = max(left[k], left[k - 1] + gaps[k - 1])
    for k in range(len(row) - 2, -1, -1):
        right[k] = min(right[k], right[k + 1] - gaps[k])
    for v, a, b in zip(row, left, right, strict=True):
        vertices[v].x = (a + b) / 2
