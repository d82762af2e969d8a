"""The rules of the house: who imports whom, names nobody else owns, modules of one idea, and rooms that open without the others."""

import ast
import functools
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MIDDLE = ("corpus", "training", "merging", "evaluation")
ROOMS = ("store", *MIDDLE, "cluster")
ALLOWED = {"store": {"store"}, "cluster": set(ROOMS)} | {room: {"store", room} for room in MIDDLE}
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
FILE_LINES, FUNCTION_LINES = 400, 80


@functools.cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(tree):
    """Top-level packages a module imports, at its head or anywhere inside."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__"):
            yield from (str(a.value).split(".")[0] for a in node.args[:1] if isinstance(a, ast.Constant))


def names(paths):
    return [str(p.relative_to(ROOT)) for p in paths]


def test_the_reader_of_imports_reads_all_kinds():
    code = "import a.b, c\nfrom d.e import f\nfrom . import g\ndef h():\n    import i\n    importlib.import_module('j.k')"
    assert sorted(imported(ast.parse(code))) == ["a", "c", "d", "i", "j"]


def test_there_is_a_house():
    assert {p.relative_to(ROOT).parts[0] for p in MODULES} == set(ROOMS) and len(MODULES) > 30


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_one_way(room):
    inside = [p for p in MODULES if p.relative_to(ROOT).parts[0] == room]
    wrong = {str(p.relative_to(ROOT)): bad for p in inside if (bad := set(imported(parsed(p))) & set(ROOMS) - ALLOWED[room])}
    assert not wrong


def test_no_relative_imports():
    assert not names(p for p in MODULES if any(isinstance(n, ast.ImportFrom) and n.level for n in ast.walk(parsed(p))))


def test_only_cluster_imports_ray_and_store_needs_no_torch():
    by_room = {room: {name for p in MODULES if p.relative_to(ROOT).parts[0] == room for name in imported(parsed(p))} for room in ROOMS}
    assert [room for room in ROOMS if "ray" in by_room[room]] == ["cluster"]
    assert not by_room["store"] & {"torch", "ray", "transformers", "polars", "datasets", "tokenizers"}


def test_no_installed_distribution_owns_a_room():
    owners = {room: set(metadata.packages_distributions().get(room, [])) - {"definemed"} for room in ROOMS}
    assert owners == {room: set() for room in ROOMS}


def test_nothing_ends_every_ray_of_the_machine():
    code = [*MODULES, *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("Makefile")]
    words = ("ray", "stop")  # not spelled out, or this file would have to leave itself out
    assert not names(
        p for p in code if " ".join(words) in (text := p.read_text(encoding="utf-8")) or f'"{words[0]}", "{words[1]}"' in text
    )


def test_every_module_says_what_it_is():
    assert not names(p for p in MODULES if not (ast.get_docstring(parsed(p)) or "").strip())


def test_files_and_functions_are_short():
    assert not [
        f"{name}: {n}"
        for p, name in zip(MODULES, names(MODULES), strict=True)
        if (n := len(p.read_text("utf-8").splitlines())) > FILE_LINES
    ]
    functions = [(p, n) for p in MODULES for n in ast.walk(parsed(p)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    too_long = [f"{p.relative_to(ROOT)}:{n.lineno} {n.name}" for p, n in functions if n.end_lineno - n.lineno + 1 > FUNCTION_LINES]
    assert functions and not too_long


def test_test_folders_have_no_init_files():
    assert not names((ROOT / "tests").rglob("__init__.py"))


@pytest.mark.parametrize("room", ["store", *MIDDLE])
def test_a_room_opens_without_ray(room):
    """Importing all of a room imports no ray; of training, merging and evaluation also no mergekit and no polars."""
    modules = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in MODULES if p.relative_to(ROOT).parts[0] == room]
    modules = [m.removesuffix(".__init__") for m in modules if not m.endswith("__main__")]
    unwanted = ["ray", "mergekit"] + (["polars"] if room != "corpus" else []) + (["torch"] if room in ("store", "corpus") else [])
    code = f"import sys\nfor m in {modules!r}: __import__(m)\nprint([m for m in {unwanted!r} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.strip().splitlines()[-1] == "[]"
