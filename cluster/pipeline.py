"""A run: the recipe's graph, executed node by node, recorded after every step, reported at the end.

Steps whose artifacts exist are not run again. A run that was killed finds its finished steps by their manifests and, inside the step
it was in, its finished tasks by their receipts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from cluster.graph import Context, Graph, Node
from cluster.inputs import Inputs
from cluster.lock import only_run
from cluster.recipe import Recipe, SampleSource, resolved
from cluster.steps.corpus import corpus_nodes, sample_node
from store.artifact import Artifact, Draft
from store.errors import DefinemedError
from store.fingerprint import canonical_json, sha256_hex
from store.fs import Folder
from store.params import Json
from store.run import RunRecord, StepRecord


@dataclass(frozen=True)
class Plan:
    """A recipe bound to an output folder: what would run, and what is there already."""

    recipe: Recipe
    out: Folder
    inputs: Inputs
    graph: Graph

    @property
    def root(self) -> Folder:
        return self.out / "artifacts"

    @property
    def run_id(self) -> str:
        """Eight digits of the recipe without its execution section: the same recipe continues the same run."""
        body = resolved(self.recipe)
        body.pop("cluster")
        return sha256_hex(canonical_json(body))[:8]

    @property
    def run_folder(self) -> Folder:
        return self.out / "runs" / f"{self.recipe.name}-{self.run_id}"


def plan_run(recipe: Recipe, out: Folder) -> Plan:
    """Bind a recipe to an output folder. Reads and writes nothing yet."""
    out = out.absolute()
    inputs = Inputs(out)
    if isinstance(recipe.corpus.source, SampleSource):
        first = Graph([sample_node(recipe.corpus.source.sample)])
        inputs.sample = (first.folder(out / "artifacts", "sample"), first.identity("sample").fingerprint)
    nodes = corpus_nodes(recipe, inputs)
    if recipe.tokens is not None:
        from cluster.steps.tokens import token_nodes

        nodes += token_nodes(recipe, inputs)
    if recipe.models:
        from cluster.steps.models import model_nodes

        nodes += model_nodes(recipe, inputs)
    if recipe.evaluation is not None:
        from cluster.steps.evaluation import evaluation_node

        nodes.append(evaluation_node(recipe, inputs))
    return Plan(recipe, out, inputs, Graph(nodes))


Resources = Callable[[], AbstractContextManager[Context]]
"""Opens what steps run on (Ray session, executor, progress); called only if a step has to run."""


@dataclass
class Journal:
    """The run record as it grows."""

    plan: Plan
    machine: dict[str, Json]
    began_unix_s: float = field(default_factory=time.time)
    began_s: float = field(default_factory=time.monotonic)
    steps: list[StepRecord] = field(default_factory=list)

    def add(self, node: Node, *, cached: bool, elapsed_s: float) -> None:
        self.steps.append(self.plan.graph.record(node, cached=cached, elapsed_s=round(elapsed_s, 3)))

    def write(self, status: str, error: str | None = None) -> RunRecord:
        """Write run.json as it stands."""
        record = RunRecord(
            name=self.plan.recipe.name, run_id=self.plan.run_id, status=status, recipe=resolved(self.plan.recipe),
            steps=tuple(self.steps), started_unix_s=round(self.began_unix_s, 3),
            elapsed_s=round(time.monotonic() - self.began_s, 3), machine=self.machine, error=error,
        )  # fmt: skip
        record.write(self.plan.run_folder.make())
        return record


def execute(
    plan: Plan, resources: Resources, machine: dict[str, Json], announce: Callable[[Node, str], None], until: str | None = None
) -> RunRecord:
    """Run what is missing. ``announce(node, "cached" | "removed" | "start" | "done")`` is called as steps pass.

    Raises the DefinemedError of a failed step after recording it, and ResourceError if another run holds the output
    folder. With ``until``, stops after the step of that name.
    """
    nodes = _until(plan.graph.nodes, until)
    with only_run(plan.out):
        return _execute(plan, nodes, resources, Journal(plan, machine), announce)


def _execute(
    plan: Plan, nodes: Sequence[Node], resources: Resources, journal: Journal, announce: Callable[[Node, str], None]
) -> RunRecord:
    wanted = plan.graph.wanted(plan.root, nodes)
    try:
        with resources() if wanted else nullcontext() as context:
            for node in nodes:
                if node.name in wanted:
                    assert context is not None
                    _step(plan, context, node, journal, announce)
                elif plan.graph.is_done(plan.root, node.name):
                    announce(node, "cached")
                    journal.add(node, cached=True, elapsed_s=0.0)
                else:
                    announce(node, "removed")
    except DefinemedError as error:
        journal.write("failed", error.sentence())
        raise
    except BaseException as error:
        journal.write("failed", f"{type(error).__name__}")
        raise
    plan.inputs.save()
    return journal.write("finished")


def _until(nodes: Sequence[Node], until: str | None) -> list[Node]:
    if until is None:
        return list(nodes)
    names = [n.name for n in nodes]
    if until not in names:
        raise DefinemedError(f"there is no step {until}", where="--until", expected=", ".join(names))
    return list(nodes[: names.index(until) + 1])


def _step(plan: Plan, context: Context, node: Node, journal: Journal, announce: Callable[[Node, str], None]) -> None:
    announce(node, "start")
    begin = time.monotonic()
    artifacts = {role: Artifact.open(plan.graph.folder(plan.root, other)) for role, other in node.inputs.items()}
    draft = Draft.begin(plan.root, plan.graph.identity(node.name))
    made = node.run(context, draft, artifacts)
    if made.fingerprint != plan.graph.identity(node.name).fingerprint:
        raise AssertionError(f"{node.name} committed another artifact than planned")
    elapsed_s = time.monotonic() - begin
    journal.add(node, cached=False, elapsed_s=elapsed_s)
    made.note({"elapsed_s": round(elapsed_s, 3), "n_workers": _n_workers(plan, node, journal)})
    journal.write("running")
    announce(node, "done")


def _n_workers(plan: Plan, node: Node, journal: Journal) -> int:
    """Workers a step could use at most: for the report's throughput per worker."""
    if node.kind == "train":
        return plan.recipe.cluster.train_workers
    cores = journal.machine.get("n_cores", 1)
    return plan.recipe.cluster.workers or (cores if isinstance(cores, int) else 1)
