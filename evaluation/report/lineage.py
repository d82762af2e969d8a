"""The chapter on lineage: which artifact was made from which, with fingerprints, content hashes and versions."""

from __future__ import annotations

import json

from markupsafe import Markup

from evaluation.report import dag
from evaluation.report.blocks import Block, Cell, Code, Details, Figure, Section, code, table
from evaluation.report.files import RunFiles, StepFiles, mapping
from evaluation.report.mask import without_secrets
from evaluation.report.svg import element
from evaluation.report.typography import DASH, duration, megabytes, moment, words
from store.params import Json

# Facts that could name a person or a machine's owner are not shown.
PRIVATE_FACTS = ("user", "username", "login", "home", "host", "hostname", "node", "fqdn", "ip", "address", "email")
LABEL_CHARS = 21
PAD = 2.0


def lineage_section(files: RunFiles) -> Section | None:
    """The chapter, or None if no step was recorded."""
    if not files.steps:
        return None
    caption = "Arrows lead from an artifact to what was made of it. A dashed frame: found in the cache, not made in this run."
    return Section(
        "lineage",
        "Lineage",
        (Figure(_graph(files), caption, "From source to report", scroll=True), _table(files.steps), *_versions(files)),
    )


def _in_words(step: StepFiles) -> str:
    sources = list(dict.fromkeys(step.record.inputs.values()))
    return f"{step.name} from {', '.join(sources)}" if sources else step.name


def _graph(files: RunFiles) -> Markup:
    steps = {s.name: s for s in files.steps}
    placed = dag.layout(list(steps), {s.name: list(s.record.inputs.values()) for s in files.steps})
    children = [_edge(placed, chain) for chain in placed.chains]
    numbers = {s.name: i for i, s in enumerate(files.steps)}
    children += [_node(v, steps[v.name], numbers[v.name]) for v in placed.vertices if v.name]
    width, height = placed.width + 2 * PAD, placed.height + 2 * PAD
    label = "Graph of the steps: " + "; ".join(_in_words(s) for s in files.steps)
    box = f"{-PAD:g} {-PAD:g} {width:g} {height:g}"
    return element("svg", *children, class_="graph", width=width, height=height, viewbox=box, role="img", aria_label=label)


def _edge(placed: dag.Layout, chain: list[int]) -> Markup:
    """A smooth line through the way points; it leaves and enters steps vertically."""
    points = [placed.vertices[i] for i in chain]
    first, last = points[0], points[-1]
    x, y = first.x, first.y + dag.NODE_HEIGHT / 2
    path = f"M{x:.1f} {y:.1f}"
    for v in points[1:]:
        top = v.y - dag.NODE_HEIGHT / 2 - (3 if v is last else 0)
        middle = (y + top) / 2
        path += f"C{x:.1f} {middle:.1f} {v.x:.1f} {middle:.1f} {v.x:.1f} {top:.1f}"
        if v is not last:
            path += f"V{v.y + dag.NODE_HEIGHT / 2:.1f}"
        x, y = v.x, v.y + dag.NODE_HEIGHT / 2
    tip = f"M{last.x - 3:.1f} {last.y - dag.NODE_HEIGHT / 2 - 5:.1f}l3 4.5l3 -4.5"
    return element("path", d=path, class_="edge") + element("path", d=tip, class_="edge")


def _node(v: dag.Vertex, step: StepFiles, number: int) -> Markup:
    x, y = v.x - dag.NODE_WIDTH / 2, v.y - dag.NODE_HEIGHT / 2
    state = "broken" if step.artifact is None else "cached" if step.record.cached else "made"
    name = step.name if len(step.name) <= LABEL_CHARS else step.name[: LABEL_CHARS - 1] + "…"
    return element(
        "a",
        element("title", f"{step.name} {step.record.fingerprint[:16]}"),
        element("rect", class_=f"node {state}", x=x, y=y, width=dag.NODE_WIDTH, height=dag.NODE_HEIGHT, rx=4),
        element("text", name, class_="node-name", x=v.x, y=y + 17, text_anchor="middle"),
        element("text", step.record.fingerprint[:8], class_="node-code", x=v.x, y=y + 32, text_anchor="middle"),
        href=f"#step-{number}",
    )


def _table(steps: tuple[StepFiles, ...]) -> Block:
    rows = []
    for i, s in enumerate(steps):
        content = s.artifact.manifest.content_hash[:16] if s.artifact else "unreadable"
        version = str(s.artifact.manifest.version) if s.artifact else DASH
        size = megabytes(s.artifact.size_bytes / 1e6) if s.artifact else DASH
        rows.append([Cell(s.name, anchor=f"step-{i}"), code(s.record.fingerprint[:16]), code(s.record.folder), code(content),
                     Cell(version, None, "number"), Cell(size, None, "number")])  # fmt: skip
    return table("Steps and their artifacts", ["Step", "Fingerprint", "Folder", "Content hash", "Version", "Size"], rows)


def _versions(files: RunFiles) -> list[Block]:
    """Versions of the software by step; steps made with the same ones share a row."""
    groups: dict[str, list[str]] = {}
    for s in files.steps:
        found = mapping(s.provenance.get("versions"))
        if found:
            groups.setdefault(", ".join(f"{k} {v}" for k, v in sorted(found.items())), []).append(s.name)
    if not groups:
        return []
    rows = [[Cell(", ".join(names)), Cell(versions)] for versions, names in groups.items()]
    return [Details("Versions of the software that made them", (table("Versions", ["Steps", "Made with"], rows),))]


def recipe_section(files: RunFiles) -> Section:
    """The resolved recipe, and the facts of the run and its machine."""
    record = files.record
    facts = [("run", record.run_id), ("started", moment(record.started_unix_s)), ("elapsed", duration(record.elapsed_s))]
    facts += [(words(k), _fact(k, v)) for k, v in record.machine.items() if k.lower() not in PRIVATE_FACTS]
    recipe = json.dumps(without_secrets(record.recipe), indent=2, ensure_ascii=False)
    return Section(
        "recipe",
        "Recipe and machine",
        (
            table("The run and its machine", ["", "Value"], [[Cell(k), Cell(v)] for k, v in facts]),
            Details("The resolved recipe, every default written out", (Code(recipe),)),
        ),
    )


def _fact(key: str, value: Json) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: DASH}[value]
    if isinstance(value, int):
        return megabytes(value / 1e6) if key.endswith("bytes") else f"{value:,}"
    if isinstance(value, list):
        return "; ".join(_fact(key, v) for v in value) or DASH
    if isinstance(value, dict):
        return ", ".join(f"{words(k)} {_fact(k, v)}" for k, v in value.items() if k.lower() not in PRIVATE_FACTS) or DASH
    return str(value)
