"""The graph of a run: nodes with identities that are known before anything runs.

A node's fingerprint follows from its parameters and its inputs' fingerprints, so the whole graph can be planned, and finished work
found, without touching a document. Nodes are listed in an order in which inputs come first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from store.artifact import MANIFEST, Artifact, Draft, Identity
from store.errors import RecipeError
from store.executor import Executor, Watcher
from store.fs import Folder
from store.params import Json
from store.run import StepRecord


class Context(Protocol):
    """What a step may use while it runs. How work runs (workers, devices) comes from here and never enters identity."""

    @property
    def executor(self) -> Executor: ...

    @property
    def watch(self) -> Watcher: ...

    def local(self, url: str) -> str:
        """The real path or URL of a file a recipe names (sample:// resolved)."""
        ...


Run = Callable[[Context, Draft, Mapping[str, Artifact]], Artifact]


@dataclass(frozen=True)
class Node:
    """A step of a run.

    Attributes:
        name: unique in the run, e.g. "tokens/domain".
        kind: the artifact's step, e.g. "tokens".
        version: raised when the step would write other bytes for the same parameters.
        inputs: role -> name of another node.
        params: canonical parameters, computed when asked (they may digest files).
        run: does the work and commits the draft.
        about: one line for the plan.
    """

    name: str
    kind: str
    version: int
    inputs: Mapping[str, str]
    params: Callable[[], dict[str, Json]]
    run: Run
    about: str = ""


@dataclass
class Graph:
    """Nodes in an order in which inputs come first."""

    nodes: Sequence[Node]
    _identities: dict[str, Identity] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for node in self.nodes:
            for role, name in node.inputs.items():
                if name not in seen:
                    raise RecipeError(f"{node.name} needs {name} as {role}, which no step before it makes", where="the recipe",
                                      expected=f"one of {', '.join(sorted(seen))}")  # fmt: skip
            seen.add(node.name)

    def identity(self, name: str) -> Identity:
        """The identity of a node; needs none of the artifacts."""
        if name not in self._identities:
            node = next(n for n in self.nodes if n.name == name)
            inputs = {role: self.identity(other).fingerprint for role, other in sorted(node.inputs.items())}
            self._identities[name] = Identity(node.kind, node.version, node.params(), inputs)
        return self._identities[name]

    def folder(self, root: Folder, name: str) -> Folder:
        """Where a node's artifact is or will be."""
        return self.identity(name).folder(root)

    def is_done(self, root: Folder, name: str) -> bool:
        return self.folder(root, name).exists(MANIFEST)

    def wanted(self, root: Folder, nodes: Sequence[Node]) -> set[str]:
        """Names of the given nodes that have to run: ends without an artifact, and what those need and do not have.

        An intermediate artifact that was removed to free its disk space is not made again while everything made from it exists.
        """
        wanted: set[str] = set()
        for node in reversed(nodes):
            consumers = [n.name for n in nodes if node.name in n.inputs.values()]
            if not self.is_done(root, node.name) and (not consumers or wanted.intersection(consumers)):
                wanted.add(node.name)
        return wanted

    def record(self, node: Node, *, cached: bool, elapsed_s: float) -> StepRecord:
        """The step's line in the run record."""
        identity = self.identity(node.name)
        folder = f"artifacts/{identity.step}/{identity.fingerprint[:16]}"
        return StepRecord(name=node.name, kind=node.kind, folder=folder, fingerprint=identity.fingerprint,
                          inputs=dict(node.inputs), cached=cached, elapsed_s=elapsed_s)  # fmt: skip
