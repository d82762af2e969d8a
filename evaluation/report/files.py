"""What a run left on disk, read tolerantly: a piece that is absent is None, a piece that is damaged becomes a problem to show.

The report must be readable for the run that went wrong, so nothing here raises for the content of an artifact; but nothing is passed
over in silence either: ``RunFiles.problems`` collects a sentence for each thing that could not be read, and the page shows them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from store.artifact import Artifact
from store.errors import DefinemedError
from store.fs import Folder, open_input
from store.params import Json
from store.run import RunRecord, StepRecord


def number(value: Json | object) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def integer(value: Json | object) -> int | None:
    """A whole number, or None."""
    found = number(value)
    return int(found) if found is not None else None


def mapping(value: Json | object) -> dict[str, Json]:
    """A JSON object; empty for anything else."""
    return value if isinstance(value, dict) else {}


def sequence(value: Json | object) -> list[Json]:
    """A JSON array; empty for anything else."""
    return value if isinstance(value, list) else []


def text(value: Json | object) -> str:
    """A string; empty for anything else."""
    return value if isinstance(value, str) else ""


@dataclass
class StepFiles:
    """A step of the run with its artifact. ``artifact`` is None if it cannot be read.

    Attributes:
        provenance: how the artifact was made; empty if it was not recorded.
        problems: the run's list of sentences, shared by all its steps.
    """

    record: StepRecord
    artifact: Artifact | None
    provenance: dict[str, Json]
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def label(self) -> str:
        """What comes after the kind: "domain" of "tokens/domain"; the whole name where there is no kind in front."""
        return self.name.removeprefix(self.record.kind + "/")

    @property
    def counts(self) -> Mapping[str, int]:
        return self.artifact.manifest.counts if self.artifact else {}

    @property
    def summary(self) -> dict[str, Json]:
        return self.artifact.manifest.summary if self.artifact else {}

    @property
    def params(self) -> dict[str, Json]:
        return self.artifact.manifest.params if self.artifact else {}

    @property
    def elapsed_s(self) -> float | None:
        """Wall time of the run that made the artifact, which is an earlier one if the step was cached."""
        found = number(self.provenance.get("elapsed_s"))
        return found if found is not None else (None if self.record.cached else self.record.elapsed_s)

    def names(self, prefix: str, suffix: str = "") -> list[str]:
        """Files of the artifact below a prefix, in name order."""
        return [f.name for f in self.artifact.files(prefix) if f.name.endswith(suffix)] if self.artifact else []

    def json(self, name: str) -> dict[str, Json]:
        """A JSON object in a file; empty if there is no such file."""
        for _, value in self._parsed(name, whole=True):
            return mapping(value)
        return {}

    def lines(self, name: str) -> Iterator[dict[str, Json]]:
        """The JSON objects of a .jsonl file; none if there is no such file."""
        for _, value in self._parsed(name, whole=False):
            if isinstance(value, dict):
                yield value

    def _parsed(self, name: str, *, whole: bool) -> Iterator[tuple[int, Json]]:
        if not self.artifact or not self.names(name):
            return
        try:
            content = self.artifact.folder.read_bytes(name).decode()
            for i, line in enumerate([content] if whole else content.splitlines()):
                if line.strip():
                    yield i, json.loads(line)
        except (DefinemedError, ValueError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
            self.problem(name, error)

    def batches(self, name: str, columns: list[str], batch_size: int) -> Iterator[pa.RecordBatch]:
        """Batches of a Parquet file with those of ``columns`` that it has; "score_" names all that begin so.

        Memory: one row group.
        """
        if not self.artifact:
            return
        try:
            with open_input(self.artifact.path(name)) as source:
                parquet = pq.ParquetFile(source)
                wanted = [
                    n for n in parquet.schema_arrow.names if any(n == c or (c.endswith("_") and n.startswith(c)) for c in columns)
                ]
                yield from parquet.iter_batches(batch_size=batch_size, columns=wanted)
        except (DefinemedError, pa.ArrowException, OSError) as error:
            self.problem(name, error)

    def problem(self, name: str, error: Exception) -> None:
        """Note that a file could not be read. The first line of the reason is enough for a page."""
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        sentence = f"{self.name}: {name} could not be read ({reason})"
        if sentence not in self.problems:
            self.problems.append(sentence)


@dataclass(frozen=True)
class RunFiles:
    """A run's record and its steps, in the order they ran."""

    record: RunRecord
    steps: tuple[StepFiles, ...]
    problems: list[str]

    @classmethod
    def read(cls, out: Folder, run_folder: Folder) -> RunFiles:
        """Read a run; ArtifactError if the folder holds none."""
        record = RunRecord.read(run_folder)
        problems: list[str] = []
        return cls(record, tuple(_read_step(out, s, problems) for s in record.steps), problems)

    def of_kind(self, *kinds: str) -> list[StepFiles]:
        """The readable steps of some kinds, in the order they ran."""
        return [s for s in self.steps if s.record.kind in kinds and s.artifact]

    @property
    def is_sample(self) -> bool:
        """Whether the source is the built-in synthetic sample."""
        return "sample" in mapping(mapping(self.record.recipe.get("corpus")).get("source"))


def _read_step(out: Folder, record: StepRecord, problems: list[str]) -> StepFiles:
    try:
        artifact = Artifact.open(out / record.folder)
    except DefinemedError as error:
        problems.append(f"{record.name}: {error.sentence()}")
        return StepFiles(record, None, {}, problems)
    step = StepFiles(record, artifact, {}, problems)
    try:
        step.provenance = artifact.provenance()
    except (DefinemedError, ValueError, TypeError) as error:
        step.problem("provenance.json", error)
    return step
