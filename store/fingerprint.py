"""Fingerprints: what makes two artifacts the same.

fingerprint = sha256(canonical JSON of {step, version, params, inputs}), where inputs are fingerprints again. No path, date,
resource or worker count enters, so the same recipe on another machine finds the same artifacts.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping

from store.params import Json


def canonical_json(value: Json) -> bytes:
    """One byte string per value: sorted keys, no spaces, UTF-8, shortest floats (repr), NaN and infinities refused."""
    _check(value)
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _check(value: Json) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} has no canonical JSON form")
    if isinstance(value, dict):
        for v in value.values():
            _check(v)
    elif isinstance(value, list):
        for v in value:
            _check(v)


def sha256_hex(data: bytes) -> str:
    """sha256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def fingerprint(step: str, version: int, params: Mapping[str, Json], inputs: Mapping[str, str]) -> str:
    """The identity of an artifact: 64 hexadecimal digits."""
    return sha256_hex(canonical_json({"step": step, "version": version, "params": dict(params), "inputs": dict(inputs)}))
