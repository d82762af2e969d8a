"""The serial executor: order, resume, attempts, errors that are not retried, progress."""

import pytest

from store.artifact import Draft, Identity, Receipt
from store.errors import InputError, StepError
from store.executor import Job, Progress, SerialExecutor, Task, check_keys
from store.fs import Folder


class Shaky:
    """Raises as often as the payload says, then finishes; counts attempts in ``log``."""

    def __init__(self, log):
        self.log = log

    def run(self, task):
        self.log.append(task.key)
        if task.payload.get("bad"):
            raise InputError("truncated", where=task.key)
        if self.log.count(task.key) <= task.payload.get("raises", 0):
            raise OSError("a cable came loose")
        return Receipt(key=task.key, counts={"read": task.size})


def make_job(tmp_path, log, *tasks):
    draft = Draft.begin(Folder(str(tmp_path)), Identity("shaky", 1, {}))
    return Job("shaky", Shaky, {"log": log}, tasks, draft, unit="documents")


def test_receipts_in_task_order_and_progress_in_units(tmp_path):
    log, seen = [], []
    receipts = SerialExecutor(seen.append).map(make_job(tmp_path, log, Task("b", {}, 5), Task("a", {}, 7)))
    assert [r.key for r in receipts] == log == ["b", "a"]
    assert [(p.done, p.total, p.resumed, p.unit) for p in seen] == [(5, 12, 0, "documents"), (12, 12, 0, "documents")]


def test_finished_tasks_are_resumed_and_no_worker_is_built_for_nothing(tmp_path):
    log, seen = [], []
    SerialExecutor().map(make_job(tmp_path, log, Task("a", {}, 3)))
    SerialExecutor(seen.append).map(make_job(tmp_path, log, Task("a", {}, 3), Task("b", {}, 4)))
    assert log == ["a", "b"] and (seen[-1].done, seen[-1].resumed) == (7, 3)
    broken = Job("shaky", lambda **_: 1 / 0, {}, [Task("a", {}), Task("b", {})], make_job(tmp_path, log).draft)
    assert len(SerialExecutor().map(broken)) == 2


def test_an_exception_is_retried_and_a_wrong_input_is_not(tmp_path):
    log = []
    SerialExecutor(n_attempts=3).map(make_job(tmp_path, log, Task("a", {"raises": 2})))
    assert log == ["a"] * 3
    with pytest.raises(StepError, match="step shaky: task b failed 2 times: OSError: a cable came loose"):
        SerialExecutor(n_attempts=2).map(make_job(tmp_path, log, Task("b", {"raises": 2})))
    with pytest.raises(StepError, match="task c failed: c: truncated") as e:
        SerialExecutor(n_attempts=9).map(make_job(tmp_path, log, Task("c", {"bad": True})))
    assert log.count("c") == 1 and isinstance(e.value.__cause__, InputError)


def test_keys_must_be_unique(tmp_path):
    with pytest.raises(StepError, match="task keys are not unique: a, b"):
        check_keys(make_job(tmp_path, [], *(Task(k, {}) for k in "babac")))


def test_rate_and_time_left_leave_out_what_was_there_before():
    now = Progress("s", "u", done=60, total=100, resumed=40, elapsed_s=10.0)
    assert (now.rate_per_s, now.left_s) == (2.0, 20.0)
    assert Progress("s", "u", 40, 100, 40, 10.0).left_s is None and Progress("s", "u", 0, 0, 0, 0.0).rate_per_s == 0.0
