"""The built-in sample as a step: web and truth files by workers, the side files by one task."""

from __future__ import annotations

import os
import shutil
import tempfile

from cluster.graph import Context
from corpus.sample.generate import file_plan, write_side_files, write_web_file
from corpus.sample.params import SampleParams
from store.artifact import Artifact, Draft, Receipt
from store.executor import Job, Task
from store.fs import FileEntry, Folder

SIDE = "side-files"


class SampleWorker:
    """A task's payload is {"file": i} for web file i, or {"file": -1} for the side files."""

    def __init__(self, folder: Folder, params: SampleParams) -> None:
        self.folder, self.params = folder, params

    def run(self, task: Task) -> Receipt:
        number = int(str(task.payload["file"]))
        with tempfile.TemporaryDirectory() as scratch:
            if number < 0:
                counts = {f"side/{k}": v for k, v in write_side_files(self.params, scratch).items()}
            else:
                counts = self._write_web(number, scratch)
            return Receipt(key=task.key, files=tuple(self._publish(scratch)), counts=counts)

    def _write_web(self, number: int, scratch: str) -> dict[str, int]:
        name = file_plan(self.params)[number].name
        for folder in ("web", "truth"):
            os.makedirs(os.path.join(scratch, folder))
        found = write_web_file(self.params, number, os.path.join(scratch, "web", name), os.path.join(scratch, "truth", name))
        return {("read" if k == "docs" else f"kind/{k}"): v for k, v in found.items()}

    def _publish(self, scratch: str) -> list[FileEntry]:
        entries = []
        for folder, _, names in sorted(os.walk(scratch)):
            for name in sorted(names):
                path = os.path.join(folder, name)
                target = os.path.relpath(path, scratch)
                with open(path, "rb") as source, self.folder.writing(target) as out:
                    shutil.copyfileobj(source, out)
                entries.append(self.folder.entry(target))
        return entries


def run_sample(ctx: Context, draft: Draft, params: SampleParams) -> Artifact:
    """Write the sample."""
    tasks = [Task(f"web-{f.index:05d}", {"file": f.index}, f.n_docs) for f in file_plan(params)]
    tasks.append(Task(SIDE, {"file": -1}, 1))
    receipts = ctx.executor.map(Job("sample", SampleWorker, {"folder": draft.folder, "params": params}, tasks, draft, unit="pages"))
    return draft.commit(receipts, summary={"synthetic": True, "n_docs": params.n_docs})
