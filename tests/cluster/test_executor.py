"""The Ray executor against the serial one, and under every kind of failure: exceptions, dead workers, a dead driver, no room."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st
from ray import cloudpickle

from cluster.actor import THREAD_VARIABLES, Failure
from cluster.executor import RayExecutor, _places, _Run
from cluster.session import open_session
from corpus.classifier import ClassifierParams
from corpus.classifier.model import Pages, fit
from corpus.scoring import ScoringParams
from corpus.scoring.worker import Check, ScoringWorker
from store.artifact import Draft, Identity, Receipt
from store.errors import InputError, ResourceError, StepError
from store.executor import Job, SerialExecutor, Task
from store.fs import Folder
from store.schema import DOCUMENT

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test module


@pytest.fixture(scope="module", autouse=True)
def session():
    with open_session("local", n_cpus=2) as opened:
        yield opened


class Echo:
    """Writes the task's payload; leaves a line per attempt in ``log``; does on the way what the payload tells it."""

    def __init__(self, draft, log, broken=None):
        self.draft, self.log = draft, Path(log)
        if broken:
            raise InputError("no such model", where=broken)

    def run(self, task):
        self.log.mkdir(exist_ok=True)
        with open(self.log / task.key, "a") as out:
            out.write(f"{os.getpid()}\n")
        attempt = len((self.log / task.key).read_text().splitlines())
        plan = task.payload
        time.sleep(plan.get("sleep_s", 0))
        if attempt <= plan.get("raises", 0):
            raise OSError("a cable came loose")
        if plan.get("bad_input"):
            raise InputError("the file is truncated", where=f"{task.key}.parquet")
        if attempt <= plan.get("dies", 0):
            os.kill(os.getpid(), signal.SIGKILL)
        if attempt <= plan.get("exits", 0):
            sys.exit(3)
        entry = self.draft.folder.write_bytes(f"x/{task.key}.json", json.dumps(task.payload).encode(), n_rows=task.size)
        receipt = Receipt(key=task.key, files=(entry,), counts={"read": 10, "kept": 4}, timing={"run": 0.1})
        if plan.get("dies_after_receipt"):
            self.draft.finish(receipt)
            os.kill(os.getpid(), signal.SIGKILL)
        return receipt


class Look:
    """Reports what a worker process sees."""

    def run(self, task):
        data = {name: os.environ.get(name) for name in THREAD_VARIABLES} | {"cwd": os.getcwd(), "pid": os.getpid()}
        time.sleep(0.3)
        return Receipt(key=task.key, data=data)


def make_job(tmp_path, tasks, name="x", **options):
    draft = Draft.begin(Folder(str(tmp_path / "out")), Identity(name, 1, {}))
    return Job("step", Echo, {"draft": draft, "log": str(tmp_path / "log")}, tasks, draft, unit="documents", **options)


def attempts(tmp_path, key):
    return (tmp_path / "log" / key).read_text().split()


def test_same_manifest_as_the_serial_executor_for_any_number_of_workers(tmp_path):
    tasks = [Task(f"{i:03}", {"i": i, "sleep_s": 0.02 * (i % 3 == 0)}, size=i + 1) for i in range(12)]
    manifests = set()
    for name, executor in {
        "serial": SerialExecutor(), "one": RayExecutor(max_workers=1), "two": RayExecutor(), "backwards": RayExecutor(),
    }.items():  # fmt: skip
        job = make_job(tmp_path / name, tasks[::-1] if name == "backwards" else tasks)
        receipts = executor.map(job)
        assert [r.key for r in receipts] == [t.key for t in job.tasks]
        artifact = job.draft.commit(receipts)
        artifact.verify()
        manifests.add(artifact.folder.read_bytes("manifest.json"))
    assert len(manifests) == 1


@pytest.mark.slow  # two processes that load torch
def test_scoring_workers_give_the_serial_executors_bytes(tmp_path):
    """An encoder in processes of its own: the scores, the manifest and the data of receipts are those of this process."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = scoring_model(tmp_path / "model")
        units = [scoring_unit(tmp_path / "documents", u) for u in range(3)]
        manifests, data = set(), []
        for name, executor in {"serial": SerialExecutor(), "ray": RayExecutor()}.items():
            draft = Draft.begin(Folder(str(tmp_path / name)), Identity("scoring", 1, {}))
            kwargs = {"folder": draft.folder, "documents": Folder(str(tmp_path / "documents")), "model": model, "clusters": None,
                      "params": ScoringParams(dtype="float32"), "check": Check()}  # fmt: skip
            receipts = executor.map(Job("scoring", ScoringWorker, kwargs, units, draft, unit="documents", n_cpus=1))
            data.append([r.data for r in receipts])
            artifact = draft.commit(receipts)
            artifact.verify()
            manifests.add(artifact.folder.read_bytes("manifest.json"))
    finally:
        torch.set_num_threads(threads)
    assert len(manifests) == 1 and data[0] == data[1] and artifact.manifest.counts["scored"] == 90


def scoring_model(folder):
    """A small random encoder with a head that tells two kinds of words apart."""
    texts = [("Arzt Fieber Klinik " if i % 2 == 0 else "Fluss Stadt Berge ") * (1 + i % 5) for i in range(40)]
    pages, held = (Pages(texts[a:b], np.arange(a, b) % 2, np.arange(a, b)) for a, b in ((0, 30), (30, 40)))
    transformer = {"max_tokens": 32, "folds": 2, "l2": [1e-3]}
    params = {"kind": "embedding", "labels": "x", "max_chars": 300, "transformer": transformer}
    made = Folder(str(folder)).make()
    fit(ClassifierParams.model_validate(params), pages, held).save(made)
    return made


def scoring_unit(folder, unit, n=30):
    """A kept file of ``n`` pages of pass 1, and its task."""
    (folder / "kept").mkdir(parents=True, exist_ok=True)
    columns = {f.name: pa.nulls(n, f.type) for f in DOCUMENT}
    words = ["Arzt", "Fluss", "und", "Fieber"]
    texts = pa.array([" ".join(words[(i * unit + j) % 4] for j in range(3 + i)) for i in range(n)], pa.large_string())
    columns |= {"doc_key": pa.array([unit << 32 | i for i in range(n)], pa.int64()), "text": texts}
    pq.write_table(pa.table(columns), folder / f"kept/{unit:06d}.parquet", row_group_size=20, write_page_checksum=True)
    return Task(f"{unit:06d}", {"kept": f"kept/{unit:06d}.parquet", "dropped": None})


def test_finished_tasks_are_not_done_again_and_count_as_resumed(tmp_path):
    tasks = [Task(f"{i}", {}, size=10) for i in range(6)]
    SerialExecutor().map(make_job(tmp_path, tasks[:4]))
    seen = []
    receipts = RayExecutor(seen.append).map(make_job(tmp_path, tasks))
    assert len(receipts) == 6
    assert all(len(attempts(tmp_path, t.key)) == 1 for t in tasks)
    assert (seen[0].resumed, seen[0].done, seen[0].total, seen[0].unit) == (40, 40, 60, "documents")
    assert seen[-1].done == 60 and seen[-1].counts == {"read": 60, "kept": 24}
    assert [p.done for p in seen] == sorted(p.done for p in seen)


def test_nothing_to_do_starts_nothing(tmp_path):
    job = make_job(tmp_path, [Task("a", {})])
    SerialExecutor().map(job)
    began_s = time.monotonic()
    assert [r.key for r in RayExecutor().map(job)] == ["a"]
    assert RayExecutor().map(make_job(tmp_path, [])) == []
    assert time.monotonic() - began_s < 0.5


def test_an_exception_is_retried_in_a_fresh_process(tmp_path):
    tasks = [Task("good", {}), Task("shaky", {"raises": 2})]
    receipts = RayExecutor(n_attempts=3).map(make_job(tmp_path, tasks))
    assert [r.key for r in receipts] == ["good", "shaky"]
    pids = attempts(tmp_path, "shaky")
    assert len(pids) == len(set(pids)) == 3


def test_a_task_that_keeps_failing_ends_the_step_by_name_and_finished_work_is_kept(tmp_path):
    tasks = [
        Task("bad", {"raises": 99, "sleep_s": 1.5}),
        Task("slow", {"sleep_s": 0.3}),
        *(Task(f"later{i}", {"sleep_s": 0.3}) for i in range(40)),
    ]
    job = make_job(tmp_path, tasks)
    with pytest.raises(StepError, match=r"step step: task bad failed 2 times: OSError: a cable came loose\. \d+ of 42 tasks are done"):
        RayExecutor(n_attempts=2).map(job)
    assert len(attempts(tmp_path, "bad")) == 2
    started = {p.name for p in (tmp_path / "log").iterdir()} - {"bad"}
    assert "slow" in started and len(started) < 41
    assert all(job.draft.receipt(key) is not None for key in started)


def test_a_wrong_input_is_not_retried_and_running_tasks_finish(tmp_path):
    tasks = [Task("bad", {"bad_input": True}), Task("running", {"sleep_s": 1.0}), Task("never", {})]
    job = make_job(tmp_path, tasks)
    with pytest.raises(StepError, match=r"task bad failed: bad\.parquet: the file is truncated") as e:
        RayExecutor(n_attempts=5).map(job)
    assert isinstance(e.value.__cause__, InputError) and e.value.__cause__.where == "bad.parquet"
    assert len(attempts(tmp_path, "bad")) == 1
    assert all(job.draft.receipt(p.name) is not None for p in (tmp_path / "log").iterdir() if p.name != "bad")


def test_at_most_five_failed_tasks_are_named_in_task_order(tmp_path):
    run = _Run(RayExecutor(), make_job(tmp_path, [Task(f"t{i}", {}) for i in range(9)]), {})
    for i in (7, 3, 5, 1, 0, 2, 8):
        run._attempt_failed(Task(f"t{i}", {}), Failure("it broke.", "", InputError("it broke")))
    assert str(run._step_error()) == (
        "step step: " + "; ".join(f"task t{i} failed: it broke" for i in (0, 1, 2, 3, 5)) + "; and 2 more. "
        "0 of 9 tasks are done and kept: run again when the cause is removed."
    )


def test_a_worker_that_cannot_be_built_fails_with_its_own_words(tmp_path):
    job = make_job(tmp_path, [Task("a", {})])
    job = Job("step", Echo, {**job.kwargs, "broken": "/models/none"}, job.tasks, job.draft)
    with pytest.raises(StepError, match="/models/none: no such model"):
        RayExecutor().map(job)


@pytest.mark.parametrize("how", ["dies", "exits"])
def test_a_dead_worker_is_replaced(tmp_path, how):
    tasks = [Task("a", {how: 1}), *(Task(f"b{i}", {}) for i in range(4))]
    receipts = RayExecutor(n_attempts=3).map(make_job(tmp_path, tasks))
    assert [r.key for r in receipts] == [t.key for t in tasks]
    assert len(attempts(tmp_path, "a")) == 2
    assert all(len(attempts(tmp_path, f"b{i}")) == 1 for i in range(4))


def test_a_task_that_keeps_killing_its_worker_is_named(tmp_path):
    with pytest.raises(StepError, match="task a failed 2 times: the worker process died"):
        RayExecutor(n_attempts=2).map(make_job(tmp_path, [Task("a", {"dies": 99})]))
    assert len(attempts(tmp_path, "a")) == 2


def test_a_worker_that_died_after_its_receipt_had_done_the_task(tmp_path):
    receipts = RayExecutor(n_attempts=1).map(make_job(tmp_path, [Task("a", {"dies_after_receipt": True}), Task("b", {})]))
    assert [r.key for r in receipts] == ["a", "b"]
    assert len(attempts(tmp_path, "a")) == 1


def look(tmp_path, n, **options):
    draft = Draft.begin(Folder(str(tmp_path)), Identity("look", 1, {}))
    return [r.data for r in RayExecutor().map(Job("look", Look, {}, [Task(str(i), {}) for i in range(n)], draft, **options))]


def test_workers_see_their_share_of_threads_and_the_drivers_folder(tmp_path, caplog):
    seen = look(tmp_path / "two", 4, n_cpus=2)
    assert {s["pid"] for s in seen} == {seen[0]["pid"]}, "two CPUs hold one worker of two"
    assert all(s[name] == "2" for s in seen for name in THREAD_VARIABLES)
    assert all(s["cwd"] == os.getcwd() for s in seen)
    seen = look(tmp_path / "many", 2, n_cpus=64)
    assert seen[0]["OMP_NUM_THREADS"] == "2" and "asks for 64 CPUs, the largest machine has 2" in caplog.text


def test_number_of_workers(tmp_path):
    assert len({s["pid"] for s in look(tmp_path / "a", 8, n_cpus=1)}) == 2
    assert len({s["pid"] for s in look(tmp_path / "b", 4, n_cpus=1, max_workers=1)}) == 1


def test_no_room_is_said_and_then_given_up(tmp_path, caplog):
    executor = RayExecutor(warn_after_s=1.0, give_up_after_s=2.5)
    with pytest.raises(ResourceError, match="one needs 1 CPUs and 1 GPUs on one machine"):
        executor.map(make_job(tmp_path, [Task("a", {})], n_gpus=1))
    assert "the cluster has 2 CPUs and 0 GPUs free of 2 and 0" in caplog.text


def test_an_interrupt_ends_the_workers(tmp_path):
    def interrupt(now):
        if now.done:
            raise KeyboardInterrupt

    job = make_job(tmp_path, [Task("a", {}), Task("long", {"sleep_s": 60})])
    with pytest.raises(KeyboardInterrupt):
        RayExecutor(interrupt).map(job)
    pid = int(attempts(tmp_path, "long")[0]) if (tmp_path / "log" / "long").exists() else None
    deadline = time.monotonic() + 10
    while pid and psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie":
        assert time.monotonic() < deadline, "the worker still runs"
        time.sleep(0.1)
    assert ray.is_initialized(), "the session is the caller's to end"


def test_task_keys_must_be_unique(tmp_path):
    with pytest.raises(StepError, match="not unique: a"):
        RayExecutor().map(make_job(tmp_path, [Task("a", {}), Task("a", {})]))


@given(
    st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0]),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    st.lists(st.fixed_dictionaries({"CPU": st.integers(0, 9).map(float)}, optional={"GPU": st.integers(0, 4).map(float)}), max_size=4),
)
def test_places_is_what_a_greedy_packer_finds(n_cpus, n_gpus, nodes):
    if not n_cpus and not n_gpus:
        return
    placed = 0
    for node in nodes:
        cpus, gpus = node["CPU"], node.get("GPU", 0.0)
        while cpus >= n_cpus and gpus >= n_gpus:
            cpus, gpus, placed = cpus - n_cpus, gpus - n_gpus, placed + 1
    assert _places(n_cpus, n_gpus, nodes) == placed


DRIVER = """
import os, sys, time
from cluster.executor import RayExecutor
from cluster.session import open_session
from store.artifact import Draft, Identity, Receipt
from store.executor import Job, Task
from store.fs import Folder

def main():
    class Slow:
        def __init__(self, draft): self.draft = draft
        def run(self, task):
            time.sleep(0.2)
            print(task.key, flush=True)
            return Receipt(key=task.key, files=(self.draft.folder.write_bytes(f"x/{task.key}", task.key.encode()),))
    draft = Draft.begin(Folder(sys.argv[1]), Identity("slow", 1, {}))
    with open_session("local", n_cpus=2) as session:
        print(session.temp_dir, flush=True)
        def watch(now):
            print(f"done {now.done} resumed {now.resumed}", flush=True)
        draft.commit(RayExecutor(watch).map(Job("slow", Slow, {"draft": draft}, [Task(f"{i:02}", {}) for i in range(16)], draft)))
main()
"""


def test_a_killed_driver_leaves_no_process_and_the_next_one_does_the_rest(tmp_path):
    root = str(Path(__file__).resolve().parents[2])
    start = [sys.executable, "-c", DRIVER, str(tmp_path)]
    env = {**{k: v for k, v in os.environ.items() if not k.startswith("RAY_")}, "PYTHONPATH": root}
    with subprocess.Popen(start, env=env, stdout=subprocess.PIPE, text=True) as driver:
        temp = driver.stdout.readline().strip()
        for said in driver.stdout:
            if said.startswith("done 4"):
                break
        family = psutil.Process(driver.pid).children(recursive=True)
        assert len(family) > 5
        driver.kill()
    _, alive = psutil.wait_procs(family, timeout=15)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE], "orphans"
    n_kept = len(Draft.begin(Folder(str(tmp_path)), Identity("slow", 1, {})).folder.names("_tasks"))
    assert n_kept >= 4
    again = subprocess.run(start, env=env, stdout=subprocess.PIPE, text=True, timeout=60, check=True).stdout
    assert f"done {n_kept} resumed {n_kept}" in again
    assert not Path(temp).parent.exists(), "a session sweeps what killed ones left"
    folder = Identity("slow", 1, {}).folder(Folder(str(tmp_path)))
    assert folder.names() == sorted(["manifest.json", "provenance.json", *(f"x/{i:02}" for i in range(16))])
