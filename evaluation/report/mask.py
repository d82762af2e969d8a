"""Masking of what looks personal in texts that the page shows: e-mail, IBAN, card, IP and telephone numbers.

Documents that were dropped never reached the privacy stage, and a model may recite what it read. The patterns are deliberately
broader than those of the corpus: a lost example costs nothing, a shown number may. Names are not found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from store.params import Json

EXAMPLE_CHARS = 300

_PATTERNS = (
    ("e-mail", re.compile(r"[\w.%+-]+\s?(?:@|\(at\)|\[at\])\s?[\w-]+(?:\s?(?:\.|\(dot\)|\[dot\])\s?[\w-]+)+", re.IGNORECASE)),
    ("IBAN", re.compile(r"\b[A-Z]{2}\d{2}(?:[ \u00a0\u202f-]?[A-Z0-9]){11,30}\b")),
    ("IP", re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)")),
    ("IP", re.compile(r"(?<![\w:])(?:[0-9a-f]{1,4}:){4,7}[0-9a-f]{0,4}(?![\w:])", re.IGNORECASE)),
    ("IP", re.compile(r"(?<![\w:])(?:[0-9a-f]{1,4}:)+:(?:[0-9a-f]{1,4}:?)+(?![\w:])", re.IGNORECASE)),
    # Seven digits or more with the separators of telephone, card and insurance numbers between them; ISO dates have eight and stay.
    ("number", re.compile(r"(?<![\w.,])(?!\d{4}-\d{2}-\d{2}(?!\d))(?:[A-Z]|\+|\(0|\(\+)?\d(?:[ \u00a0\u202f()/.–-]{0,3}\d){6,}(?!\w)")),
)  # fmt: skip
_SECRET_KEY = re.compile(
    r"(?:^|_)(?:secret|password|passwd|credentials?|api_key|access_key|secret_key|(?:auth|hf|access|api)_token|token)$"
)
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")


def mask(text: str) -> str:
    """The text with everything that looks like a personal number or address replaced by its kind."""
    for kind, pattern in _PATTERNS:
        text = pattern.sub(f"⟨{kind}⟩", text)
    return text


def excerpt(text: str, limit: int = EXAMPLE_CHARS) -> str:
    """The masked beginning of a text, cut at a word, with an ellipsis where it goes on.

    More than the limit is masked first, so that a number across the cut does not escape its pattern.
    """
    head = mask(" ".join(text[: 4 * limit].split()))
    if len(head) <= limit and len(text) <= 4 * limit:
        return head
    cut = head[:limit]
    return (cut[: cut.rfind(" ")] if " " in cut[limit // 2 :] else cut) + " …"


def host(url: str) -> str:
    """The host of an address: a path may name a person."""
    return mask(urlsplit(url).hostname or "") if "://" in url else ""


def without_secrets(value: Json) -> Json:
    """A recipe as it may be shown: values of keys that name secrets, and user names in addresses, are hidden."""
    if isinstance(value, Mapping):
        return {k: "•••" if _SECRET_KEY.search(k.lower()) and isinstance(v, str) else without_secrets(v) for k, v in value.items()}
    if isinstance(value, list):
        return [without_secrets(v) for v in value]
    return _USER_INFO.sub("•••@", value) if isinstance(value, str) else value
