"""Reading recipe files: YAML, one level of ``extends``, ``--set`` overrides. What the keys mean is cluster/recipe.py's.

Paths in a recipe are relative to the folder the command is run in, so that a recipe works the same from a file and with --set.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import typing
from collections.abc import Mapping, Sequence

import yaml

from store.errors import InputError, RecipeError
from store.fs import read_bytes
from store.params import Json

RECIPES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "recipes")


class _Loader(yaml.SafeLoader):
    """yaml.SafeLoader that refuses a key written twice, which YAML would silently let win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen: set[object] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is a list or a section", key.start_mark)
            name = self.construct_object(key, deep=True)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {name} is written twice", key.start_mark)
            seen.add(name)
        return dict(super().construct_mapping(node, deep))


# A date is text: recipes know no other.
_Loader.add_constructor("tag:yaml.org,2002:timestamp", yaml.SafeLoader.construct_yaml_str)
# YAML 1.1 reads 1e-5 as text; recipes are full of learning rates.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$|^[-+]?[0-9][0-9_]*\.[0-9_]*$|^[-+]?\.[0-9]+$"),
    list("-+0123456789."),
)


def parse_yaml(text: str, where: str) -> Json:
    """YAML as JSON values; RecipeError with line and column."""
    try:
        value = yaml.load(text, Loader=_Loader)
        json.dumps(value)
        return typing.cast(Json, value)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RecipeError(f"this is not valid YAML ({error.problem})", where=f"{where}{at}") from error
    except (TypeError, ValueError) as error:  # YAML's sets, bytes, and lists that hold themselves
        raise RecipeError(f"there is a value that recipes do not know ({error})", where=where) from error
    except yaml.YAMLError as error:
        raise RecipeError("this is not text (control characters)", where=where, remedy="save the recipe as UTF-8") from error


def find_recipe(name: str) -> str:
    """The path of a recipe: a file, or the name of a built-in one."""
    if os.path.isfile(name) or "://" in name:
        return name
    built_in = os.path.join(RECIPES, f"{name}.yaml")
    if os.path.isfile(built_in):
        return built_in
    known = sorted(f.removesuffix(".yaml") for f in os.listdir(RECIPES) if f.endswith(".yaml"))
    near = difflib.get_close_matches(os.path.basename(name).removesuffix(".yaml"), known, 1)
    raise RecipeError("there is no such recipe", where=name, expected=f"a file, or one of {', '.join(known)}",
                      remedy=f"did you mean {near[0]}?" if near else None)  # fmt: skip


def load_mapping(path: str, overrides: Sequence[str] = ()) -> dict[str, Json]:
    """The recipe as plain data: ``extends`` merged in, then the overrides ("a.b.c=value", value in YAML)."""
    data = _mapping(path)
    parent = data.pop("extends", None)
    if parent is not None:
        beside = os.path.join(os.path.dirname(path), str(parent))
        base = _mapping(beside if os.path.isfile(beside) else find_recipe(str(parent)))
        if "extends" in base:
            raise RecipeError(f"{parent} extends another recipe itself", where=path, expected="one level of extends")
        data = merge(base, data)
    for override in overrides:
        _set(data, override)
    return data


def _mapping(path: str) -> dict[str, Json]:
    try:
        text = read_bytes(path).decode()
    except InputError as error:
        raise RecipeError("the recipe cannot be read", where=path, remedy=error.remedy) from error
    except UnicodeDecodeError as error:
        raise RecipeError("the recipe is not UTF-8", where=path, remedy="save it as UTF-8") from error
    data = parse_yaml(text, path)
    if not isinstance(data, dict):
        raise RecipeError("a recipe is a mapping of sections", where=path, expected="keys such as name, corpus, models")
    return data


def merge(base: Mapping[str, Json], over: Mapping[str, Json]) -> dict[str, Json]:
    """``over`` wins; mappings merge key by key, everything else (lists too) is replaced."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        out[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def _set(data: dict[str, Json], override: str) -> None:
    path, sign, text = override.partition("=")
    if not sign or not path:
        raise RecipeError(f"cannot read the override {override!r}", where="--set", expected="key.path=value")
    value = parse_yaml(text, f"--set {path}")
    node: Json = data
    *parents, last = path.split(".")
    for key in parents:
        node = _child(node, key, path, create=True)
    if isinstance(node, list):
        node[_index(node, last, path)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise RecipeError(f"{'.'.join(parents)} is a value, not a section", where=f"--set {path}")


def _child(node: Json, key: str, path: str, *, create: bool) -> Json:
    if isinstance(node, list):
        return node[_index(node, key, path)]
    if isinstance(node, dict):
        if create and node.get(key) is None:
            node[key] = {}
        return node[key]
    raise RecipeError(f"there is nothing below {key}", where=f"--set {path}")


def _index(node: list[Json], key: str, path: str) -> int:
    """A list item by number, or by its ``stage`` name (corpus.stages.language.min_score=0.7; a named classifier's is score-NAME)."""
    names = [_stage_name(item) if isinstance(item, dict) else None for item in node]
    if key in names:
        return names.index(key)
    if key.isdigit() and int(key) < len(node):
        return int(key)
    known = ", ".join(str(n) for n in names if n) or f"0 to {len(node) - 1}"
    raise RecipeError(f"the list has no item {key}", where=f"--set {path}", expected=known)


def _stage_name(item: dict[str, Json]) -> Json:
    return f"{item.get('stage')}-{item['classifier']}" if item.get("classifier") is not None else item.get("stage")
