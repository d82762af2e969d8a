"""How far the trained model has moved from the instruct parent, tensor by tensor, and what SLERP therefore did.

SLERP (Shoemake 1985, "Animating rotation with quaternion curves") of two flattened tensors a, b at angle theta is
``sin((1-t) theta)/sin(theta) a + sin(t theta)/sin(theta) b``. mergekit replaces it by ``(1-t) a + t b`` where
``|cos theta| > 0.9995``, that is, below 0.0316 rad or a 3.2 % change. Continued pre-training at small learning rates keeps most tensors
below that, so a "SLERP merge" may be a linear one in all but name: the summary says how many tensors were really SLERPed.

Sums are taken in float64 over chunks, so memory is bounded by one pair of tensors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, TypeVar

from merging.weights import tensor_pairs
from store.errors import InputError
from store.models import ModelFolder
from store.params import Json

if TYPE_CHECKING:
    import torch

LERP_ABOVE_COS = 0.9995
NORM_EPSILON = 1e-8  # mergekit's: a vector shorter than this counts as zero, and is then at a right angle to everything
CHUNK_ELEMENTS = 1 << 22
Key = TypeVar("Key", str, int)
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")


@dataclass(frozen=True)
class Angle:
    """One tensor: squared norms of a (instruct) and of b - a, the angle between a and b in radians, and their cosine.

    ``angle`` and ``cos`` are None where a or b is zero.
    """

    name: str
    a_squared: float
    change_squared: float
    cos: float | None
    angle: float | None

    @property
    def kind(self) -> str:
        """The part of the model the tensor belongs to."""
        if "self_attn" in self.name or ".attn." in self.name or ".attention." in self.name:
            return "attention" if "norm" not in self.name else "norm"
        if "norm" in self.name or ".ln_" in self.name:
            return "norm"
        if "mlp" in self.name or "feed_forward" in self.name or "experts" in self.name:
            return "mlp"
        if "lm_head" in self.name:
            return "head"
        return "embedding" if "embed" in self.name or "wte" in self.name else "other"


def measure(instruct: ModelFolder, trained: ModelFolder) -> list[Angle]:
    """The angle of every tensor, in name order. InputError if a parent holds NaN or infinities."""
    return [_angle(name, a, b, (instruct.path, trained.path)) for name, a, b in tensor_pairs(instruct, trained)]


def _angle(name: str, a: torch.Tensor, b: torch.Tensor, where: tuple[str, str]) -> Angle:
    a, b = a.reshape(-1), b.reshape(-1)
    aa = bb = ab = dd = 0.0
    for start in range(0, a.numel(), CHUNK_ELEMENTS):
        x, y = a[start : start + CHUNK_ELEMENTS].double(), b[start : start + CHUNK_ELEMENTS].double()
        d = y - x
        aa, bb, ab, dd = aa + float(x @ x), bb + float(y @ y), ab + float(x @ y), dd + float(d @ d)
    for value, folder in ((aa, where[0]), (bb, where[1])):
        if not math.isfinite(value):
            raise InputError(f"the tensor {name} holds NaN or infinite weights", where=folder,
                             remedy="the training run diverged: merge an earlier checkpoint")  # fmt: skip
    if min(aa, bb) <= NORM_EPSILON**2:
        return Angle(name, aa, dd, None, None)
    cos = max(-1.0, min(1.0, ab / math.sqrt(aa) / math.sqrt(bb)))
    return Angle(name, aa, dd, cos, 0.0 if dd == 0.0 else math.acos(cos))


def summarise(angles: list[Angle], method: str) -> dict[str, Json]:
    """Counts and distances for the manifest. Angles in radians; distances are ||trained - instruct|| / ||instruct|| (Frobenius)."""
    known = [a.angle for a in angles if a.angle is not None]
    linear = [a for a in angles if a.cos is not None and abs(a.cos) > LERP_ABOVE_COS]
    n_slerped = len(known) - len(linear) if method == "slerp" else 0
    widest = max((a for a in angles if a.angle is not None), key=lambda a: (a.angle, a.name), default=None)
    return {
        "n_tensors": len(angles),
        "n_slerped": n_slerped,
        "n_linear": len(known) - n_slerped,
        "n_zero": len(angles) - len(known),
        "n_unchanged": sum(a.change_squared == 0.0 for a in angles),
        "median_angle": rounded(median(known)) if known else None,
        "max_angle": rounded(max(known)) if known else None,
        "max_angle_tensor": widest.name if widest else None,
        "relative_distance": _distance(angles),
        "relative_distance_by_part": {k: _distance(v) for k, v in _grouped(angles, lambda a: a.kind).items()},
        "relative_distance_by_layer": list({k: _distance(v) for k, v in _grouped(angles, _layer).items() if k >= 0}.values()),
    }


def _layer(angle: Angle) -> int:
    found = LAYER.search(angle.name)
    return int(found.group(1)) if found else -1


def _grouped(angles: list[Angle], key: Callable[[Angle], Key]) -> dict[Key, list[Angle]]:
    return {k: [a for a in angles if key(a) == k] for k in sorted({key(a) for a in angles})}


def _distance(angles: list[Angle]) -> float | None:
    below = sum(a.a_squared for a in angles)
    return rounded(math.sqrt(sum(a.change_squared for a in angles) / below)) if below > 0 else None


def rounded(value: float) -> float:
    """Six significant digits: what two machines' sums agree on."""
    return float(f"{value:.6g}")
