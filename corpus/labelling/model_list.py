"""Whether a server knows the model of a recipe, by what it lists at GET {url}/models.

Some servers answer by the one model they have, whatever name a request bears: a mistyped name would be noticed by nobody, and it would
bear the identity of the labels. A list that does not hold the name is taken at its word; no list, an empty one, or an answer of another
form says nothing.
"""

from __future__ import annotations

import json
import os
import re

from store.errors import ResourceError

TIMEOUT_S = 10.0
"""For the list; a server that takes longer is asked without it."""
NAME = re.compile(r"[\w.:/@+ -]{1,120}")
SHOWN = 10
LATEST = ":latest"
"""Ollama lists a model with its tag and takes it without."""


def listed(data: bytes) -> set[str]:
    """The names in the answer to GET /models, those a server takes beside them included; empty if there are none."""
    try:
        rows = json.loads(data)["data"]
        names = [n for row in rows for n in (row["id"], *(row.get("aliases") or ()))]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return set()
    return {n for n in names if isinstance(n, str)}


def check_listed(name: str, names: set[str], url: str, key: str | None) -> None:
    """ResourceError if a server lists ``names`` and ``name`` is not one of them. A folder is none of its names: see the page."""
    if not names or name in names or name + LATEST in names or os.path.isdir(name):
        return
    shown = sorted(n for n in names if NAME.fullmatch(n) and not (key and (key in n or n in key)))
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    remedy = "correct the model's name, or set the endpoint's check_model to false if the server takes it all the same"
    expected = f"one of {', '.join(shown[:SHOWN])}{more}"
    raise ResourceError(f"the server lists no model {name!r}", where=f"{url}/models", expected=expected, remedy=remedy)
