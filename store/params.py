"""Parameters: frozen, strict, and the source of identity.

A step's identity is derived from its parameter model itself, so a knob cannot be forgotten in a hand-kept list. Two markers
say what a field means for identity:

* ``ByContent``: the field names a file; its bytes bear identity, its path does not.
* ``Execution``: how the work runs (batch sizes, worker counts); it never changes a byte of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, get_args

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeAliasType

# A named alias: pydantic cannot follow a recursive Union without a name.
Json = TypeAliasType("Json", "bool | int | float | str | list[Json] | dict[str, Json] | None")


class _Marker:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


ByContent = _Marker("ByContent")
Execution = _Marker("Execution")

FileByContent = Annotated[str, ByContent]
"""A path or URL of one file; identity is the file's sha256."""


class Params(BaseModel):
    """Base of every parameter model: frozen; unknown keys, NaN and infinities are errors. ``None`` means off, ``0`` means zero."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: object) -> None:
        """Refuse a marker that pydantic would not see: inside Optional or a tuple, where identity would silently take the path."""
        super().__pydantic_init_subclass__(**kwargs)
        for name, field in cls.model_fields.items():
            if _has_marker(field.annotation):
                raise TypeError(f"{cls.__name__}.{name}: put the marker outermost, as in Annotated[str | None, ByContent]")

    def identity(self, digest: Callable[[str], str]) -> dict[str, Json]:
        """The fields that decide bytes, as JSON. ``digest(url)`` gives the sha256 of a file named by a ByContent field."""
        return identity_of(self, digest)


def _has_marker(annotation: object) -> bool:
    """Whether a marker stands anywhere inside a type."""
    inside = getattr(annotation, "__metadata__", ())
    return any(isinstance(m, _Marker) for m in inside) or any(_has_marker(a) for a in get_args(annotation))


def identity_of(model: BaseModel, digest: Callable[[str], str]) -> dict[str, Json]:
    """Canonical JSON of a model: Execution fields left out, ByContent fields replaced by the digest of what they name."""
    out: dict[str, Json] = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if Execution in field.metadata:
            continue
        if ByContent in field.metadata and value is not None:
            out[name] = [digest(v) for v in value] if isinstance(value, (list, tuple)) else digest(value)
        else:
            out[name] = _plain(value, digest)
    return out


def _plain(value: object, digest: Callable[[str], str]) -> Json:
    if isinstance(value, Params):
        return value.identity(digest)  # its own, where it has one
    if isinstance(value, BaseModel):
        return identity_of(value, digest)
    if isinstance(value, dict):
        return {str(k): _plain(v, digest) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, digest) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a parameter of type {type(value).__name__} has no canonical form")
