"""How numbers, names and times are set: thousands separators, true minus signs, no more digits than the error allows."""

from __future__ import annotations

import math
from datetime import UTC, datetime

THIN = "\u202f"  # narrow no-break space, between a number and its unit
MINUS = "\u2212"
DASH = "\u2013"


def count(n: int | None) -> str:
    """1234567 -> 1,234,567."""
    return DASH if n is None else f"{n:,}".replace("-", MINUS)


def short(value: float) -> str:
    """1234567 -> 1.23 M, for axes and tiles."""
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            scale = 1e3 if unit == "k" else limit
            return f"{value / scale:.3g}{THIN}{unit}".replace("-", MINUS)
    if value == int(value) or abs(value) >= 1000:
        return count(round(value))
    return f"{value:.3g}".replace("-", MINUS)


def share(part: float, whole: float) -> str:
    """A share in per cent; one that is not zero never reads as zero."""
    if whole <= 0:
        return DASH
    percent = 100 * part / whole
    if 0 < percent < 0.05:
        return f"<{THIN}0.1{THIN}%"
    return f"{percent:.1f}{THIN}%"


def decimal(value: float | None, stderr: float | None = None) -> str:
    """A score with two digits of its standard error, at most 4 decimals; 3 significant decimals without one."""
    return DASH if value is None else f"{value:.{decimals(value, stderr)}f}".replace("-", MINUS)


def decimals(value: float, stderr: float | None) -> int:
    """How many decimals a value deserves."""
    if stderr:
        return min(4, max(0, 1 - math.floor(math.log10(stderr))))
    return 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 3


def signed(value: float, stderr: float | None = None) -> str:
    """A difference, always with its sign."""
    return ("+" if value >= 0 else "") + decimal(value, stderr)


def signed_percent(ratio: float) -> str:
    """A relative change, always with its sign."""
    return f"{100 * ratio:+.1f}{THIN}%".replace("-", MINUS)


def scientific(value: float) -> str:
    """A learning rate."""
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e4:
        return f"{value:.3g}".replace("-", MINUS)
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}".replace("-", MINUS)


def duration(seconds: float | None) -> str:
    """A time span in at most two units."""
    if seconds is None:
        return DASH
    if seconds < 1:
        return f"{1000 * seconds:.0f}{THIN}ms"
    if seconds < 60:
        return f"{seconds:.1f}{THIN}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}{THIN}min {whole % 60:02d}{THIN}s"
    if whole < 2 * 86400:
        return f"{whole // 3600}{THIN}h {whole % 3600 // 60:02d}{THIN}min"
    return f"{whole // 86400}{THIN}d {whole % 86400 // 3600:02d}{THIN}h"


def megabytes(size_mb: float | None) -> str:
    """Memory, given in MB."""
    if size_mb is None:
        return DASH
    return f"{size_mb / 1000:.1f}{THIN}GB" if size_mb >= 1000 else f"{size_mb:.0f}{THIN}MB"


def moment(unix_s: float) -> str:
    """A date and time in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def words(name: str) -> str:
    """An identifier as words: bits_per_byte -> bits per byte."""
    return name.replace("_", " ")


def plural(n: int, noun: str) -> str:
    """1 document, 2,000 documents."""
    return f"{count(n)} {noun}" if n == 1 else f"{count(n)} {noun}s"


def capital(sentence: str) -> str:
    """A sentence's first letter raised, the rest as it is."""
    return sentence[:1].upper() + sentence[1:]


def listing(items: list[str]) -> str:
    """a, b and c."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""
