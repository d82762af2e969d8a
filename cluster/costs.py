"""What a run would cost, from rates measured by benchmarks/road.py (cluster/rates.json): an estimate, said to be one.

Corpus work is documents x microseconds a stage took per document it saw. Early filters spare later stages their work, so the sum over
all stages is an upper bound; the measured road's own average, which had its own filters, is the lower one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from store.params import Json

RATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rates.json")


@dataclass(frozen=True)
class Rates:
    """Microseconds of one core per document seen, by stage; and where they were measured."""

    machine: str
    stage_us: dict[str, float]
    read_write_us: float

    @classmethod
    def load(cls) -> Rates | None:
        """The rates that come with the project; None if there are none."""
        if not os.path.isfile(RATES):
            return None
        with open(RATES, encoding="utf-8") as file:
            data = cast("dict[str, Json]", json.load(file))
        return cls(str(data["machine"]), cast("dict[str, float]", data["stage_us"]), cast(float, data["read_write_us"]))


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


def human_time(seconds: float) -> str:
    """Seconds in words: 42 s, 12 min, 5.3 h, 3.1 days."""
    for limit, size, unit in ((90, 1, "s"), (5400, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    return f"{seconds / 86_400:.1f} days"
