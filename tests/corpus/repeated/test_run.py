"""Counting and cutting over files: the plain account's texts and always the same bytes, whatever the cut of the work."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.repeated.count import BYTES_PER_RECORD, CountWorker, GroupWorker, count_repeated, count_tasks, group_tasks
from corpus.repeated.params import RepeatedTextParams
from corpus.repeated.records import Records, added_up, occurrences, read_runs, write_run
from corpus.select import SelectParams, SelectWorker, SetRule
from store.artifact import Artifact, Draft, Identity
from store.errors import ArtifactError, StepError
from store.executor import Job, SerialExecutor, Task
from store.fs import FileEntry, Folder
from store.schema import CLUSTERS, DOCUMENT

LINES = ["eins zwei", "Eins  zwei!", "drei 4", "drei 5", "drei vier fünf", "", "sechs\tsieben", "-"]
PAGES = st.lists(st.lists(st.sampled_from(LINES), max_size=7).map("\n".join), min_size=1, max_size=7)
PARAMS = st.builds(
    RepeatedTextParams, unit=st.sampled_from(["line", "paragraph", "window"]), max_documents=st.integers(1, 3),
    keep=st.sampled_from(["first", "none"]), same=st.sampled_from(["text", "words", "template"]), min_chars=st.integers(1, 8),
    window_words=st.integers(2, 4), winnow=st.integers(1, 3), min_chars_left=st.just(0),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(PAGES, PARAMS, st.integers(1, 3), st.integers(1, 30), st.randoms())
def test_texts_equal_the_plain_account(tmp_path_factory, plain, texts, params, n_files, units_per_task, shuffle) -> None:
    keys = [7 * i for i in range(len(texts))]
    documents = dict(zip(keys, texts, strict=True))
    shuffle.shuffle(keys)  # files need not be in order of key
    tmp_path = tmp_path_factory.mktemp("repeated")
    folder, kept = write(tmp_path, [[(k, documents[k]) for k in keys[i::n_files]] for i in range(n_files)])
    artifact = count(tmp_path, folder, kept, limited(params, units_per_task))
    assert cut(tmp_path, folder, kept, params, artifact)[0] == plain.cut(documents, params)
    assert [f.name for f in artifact.manifest.files] == ["directory.npy", "first_key.npy", "hash.npy", "n_documents.npy"]
    assert not [n for n in artifact.folder.names() if n.startswith(("runs/", "parts/"))]


def test_the_table_does_not_depend_on_files_tasks_runs_or_parts(tmp_path: Path, random: np.random.Generator) -> None:
    lines = [f"Zeile {i}" for i in range(60)]
    pages = [(i, "\n".join(lines[int(k)] for k in random.zipf(1.3, 9) % 60)) for i in range(80)]
    params = RepeatedTextParams(min_chars=1, max_documents=3)
    one = count(tmp_path / "one", *write(tmp_path / "one", [pages]), params)
    for units, files in ((40, [pages[50:], pages[:50]]), (3, [pages[i : i + 9] for i in range(0, 80, 9)])):
        place = tmp_path / str(units)
        other = count(place, *write(place, files), limited(params, units))
        assert other.manifest.content_hash == one.manifest.content_hash
    summary = one.manifest.summary
    having = [sum(line in text.split("\n") for _, text in pages) for line in lines]
    assert summary["n_docs"] == 80 and summary["n_repeated"] == sum(n > 3 for n in having)
    assert summary["n_documents_of_repeated"] == sum(n for n in having if n > 3)
    assert summary["distinct_by_documents"]["10-99"] == sum(10 <= n <= 99 for n in having)


@pytest.mark.parametrize("keep", ["first", "none"])
def test_planted_boilerplate_goes_and_nothing_else(tmp_path: Path, random: np.random.Generator, keep: str) -> None:
    menu = "Startseite | Über uns | Kontakt | Impressum | Datenschutz"
    notice = "Diese Website verwendet Cookies, um Ihnen den bestmöglichen Dienst zu bieten."
    own = [[" ".join(f"wort{w}" for w in random.integers(0, 1 << 40, 12)) for _ in range(3)] for _ in range(300)]
    rare = "Dieser Satz steht in genau zehn Dokumenten und bleibt darum stehen."
    pages = [(i, "\n".join([menu, *lines[:2], *([rare] if i < 10 else []), lines[2], notice])) for i, lines in enumerate(own)]
    folder, kept = write(tmp_path, [pages[:150], pages[150:]])
    params = RepeatedTextParams(keep=keep, max_documents=10)
    texts, counts = cut(tmp_path, folder, kept, params, count(tmp_path, folder, kept, params))
    for key, text in pages:
        gone = () if keep == "first" and key == 0 else (menu, notice)
        assert texts[key] == "\n".join(line for line in text.split("\n") if line not in gone)
    n = 300 if keep == "none" else 299
    gone = {"repeated/documents": n, "repeated/line": 2 * n, "repeated/characters": n * len(menu + notice)}
    assert counts == {"read": 300, "kept/all": 300, **gone}


def test_copies_of_a_page_do_not_make_its_lines_repeated(tmp_path: Path) -> None:
    page = "Eine Seite, von der es zwölf Abschriften gibt, aber nur einmal Text."
    folder, kept = write(tmp_path, [[(i, page) for i in range(12)]])
    pq.write_table(pa.table([list(range(12)), [3] * 12, [12] * 12, ["exact"] * 12], schema=CLUSTERS), tmp_path / "clusters.parquet")
    clusters, params = str(tmp_path / "clusters.parquet"), RepeatedTextParams(keep="none", max_documents=1)
    artifact = count_repeated(begin(tmp_path), SerialExecutor(), kept, folder, clusters, params)
    assert artifact.manifest.summary["n_docs"] == 1 and artifact.manifest.summary["n_repeated"] == 0
    assert cut(tmp_path, folder, kept, params, artifact, clusters)[0] == {3: page}


def test_a_document_of_which_too_little_is_left_is_dropped_by_name(tmp_path: Path) -> None:
    line = "Dies ist ein Satz, den alle Dokumente haben."
    pages = [(0, line), (1, line + "\nkurz"), (2, line + "\n" + "lang " * 20), (3, "kurz")]
    folder, kept = write(tmp_path, [pages])
    params = RepeatedTextParams(max_documents=1)
    texts, counts = cut(tmp_path, folder, kept, params, count(tmp_path, folder, kept, params))
    assert texts == {0: line, 2: "lang " * 20, 3: "kurz"}  # the last was not cut: what is short is a quality filter's matter
    assert counts["dropped/repeated_text/too_little_left"] == 1
    (gone,) = pq.read_table(tmp_path / "select/dropped/0.parquet").to_pylist()
    assert (gone["doc_key"], gone["stage"], gone["reason"], gone["value"]) == (1, "repeated_text", "too_little_left", 4.0)


@pytest.mark.parametrize("units", [3, 1000])
@pytest.mark.parametrize("dies", [CountWorker, GroupWorker])
def test_a_killed_run_continues_with_what_is_missing(tmp_path: Path, units: int, dies: type) -> None:
    pages = [[(10 * f + i, f"Zeile {i}\nZeile {i // 2} und so weiter\nZeile {f}") for i in range(8)] for f in range(3)]
    folder, kept = write(tmp_path, pages)
    params = limited(RepeatedTextParams(min_chars=1, max_documents=2), units)
    whole = count(tmp_path / "whole", folder, kept, params)

    class Dies(SerialExecutor):
        def map(self, job: Job):
            if job.worker is not dies:
                return super().map(job)
            super().map(Job(job.step, job.worker, job.kwargs, job.tasks[:1], job.draft))
            raise KeyboardInterrupt

    draft = begin(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        count_repeated(draft, Dies(), kept, folder, None, params)
    other = limited(params, 5)  # and it may go on with another memory
    assert count_repeated(draft, SerialExecutor(), kept, folder, None, other).manifest.content_hash == whole.manifest.content_hash


def test_damaged_runs_are_named(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    write_run(folder, "runs/a", occurrences(np.arange(9, dtype=np.uint64), np.zeros(9, np.int64)))
    body = (tmp_path / "runs/a").read_bytes()
    for size in (len(body) // 2, len(body) - 1, 32_800, 5):
        (tmp_path / "runs/a").write_bytes(body[:size])
        with pytest.raises(ArtifactError, match="runs/a"):
            read_runs(folder, ["runs/a"], 0, 4096)
        with pytest.raises(StepError, match="damaged"):
            tasks = group_tasks(9, RepeatedTextParams())
            kwargs = {"runs": ["runs/a"], "params": RepeatedTextParams(), "out": folder}
            SerialExecutor().map(Job("repeated_text", GroupWorker, kwargs, tasks, begin(tmp_path)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.lists(st.integers(0, 5), max_size=6)), max_size=12), st.integers(0, 12))
def test_adding_up_equals_a_dictionary(tmp_path_factory, rows, log_parts) -> None:
    folder, runs, truth = Folder(str(tmp_path_factory.mktemp("runs"))), [], {}
    spread = np.random.default_rng(1).integers(0, 1 << 64, 6, np.uint64)
    documents = dict(rows)  # a document is read once
    for n, (key, hashes) in enumerate(documents.items()):
        write_run(folder, f"run{n}", occurrences(spread[hashes], np.full(len(hashes), key, np.int64)))
        runs.append(f"run{n}")
        for h in set(spread[hashes].tolist()):
            first, count = truth.get(h, (key, 0))
            truth[h] = (min(first, key), count + 1)
    width = 4096 >> log_parts
    found = {}
    for low in sorted({int(h >> np.uint64(52)) // width * width for h in spread}):
        part = added_up(read_runs(folder, runs, low, low + width), low, low + width)
        found |= {h: (f, n) for h, f, n in zip(part.hashes.tolist(), part.first.tolist(), part.n_documents.tolist(), strict=True)}
    assert found == truth


def test_a_count_ends_at_the_largest_number(tmp_path: Path) -> None:
    many = Records(np.full(3, 5, np.uint64), np.array([9, 4, 7]), np.full(3, 2_000_000_000, np.uint32))
    total = added_up(many)
    assert (total.hashes.tolist(), total.first.tolist(), total.n_documents.tolist()) == ([5], [4], [2**32 - 1])


def test_runs_parts_and_tasks_are_as_many_as_the_formula_says(tmp_path: Path) -> None:
    pages = [(i, "\n".join(f"Zeile {i} {k}" for k in range(10))) for i in range(8)]  # 80 units, no two alike
    folder, kept = write(tmp_path, [pages[i : i + 1] for i in range(8)])
    params = limited(RepeatedTextParams(min_chars=1), 25)
    whole = Task("count", {"files": [folder.path(e.name) for e in kept]})
    receipt = CountWorker(params, None, folder).run(whole)
    assert receipt.counts == {"documents": 8, "units": 80, "records": 80}
    runs = [str(name) for name in receipt.data["runs"]]
    assert [len(read_runs(folder, [name], 0, 4096)) for name in runs] == [30, 30, 20]  # full after the batch that fills them
    for n, parts in ((0, 1), (25, 1), (26, 2), (80, 4), (101, 8), (10**9, 4096)):
        tasks = group_tasks(n, params)
        assert len(tasks) == parts and [t.payload["low"] for t in tasks[1:]] == [t.payload["high"] for t in tasks[:-1]]
        assert tasks[0].payload["low"] == 0 and tasks[-1].payload["high"] == 4096
    many = [FileEntry(name=f"kept/{i}", size_bytes=1, sha256="", n_rows=1000) for i in range(10_000)]
    for memory, n in ((2000, 65), (16, 1000)):
        tasks = count_tasks(many, folder, RepeatedTextParams(task_memory_mb=memory))
        assert len(tasks) == n and sum(len(t.payload["files"]) for t in tasks) == 10_000


def test_one_line_in_every_document_costs_a_record_a_run(tmp_path: Path, random: np.random.Generator) -> None:
    n = 1_000_000
    hashes = np.stack([np.full(n, 77, np.uint64), random.integers(0, 1 << 63, n).astype(np.uint64)], axis=1).ravel()
    records = occurrences(hashes, np.repeat(np.arange(n), 2))
    common = records.hashes == 77
    assert common.sum() == 1 and records.n_documents[common] == n and records.first[common] == 0
    assert len(records) == n + 1


def write(tmp_path: Path, files: list[list[tuple[int, str]]]) -> tuple[Folder, list[FileEntry]]:
    tmp_path.mkdir(exist_ok=True)
    folder, entries = Folder(str(tmp_path / "documents")).make(), []
    for i, pages in enumerate(files):
        columns = {f.name: pa.nulls(len(pages), f.type) for f in DOCUMENT}
        columns["doc_key"] = pa.array([k for k, _ in pages], pa.int64())
        columns["id"] = pa.array([f"id-{k}" for k, _ in pages])
        columns["text"] = pa.array([t for _, t in pages], pa.large_string())
        with folder.writing(f"kept/{i}.parquet") as out:
            pq.write_table(pa.table(columns, schema=DOCUMENT), out, row_group_size=4)
        entries.append(folder.entry(f"kept/{i}.parquet", n_rows=len(pages)))
    return folder, entries


def begin(tmp_path: Path) -> Draft:
    return Draft.begin(Folder(str(tmp_path / "out")), Identity("repeated_text", 1, {}, {"documents": "f" * 64}))


def count(tmp_path: Path, folder: Folder, kept: list[FileEntry], params: RepeatedTextParams) -> Artifact:
    return count_repeated(begin(tmp_path), SerialExecutor(), kept, folder, None, params)


def limited(params: RepeatedTextParams, units: int) -> RepeatedTextParams:
    """Tasks that hold so many units: a memory no user may ask for, set past validation."""
    return params.model_copy(update={"task_memory_mb": units * BYTES_PER_RECORD / 1e6})


def cut(tmp_path: Path, folder: Folder, kept: list[FileEntry], params: RepeatedTextParams, artifact: Artifact,
        clusters: str | None = None) -> tuple[dict[int, str], dict[str, int]]:  # fmt: skip
    """({key: text} after pass 2, all counts)."""
    out, rules = Folder(str(tmp_path / "select")), SelectParams(sets={"all": SetRule()})
    worker = SelectWorker(out, rules, clusters, (), {}, 1.0, (params, artifact.folder))
    texts: dict[int, str] = {}
    total: dict[str, int] = {}
    for i, entry in enumerate(kept):
        receipt = worker.run(Task(str(i), {"file": folder.path(entry.name)}))
        for file in receipt.files:
            if file.name.startswith("all/"):
                rows = pq.read_table(out.path(file.name), columns=["doc_key", "text"])
                texts |= dict(zip(rows["doc_key"].to_pylist(), rows["text"].to_pylist(), strict=True))
        for name, n in receipt.counts.items():
            total[name] = total.get(name, 0) + n
    return texts, total
