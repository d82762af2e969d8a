"""The graph: identities before anything runs, what has to run, and journals of steps that fail."""

import pytest

from cluster.graph import Graph, Node
from cluster.inputs import Inputs
from cluster.lock import only_run
from cluster.pipeline import Plan, execute, plan_run
from cluster.recipe import load_recipe
from store.artifact import Artifact
from store.errors import RecipeError, ResourceError, StepError
from store.fs import Folder
from store.run import RunRecord


def node(name, inputs=(), params=None, fail=False, log=None):
    def run(context, draft, artifacts):
        if log is not None:
            log.append(name)
        if fail:
            raise StepError("it broke", where=name)
        entry = draft.folder.write_bytes("data", name.encode())
        return draft.commit(files=[entry], summary={"inputs": sorted(artifacts)})

    return Node(name, name, 1, {i: i for i in inputs}, lambda: params or {}, run)


def plan_of(nodes, out):
    return Plan(load_recipe("demo"), Folder(str(out)), Inputs(Folder(str(out))), Graph(nodes))


def run(nodes, out, until=None):
    from contextlib import nullcontext

    said = []
    plan = plan_of(nodes, out)
    record = execute(plan, lambda: nullcontext(object()), {}, lambda n, what: said.append((n.name, what)), until)
    return plan, record, said


def test_an_input_nobody_makes_is_refused():
    with pytest.raises(RecipeError, match="b needs a"):
        Graph([node("b", ["a"])])


def test_identity_follows_from_parameters_and_inputs_alone():
    first = Graph([node("a"), node("b", ["a"])])
    same = Graph([node("a"), node("b", ["a"])])
    other = Graph([node("a", params={"x": 1}), node("b", ["a"])])
    assert first.identity("b").fingerprint == same.identity("b").fingerprint
    assert first.identity("b").fingerprint != other.identity("b").fingerprint


def test_steps_run_once_and_a_removed_intermediate_is_not_made_again(tmp_path):
    log = []
    nodes = [node("a", log=log), node("b", ["a"], log=log), node("c", ["b"], log=log), node("d", ["a"], log=log)]
    plan, record, _ = run(nodes, tmp_path)
    assert log == ["a", "b", "c", "d"] and record.status == "finished" and len(record.steps) == 4
    plan.graph.folder(plan.root, "b").remove("")
    _, record, said = run(nodes, tmp_path)
    assert log == ["a", "b", "c", "d"] and ("b", "removed") in said and len(record.steps) == 3
    plan.graph.folder(plan.root, "c").remove("")
    run(nodes, tmp_path)
    assert log == ["a", "b", "c", "d", "b", "c"]


def test_a_failed_step_is_recorded_and_the_next_run_goes_on_there(tmp_path):
    log = []
    with pytest.raises(StepError):
        run([node("a", log=log), node("b", ["a"], fail=True, log=log)], tmp_path)
    plan = plan_of([node("a"), node("b", ["a"])], tmp_path)
    record = RunRecord.read(plan.run_folder)
    assert record.status == "failed" and "it broke" in record.error and [s.name for s in record.steps] == ["a"]
    _, record, said = run([node("a", log=log), node("b", ["a"], log=log)], tmp_path)
    assert log == ["a", "b", "b"] and record.status == "finished" and record.error is None
    assert said == [("a", "cached"), ("b", "start"), ("b", "done")]


def test_until_stops_and_says_what_there_is(tmp_path):
    nodes = [node("a"), node("b", ["a"])]
    plan, record, _ = run(nodes, tmp_path, until="a")
    assert [s.name for s in record.steps] == ["a"]
    assert isinstance(Artifact.open(plan.graph.folder(plan.root, "a")), Artifact)
    with pytest.raises(Exception, match="there is no step c"):
        run(nodes, tmp_path, until="c")


def test_a_relative_output_folder_is_made_absolute_because_workers_have_other_current_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plan_run(load_recipe("demo"), Folder("out")).out.url == str(tmp_path / "out")
    assert plan_run(load_recipe("demo"), Folder("memory://out")).out.url == "memory://out"


def test_two_runs_in_one_output_folder_are_kept_apart(tmp_path):
    with only_run(Folder(str(tmp_path))), pytest.raises(ResourceError, match="another run is using"):
        run([node("a")], tmp_path)
    assert not (tmp_path / "runs").exists(), "the other run's record was touched"
    _, record, _ = run([node("a")], tmp_path)
    assert record.status == "finished"
