"""The pages in docs/ say what the code does: recipes and commands in them load, tables are those of the models, links resolve."""

import importlib
import json
import re
import shlex
import tomllib
import xml.dom.minidom
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from cluster.recipe import Recipe, load_recipe
from cluster.recipe_errors import validate
from cluster.recipe_file import RECIPES, find_recipe, load_mapping, merge, parse_yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
BUILT_IN = sorted(p.stem for p in Path(RECIPES).glob("*.yaml"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
MARKED_TABLE = re.compile(r"^<!-- (params|fields|schema): (\S+)(?: (names)| not: ([\w, ]+))? -->\n\n((?:\|.*\n)+)", re.MULTILINE)
CHECKED_JSON = re.compile(r"^<!-- check: (\S+) -->\n\n```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = ("run", "plan", "inspect", "report", "dedup", "classifier", "labels", "tokens", "schema", "doctor")
GROUPS = ("dedup", "classifier", "labels", "tokens")


def text_of(page):
    return page.read_text(encoding="utf-8")


def blocks(kind):
    """(page and number, content) of every fenced block of a kind."""
    found = [(f"{p.name}-{i}", body) for p in PAGES for i, (name, body) in enumerate(FENCE.findall(text_of(p))) if name == kind]
    assert found, f"no {kind} block in docs"
    return [pytest.param(body, id=name) for name, body in found]


def loaded(name):
    module, attribute = name.rsplit(".", 1)
    return getattr(importlib.import_module(module), attribute)


def rows(table):
    """Cells of a Markdown table's body; a pipe inside a cell is written with a backslash."""
    lines = table.strip().split("\n")[2:]
    return [[c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def tables(kind):
    found = [(p.name, *m[1:]) for p in PAGES for m in MARKED_TABLE.findall(text_of(p)) if m[0] == kind]
    assert found, f"no table of {kind} in docs"
    return [pytest.param(*rest, id=f"{page}-{rest[0]}") for page, *rest in found]


def names_in(table):
    """Names in code marks in the first column; a cell may hold several."""
    return [name for row in rows(table) for name in re.findall(r"`([^`]+)`", row[0])]


@pytest.mark.parametrize("body", blocks("yaml"))
def test_recipes_are_valid(body, tmp_path):
    head, data = body.split("\n", 1)[0], parse_yaml(body, "docs")
    assert isinstance(data, dict)
    if head == "# recipe":
        parent = data.pop("extends", None)
        base = load_mapping(find_recipe(Path(parent).stem)) if parent else {}
    else:
        of = re.fullmatch(r"# fragment of ([\w.-]+)", head)
        assert of, "a yaml block begins with '# recipe' or '# fragment of NAME'"
        base = load_mapping(find_recipe(of[1]))
    validate(Recipe, merge(base, data), "docs")


@pytest.mark.parametrize("body", blocks("bash"))
def test_commands_exist(body):
    for line in body.splitlines():
        words = shlex.split(line, comments=True)
        at = next((i for i, w in enumerate(words) if w in ("definemed", "cluster.cli")), None)
        if at is None:
            continue
        command, rest = words[at + 1], words[at + 2 :]
        assert command in COMMANDS, line
        path = [command, rest[0]] if command in GROUPS else [command]
        shown = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
        assert all(option in shown for option in rest if option.startswith("--")), line
        if command in ("run", "plan") and rest[0] in BUILT_IN:
            load_recipe(rest[0], [value for option, value in pairwise(rest) if option == "--set"])


@pytest.mark.parametrize("body", [*blocks("json"), *blocks("jsonl")])
def test_json_is_json(body):
    try:
        json.loads(body)
    except ValueError:
        assert [json.loads(line) for line in body.splitlines()]


def test_json_marked_with_a_model_is_valid():
    found = [m for p in PAGES for m in CHECKED_JSON.findall(text_of(p))]
    assert found
    for name, body in found:
        loaded(name).model_validate_json(body)


@pytest.mark.parametrize(("name", "mode", "without", "table"), tables("params"))
def test_parameters_are_those_of_the_model(name, mode, without, table):
    left_out = {w.strip() for w in without.split(",") if w.strip()}
    fields = {f.alias or n: f for n, f in loaded(name).model_fields.items() if n not in left_out}
    if mode == "names":
        assert set(fields) <= set(names_in(table))
        return
    assert names_in(table) == list(fields)
    for row, field in zip(rows(table), fields.values(), strict=True):
        shown = "required" if field.is_required() else json.dumps(field.get_default(call_default_factory=True), ensure_ascii=False)
        assert row[1] == f"`{shown}`", row[0]


@pytest.mark.parametrize(("name", "mode", "without", "table"), tables("fields"))
def test_fields_are_those_of_the_model(name, mode, without, table):
    assert names_in(table) == list(loaded(name).model_fields)


@pytest.mark.parametrize(("name", "mode", "without", "table"), tables("schema"))
def test_columns_are_those_of_the_schema(name, mode, without, table):
    def said(kind):
        return f"list of {kind.value_type}" if pa.types.is_list(kind) else str(kind)

    assert [(r[0], r[1]) for r in rows(table)] == [(f"`{f.name}`", said(f.type)) for f in loaded(name)]


def heading_anchors(page):
    """Anchors as GitHub makes them."""
    outside = FENCE.sub("", text_of(page))
    titles = re.findall(r"^#+ (.+)$", outside, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda p: p.name)
def test_links_resolve(page):
    for target in LINK.findall(FENCE.sub("", text_of(page))):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.is_file(), target
        if anchor:
            assert anchor in heading_anchors(file), target


def test_nothing_is_forgotten():
    from corpus.stages import AnyStage

    recipes, development = (text_of(ROOT / "docs" / f"{n}.md") for n in ("recipes", "development"))
    corpus = "\n".join(text_of(page) for page in PAGES)
    stages = AnyStage.__origin__.__args__
    assert not [s.__name__ for s in stages if f"### {s.model_fields['stage'].default}\n" not in corpus]
    reasons = {r for s in stages for r in s.reasons if not re.fullmatch(r"(top|duplicated)_\d+_(n_)?grams?", r)}
    assert not [r for r in sorted(reasons) if f"`{r}`" not in corpus]
    assert not [n for n in BUILT_IN if f"| `{n}` |" not in recipes]
    targets = re.findall(r"^([a-z][a-z-]*):", text_of(ROOT / "Makefile"), re.MULTILINE)
    assert targets and not [t for t in targets if t != "help" and f"`make {t}`" not in development]


def test_every_direct_dependency_is_explained_and_no_other():
    with open(ROOT / "pyproject.toml", "rb") as file:
        wanted = [re.split(r"[\[<>=]", d)[0] for d in tomllib.load(file)["project"]["dependencies"]]
    page = text_of(ROOT / "docs" / "dependencies.md")
    section = page.split("## Direct dependencies")[1].split("\n## ")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE) == wanted


def test_the_picture_is_well_formed():
    picture = xml.dom.minidom.parse(str(ROOT / "docs" / "architecture.svg"))
    assert picture.documentElement.getAttribute("viewBox")
    assert "architecture.svg" in text_of(ROOT / "docs" / "architecture.md")
