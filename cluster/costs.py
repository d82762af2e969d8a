"""What a run would cost, from rates measured by benchmarks/road.py (cluster/rates.json): an estimate, said to be one.

Corpus work is documents x microseconds a stage took per document it saw. Early filters spare later stages their work, so the sum over
all stages is an upper bound; the measured road's own average, which had its own filters, is the lower one.

An encoder's forward pass is counted in FLOPs of its matrix products: on a core at the rate that benchmarks/classifier.py measured, on a
device at a share of its peak or at a rate of pages that the user measured. Tokenising is counted apart, because it is the cores that
must keep up with a device.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from store.params import Json

RATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rates.json")


@dataclass(frozen=True)
class EncoderRates:
    """Of one core: FLOP/s of an encoder's forward pass in float32, and microseconds to tokenise a page."""

    gflops_per_core: float
    tokenise_us: float

    @classmethod
    def of(cls, data: Mapping[str, Json]) -> EncoderRates:
        return cls(float(str(data["gflops_per_core"])), float(str(data["tokenise_us"])))


@dataclass(frozen=True)
class Rates:
    """Microseconds of one core per document seen, by stage; and where they were measured."""

    machine: str
    stage_us: dict[str, float]
    read_write_us: float
    encoder: EncoderRates | None = None

    @classmethod
    def load(cls) -> Rates | None:
        """The rates that come with the project; None if there are none."""
        if not os.path.isfile(RATES):
            return None
        with open(RATES, encoding="utf-8") as file:
            data = cast("dict[str, Json]", json.load(file))
        encoder = cast("dict[str, Json] | None", data.get("encoder"))
        return cls(str(data["machine"]), cast("dict[str, float]", data["stage_us"]), cast(float, data["read_write_us"]),
                   None if encoder is None else EncoderRates.of(encoder))  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """Core-seconds of pass 1, as if no filter spared a later stage anything."""

    n_docs: int
    core_s: float
    unknown: tuple[str, ...]
    slowest: str


def estimate_pass(stages: Sequence[str], n_docs: int, rates: Rates) -> Estimate:
    """The cost of the given stages over n_docs documents; ``unknown`` names stages that were never measured."""
    known = {s: rates.stage_us[s] for s in stages if s in rates.stage_us}
    total_us = rates.read_write_us + sum(known.values())
    slowest = max(known, key=lambda s: known[s], default="")
    return Estimate(n_docs, n_docs * total_us / 1e6, tuple(s for s in stages if s not in known), slowest)


@dataclass(frozen=True)
class EncoderShape:
    """What decides an encoder's FLOPs."""

    n_layers: int
    hidden: int
    inner: int

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> EncoderShape:
        """From a config.json; ValueError if it is not that of a BERT-like encoder."""
        names = ("num_hidden_layers", "hidden_size", "intermediate_size")
        if missing := [n for n in names if not isinstance(config.get(n), int)]:
            raise ValueError(f"config.json has no {', '.join(missing)}")
        return cls(*(int(str(config[n])) for n in names))

    def flops(self, n_tokens: float) -> float:
        """Of one page: 2 a weight of a matrix product and token, 4 x width x length a token for attention, in every layer."""
        weights = 4 * self.hidden**2 + 2 * self.hidden * self.inner
        return n_tokens * self.n_layers * (2 * weights + 4 * self.hidden * n_tokens)


@dataclass(frozen=True)
class EncoderCost:
    """Of scoring pages with an encoder: seconds of one core for tokenising and for the forward pass, of one device for the latter."""

    n_pages: float
    n_tokens: float
    tokenise_core_s: float
    forward_core_s: float
    device_s: float | None

    def cores_to_keep_up(self, n_devices: int) -> int:
        """Cores whose tokenising does not make the devices wait."""
        return 0 if not self.device_s else math.ceil(self.tokenise_core_s / (self.device_s / n_devices))


def encoder_cost(
    n_pages: float, n_tokens: int, shape: EncoderShape, rates: EncoderRates, device_flops: float | None, pages_per_s: float | None
) -> EncoderCost:
    """What it costs to score pages of ``n_tokens`` tokens; a given rate of a device goes before its FLOP/s."""
    flops = n_pages * shape.flops(n_tokens)
    device_s = n_pages / pages_per_s if pages_per_s else flops / device_flops if device_flops else None
    return EncoderCost(n_pages, n_pages * n_tokens, n_pages * rates.tokenise_us / 1e6, flops / (rates.gflops_per_core * 1e9), device_s)


def human_time(seconds: float) -> str:
    """Seconds in words: 42 s, 12 min, 5.3 h, 3.1 days."""
    for limit, size, unit in ((90, 1, "s"), (5400, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    return f"{seconds / 86_400:.1f} days"
