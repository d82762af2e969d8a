"""A prompt: a YAML file with a name and the texts of a request, filled with the labels and a page.

Keys: ``name`` (in the names of voters), ``user`` and, if wanted, ``system`` and ``again`` (added to ``user`` when a model is asked
again because its answer was no label). Filled in: ``{labels}`` a line for each label with its description, ``{names}`` the labels'
names, and, in ``user``, ``{page}``. Other braces are text. A page stands between two lines that bear a code made of its own content, so
a page cannot close itself: who writes it would have to know the hash of what he writes.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Mapping, Sequence

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from store.errors import RecipeError
from store.fingerprint import sha256_hex
from store.fs import read_bytes

BUILT_IN = ("de", "en")
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "prompts")
SLOT = re.compile(r"\{(labels|names|page)\}")
CODE_DIGITS = 16
Message = dict[str, str]
Described = Sequence[tuple[str, str]]
"""Labels as (name, description)."""


class Prompt(BaseModel):
    """A prompt as its file has it. ``digest`` is the sha256 of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$")
    system: str | None = None
    user: str
    again: str | None = None
    digest: str = ""

    @classmethod
    def read(cls, name: str) -> Prompt:
        """A built-in prompt by its name, or one from a file; RecipeError if it is none."""
        where = os.path.join(FOLDER, f"{name}.yaml") if name in BUILT_IN else name
        data = read_bytes(where)
        try:
            prompt = cls.model_validate({**_mapping(data), "digest": sha256_hex(data)})
        except (yaml.YAMLError, UnicodeDecodeError, ValidationError, TypeError) as error:
            why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else type(error).__name__
            expected = "YAML with name, user and, if wanted, system and again"
            raise RecipeError(f"this is no prompt ({why})", where=where, expected=expected,
                              remedy=f"a built-in prompt is one of {', '.join(BUILT_IN)}") from error  # fmt: skip
        if "{page}" not in prompt.user:
            raise RecipeError("the prompt has no place for the page", where=where, expected="{page} in user")
        return prompt

    def messages(self, labels: Described, text: str, attempt: int) -> list[Message]:
        """The messages of a request for a page's (cut) text; ``attempt`` counts from 1."""
        fixed = _fixed(tuple(labels))
        user = _filled(self.user, {**fixed, "page": _page(text)})
        if attempt > 1 and self.again:
            user = f"{user.rstrip()}\n\n{_filled(self.again, fixed)}"
        system = [{"role": "system", "content": _filled(self.system, fixed).rstrip()}] if self.system else []
        return [*system, {"role": "user", "content": user.rstrip()}]


@functools.cache
def built_in_digest(name: str) -> str:
    """The sha256 of a built-in prompt."""
    return sha256_hex(read_bytes(os.path.join(FOLDER, f"{name}.yaml")))


def _mapping(data: bytes) -> dict[str, object]:
    found = yaml.safe_load(data)
    if not isinstance(found, dict) or "digest" in found:
        raise TypeError("not a mapping of texts")
    return found


@functools.lru_cache(maxsize=16)
def _fixed(labels: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """What is the same for every page."""
    return {
        "labels": "\n".join(f"- {name}: {' '.join(about.split())}" for name, about in labels),
        "names": ", ".join(json.dumps(name, ensure_ascii=False) for name, _ in labels),
    }


def _filled(template: str, values: Mapping[str, str]) -> str:
    """Slots filled in one go: what a page or description holds in braces stays as it is."""
    return SLOT.sub(lambda m: values.get(m[1], m[0]), template)


def _page(text: str) -> str:
    code = sha256_hex(text.encode("utf-8", "surrogatepass"))[:CODE_DIGITS]
    return f"<page {code}>\n{text}\n</page {code}>"
