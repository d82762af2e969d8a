"""The record of a run: which recipe, which steps, which artifacts. Written after every step, so a cut-off run can be read.

Layout below the output folder::

    artifacts/<kind>/<fingerprint>/   the artifacts (store.artifact)
    runs/<name>-<id>/run.json         this record
    runs/<name>-<id>/recipe.json      the resolved recipe, every default written out
    runs/<name>-<id>/report.html      the report

The run id is derived from the resolved recipe: the same recipe continues the same run.
"""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict, ValidationError

from store.artifact import Artifact
from store.errors import ArtifactError
from store.fs import Folder
from store.params import Json

RECORD = "run.json"
REPORT = "report.html"


class StepRecord(BaseModel):
    """One step of a run.

    ``name`` is unique in the run ("tokens/domain"), ``kind`` names the artifact's step ("tokens"), ``folder`` is relative to the
    output folder, ``inputs`` maps roles to names of other steps. ``elapsed_s`` is this run's; 0 and ``cached`` if it was there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: str
    folder: str
    fingerprint: str
    inputs: dict[str, str]
    cached: bool
    elapsed_s: float


class RunRecord(BaseModel):
    """A run. ``status`` is running, finished or failed; ``error`` is the sentence of what failed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    run_id: str
    status: str
    recipe: dict[str, Json]
    steps: tuple[StepRecord, ...]
    started_unix_s: float
    elapsed_s: float
    machine: dict[str, Json]
    error: str | None = None

    def write(self, folder: Folder) -> None:
        """Write run.json and recipe.json."""
        folder.write_bytes(RECORD, self.model_dump_json(indent=1).encode())
        folder.write_bytes("recipe.json", json.dumps(self.recipe, indent=1, ensure_ascii=False).encode())

    @classmethod
    def read(cls, folder: Folder) -> RunRecord:
        """Read a run's folder; ArtifactError if it is none."""
        if not folder.exists(RECORD):
            raise ArtifactError("this is not the folder of a run (run.json is missing)", where=folder.url,
                                expected="a folder such as out/runs/demo-1a2b3c4d")  # fmt: skip
        try:
            return cls.model_validate_json(folder.read_bytes(RECORD))
        except ValidationError as error:
            raise ArtifactError(f"run.json is damaged ({error.error_count()} problems)", where=folder.url) from error

    def artifact(self, out: Folder, name: str) -> Artifact | None:
        """The artifact of a step, or None if the run has no such finished step."""
        for step in self.steps:
            if step.name == name:
                return Artifact.open(out / step.folder)
        return None
