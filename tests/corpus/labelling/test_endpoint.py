"""Requests over HTTP: every fault has its outcome, limits hold, keys and pages stay where they belong."""

import json
import logging
import traceback
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.chat_server import LABELS, MARK, Action, Server, completion
from corpus.labelling.pace import Pace
from store.errors import DefinemedError, ResourceError, StepError

KEY = "sk-Kw7dZJ1yq0pXv3"
ONCE = {
    "429 with Retry-After": Action(429, {"error": {"code": "rate_limit"}}, {"retry-after": "0"}),
    "429 without": Action(429, {}),
    "500": Action(500, b"<html>oops</html>"),
    "503": Action(503, b""),
    "slow": Action(delay_s=2.5),
    "cut before the status": Action(cut=-1),
    "cut in the middle": Action(cut=9),
    "no JSON": Action(body=b"{'choices': ["),
    "JSON that is no completion": Action(body={"choices": []}),
    "a list": Action(body=[1, 2]),
    "deep JSON": Action(body=b"[" * 100_000),
}


def folder_bytes(root):
    return b"\n".join(p.read_bytes() for p in sorted(Path(root).rglob("*")) if p.is_file() and p.name != "pages.parquet")


@pytest.mark.parametrize("fault", ONCE)
def test_a_fault_that_passes_changes_nothing(bench, server, fault):
    healthy = bench.ask(bench.params(), work=bench.work / "other")
    n = len(server.asked)
    server.script = lambda asked: ONCE[fault] if asked.page % 5 == 0 and asked.nth == 2 else None  # the first was the healthy one
    slow = fault == "slow"  # a busy machine may be slow more often
    found = bench.ask(bench.params(endpoint={"timeout_s": 1.0 if slow else 60, "attempts": 8}))
    n_sent = len(server.asked) - n
    expected = 29 + (fault == "500")  # the first one may be the schema's fault: asked once without it
    assert n == 24 and (n_sent >= expected if slow else n_sent == expected)
    assert found.manifest == healthy.manifest
    assert pq.read_table(found.path("labels.parquet"))["label"].to_pylist() == bench.truth
    sent = found.provenance()["requests_sent"]
    assert sent >= n_sent if slow else sent == n_sent  # one that was given up before the server read it was sent too


def test_a_pause_the_server_asks_for_is_kept_by_everybody(bench, server):
    server.script = lambda asked: Action(429, {}, {"retry-after": "2"}) if asked.page == 8 and asked.nth == 1 else None
    bench.ask(bench.params(endpoint={"concurrency": 4}))
    refused = next(a.time_s for a in server.asked if a.page == 8)
    after = [a.time_s - refused for a in server.asked if a.time_s > refused]
    assert sum(t < 1.95 for t in after) <= 3  # what was under way may still arrive
    assert sum(t >= 1.95 for t in after) > 8


def test_a_pause_longer_than_allowed_ends_the_run(bench, server):
    server.script = lambda _: Action(503, {}, {"retry-after": "3600"})
    with pytest.raises(StepError, match=r"asks to wait 3,600 s.*max_wait_s"):
        bench.ask(bench.params())


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 413, 422])
def test_what_would_be_the_same_again_ends_the_run_at_once(bench, server, status):
    server.script = lambda asked: Action(status, {"error": {"type": "bad_thing", "message": asked.body["messages"][-1]["content"]}})
    with pytest.raises(ResourceError) as error:
        bench.ask(bench.params(structured="text", endpoint={"concurrency": 3}))
    assert len(server.asked) <= 3
    words = str(error.value)
    assert f"HTTP {status} (bad_thing)" in words and server.url in words and MARK not in words


def test_answers_under_way_are_kept_when_the_run_ends(bench, server):
    server.script = lambda asked: Action(400, {}) if asked.page == 7 else Action(delay_s=0.3)
    with pytest.raises(ResourceError):
        bench.ask(bench.params(structured="text", endpoint={"concurrency": 8}))
    server.script = lambda _: None
    bench.ask(bench.params(structured="text"))
    assert sorted(a.page for a in server.asked) == sorted([*range(24), 7])


def test_redirects_are_not_followed(bench, server):
    other = Server()
    server.script = lambda _: Action(307, {}, {"location": f"{other.url}/chat/completions"})
    with pytest.raises(ResourceError, match=r"HTTP 307.*redirects are not followed"):
        bench.ask(bench.params())
    assert other.asked == []
    other.close()


def test_proxies_of_the_environment_are_not_used(bench, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert bench.ask(bench.params()).manifest.counts["labelled"] == 24


@pytest.mark.parametrize("status", [401, 500])
def test_a_key_reaches_the_server_and_nothing_else(bench, server, monkeypatch, caplog, status):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("LABEL_KEY", f" {KEY}\n")
    echo = {"error": {"message": f"Incorrect API key provided: {KEY}", "code": f"x{KEY}", "type": KEY}}
    server.script = lambda asked: Action(status, echo | {"seen": asked.headers}) if asked.page % 2 else None
    with pytest.raises(DefinemedError) as error:
        bench.ask(bench.params(endpoint={"api_key_env": "LABEL_KEY", "attempts": 2}))
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    told = "".join(traceback.format_exception(error.value)) + repr(error.value) + caplog.text
    assert KEY not in told and KEY.encode() not in folder_bytes(bench.root)
    assert MARK not in told and MARK.encode() not in folder_bytes(bench.root)
    assert len(told) > 200


def test_a_missing_key_is_said_before_anything_is_sent(bench, server, monkeypatch):
    monkeypatch.delenv("LABEL_KEY", raising=False)
    with pytest.raises(ResourceError, match="LABEL_KEY is not set"):
        bench.ask(bench.params(endpoint={"api_key_env": "LABEL_KEY"}))
    assert server.asked == []


def test_no_key_is_needed_where_nothing_is_asked(bench, server, monkeypatch):
    monkeypatch.setenv("LABEL_KEY", KEY)
    params = bench.params(endpoint={"api_key_env": "LABEL_KEY"})
    first = bench.ask(params)
    monkeypatch.delenv("LABEL_KEY")
    assert bench.ask(params).manifest == first.manifest and len(server.asked) == 24


def test_a_dead_server_stops_the_run(bench, server):
    server.script = lambda asked: Action(500, {}) if asked.page >= 10 else None
    with pytest.raises(ResourceError, match=r"3 pages in a row got no answer after 2 attempts each, the last one: HTTP 500"):
        bench.ask(bench.params(endpoint={"stop_after": 3, "attempts": 2, "concurrency": 1}))
    assert len(server.asked) == 10 + 3 * 2
    server.script = lambda _: None
    bench.ask(bench.params())
    assert len(server.asked) == 10 + 3 * 2 + 14


def test_a_server_that_is_not_there_is_named(bench, server, monkeypatch):
    """After four attempts, three waits between them; eight for each of ten pages would take minutes."""
    waits = []

    async def back_off(_, n_failed):
        waits.append(n_failed)

    monkeypatch.setattr(Pace, "back_off", back_off)
    server.close()
    with pytest.raises(ResourceError, match=r"127\.0\.0\.1.*nobody answers there: no connection .*Start it and wait"):
        bench.ask(bench.params(endpoint={"attempts": 8, "concurrency": 1}))
    assert waits == [1, 2, 3]


def test_a_server_that_goes_away_is_waited_for(bench, server):
    """Once reached, a refused connection is a fault like any other: the server may be starting anew."""

    def script(asked):
        if asked.page < 3:
            return None
        server.http.server_close()
        return Action(cut=-1)

    server.script = script
    with pytest.raises(ResourceError, match=r"pages in a row got no answer after 2 attempts each.*answers so far are kept"):
        bench.ask(bench.params(endpoint={"attempts": 2, "concurrency": 1, "stop_after": 2}))


def test_a_page_without_an_answer_fails_the_step_or_is_left_out(bench, server):
    server.script = lambda asked: Action(500, {}) if asked.page == 5 else None
    with pytest.raises(StepError, match=r"1 requests got no answer, the last one: HTTP 500"):
        bench.ask(bench.params(endpoint={"attempts": 2}))
    assert len(server.asked) == 25  # all others were asked first
    found = bench.ask(bench.params(endpoint={"attempts": 2}, unanswered="leave_out"))
    assert pq.read_table(found.path("unlabelled.parquet")).to_pylist() == [{"id": "p5", "reason": "no_answer"}]
    assert found.manifest.counts == {"read": 24, "labelled": 23, "unlabelled/no_answer": 1}


def test_a_schema_is_asked_for_where_the_server_takes_it(bench, server):
    bench.ask(bench.params(endpoint={"concurrency": 6}))
    schemas = [a.body["response_format"]["json_schema"]["schema"] for a in server.asked]
    assert len(schemas) == 24 and all(s["properties"]["label"]["enum"] == list(LABELS) for s in schemas)


def test_a_server_without_schemas_is_asked_for_text_after_one_trial(bench, server):
    server.script = lambda asked: Action(400, {}) if "response_format" in asked.body else None
    found = bench.ask(bench.params(endpoint={"concurrency": 6}))
    assert ["response_format" in a.body for a in server.asked] == [True] + [False] * 24
    assert found.manifest.counts["labelled"] == 24


def test_a_server_that_falls_over_a_schema_is_asked_for_text(bench, server):
    """llama-cpp-python answers 500 where others answer 400; a 500 that passes changes nothing."""
    server.script = lambda asked: Action(500, {}) if "response_format" in asked.body else None
    found = bench.ask(bench.params(endpoint={"concurrency": 6}))
    assert ["response_format" in a.body for a in server.asked] == [True, False, True] + [False] * 23
    assert found.manifest.counts["labelled"] == 24


def test_a_server_that_falls_over_once_is_asked_for_a_schema(bench, server):
    server.script = lambda _: Action(500, {}) if len(server.asked) == 1 else None
    bench.ask(bench.params(endpoint={"concurrency": 6}))
    assert ["response_format" in a.body for a in server.asked] == [True, False] + [True] * 24


def test_a_server_that_fails_once_and_then_refuses_a_schema_is_asked_for_text(bench, server):
    """A 500 before the schema's 400, as of a server that has just started, does not end the run."""

    def script(asked):
        if len(server.asked) == 1:
            return Action(500, {})
        return Action(400, {}) if "response_format" in asked.body else None

    server.script = script
    found = bench.ask(bench.params(endpoint={"concurrency": 6}))
    assert ["response_format" in a.body for a in server.asked] == [True, False, True] + [False] * 23
    assert found.manifest.counts["labelled"] == 24


@pytest.mark.parametrize(("structured", "sent"), [("schema", True), ("text", False)])
def test_a_schema_can_be_demanded_or_not_asked_for(bench, server, structured, sent):
    bench.ask(bench.params(structured=structured))
    assert {"response_format" in a.body for a in server.asked} == {sent}
    server.script = lambda _: Action(400, {})
    with pytest.raises(ResourceError, match="HTTP 400"):
        bench.ask(bench.params(structured=structured, temperature=0.5))


def test_no_more_requests_at_a_time_than_allowed(bench, server):
    server.script = lambda _: Action(delay_s=0.05)
    bench.ask(bench.params(structured="text", endpoint={"concurrency": 3}))
    assert 2 <= server.most <= 3


@pytest.mark.parametrize("limit", [{"requests_per_minute": 1200}, {"tokens_per_minute": 1200 * 442}])
def test_limits_by_the_minute_space_requests_evenly(bench, server, limit):
    """24 requests, 20 a second; a request here is of about 442 tokens by the rule, answer included."""
    bench.ask(bench.params(structured="text", endpoint={"concurrency": 8, **limit}))
    times = sorted(a.time_s for a in server.asked)
    assert times[-1] - times[0] > 0.9 * 23 / 20


def test_spending_stops_at_the_limit(bench, server):
    server.script = lambda _: Action(body=completion("?", usage=(10**6, 0)))  # the server counts far more than the estimate
    priced = {"input_price": 1.0, "concurrency": 1}
    with pytest.raises(StepError, match=r"could spend more than max_cost; 1\.0000 are spent"):
        bench.ask(bench.params(endpoint=priced, max_cost=1.0))
    assert len(server.asked) == 1


def test_an_estimate_above_the_limit_sends_nothing(bench, server):
    with pytest.raises(StepError, match=r"labelling would cost about .*Nothing was sent"):
        bench.ask(bench.params(endpoint={"input_price": 1000.0}, max_cost=1.0))
    assert server.asked == []


def test_sampling_and_extra_fields_are_sent(bench, server):
    model = {"name": "org/m", "endpoint": {"url": server.url}, "extra": {"chat_template_kwargs": {"enable_thinking": False}}}
    params = bench.params().model_copy(update={"seed": 7, "temperature": 0.25, "max_tokens": 11})
    params = type(params).model_validate(params.model_dump() | {"models": [model]})
    bench.ask(params)
    body = server.asked[0].body
    assert {k: body[k] for k in ("model", "seed", "temperature", "max_tokens", "chat_template_kwargs")} == {
        "model": "org/m", "seed": 7, "temperature": 0.25, "max_tokens": 11, "chat_template_kwargs": {"enable_thinking": False},
    }  # fmt: skip
    assert json.dumps(body) and server.asked[0].path == "/v1/chat/completions"


def test_an_error_of_one_model_ends_the_others_and_loses_none_of_their_answers(bench, server):
    def script(asked):
        if asked.body["model"] == "b":
            return Action(400, {}) if asked.page == 3 else None
        return Action(delay_s=0.3)

    server.script = script
    with pytest.raises(ResourceError, match="HTTP 400"):
        bench.ask(bench.params(["a", "b"], structured="text", endpoint={"concurrency": 2}))
    n_before = sum(a.body["model"] == "a" for a in server.asked)
    assert n_before < 24
    server.script = lambda _: None
    bench.ask(bench.params(["a", "b"], structured="text"))
    assert sorted(a.page for a in server.asked if a.body["model"] == "a") == list(range(24))


NO_LIST = {
    "no such route": Action(404, {}),
    "an error": Action(500, b"oops"),
    "refused": Action(401, {}),
    "a redirect": Action(307, {}, {"location": "http://127.0.0.1:9/v1/models"}),
    "no JSON": Action(body=b"<html>"),
    "another form": Action(body={"data": ["m"], "models": 3}),
    "an empty list": Action(body={"object": "list", "data": []}),
    "cut": Action(cut=-1),
}


def models(*names, **more):
    return Action(body={"object": "list", "data": [{"id": n, "object": "model", **more} for n in names]})


@pytest.mark.parametrize("answer", [models("m"), models("other", "m"), models("m:latest"), models("f.gguf", aliases=["m"])])
def test_a_listed_model_is_asked(bench, server, answer):
    server.models = answer
    found = bench.ask(bench.params())
    assert found.manifest.counts["labelled"] == 24 and len(server.looked) == 1
    assert found.provenance()["requests_sent"] == len(server.asked) == 24
    assert bench.ask(bench.params()).manifest == found.manifest and len(server.looked) == 1  # all is known: nothing is sent at all


def test_a_model_that_is_not_listed_ends_the_run_before_a_page_is_sent(bench, server):
    server.models = models("Qwen/Qwen2.5-7B-Instruct", "mm")
    with pytest.raises(ResourceError, match=r"lists no model 'm'.*Qwen/Qwen2\.5-7B-Instruct, mm.*check_model"):
        bench.ask(bench.params())
    assert server.asked == [] and len(server.looked) == 1
    assert bench.ask(bench.params(endpoint={"check_model": False})).manifest.counts["labelled"] == 24
    assert len(server.looked) == 1


@pytest.mark.parametrize("answer", NO_LIST)
def test_a_server_without_a_list_is_asked_all_the_same(bench, server, answer):
    server.models = NO_LIST[answer]
    assert bench.ask(bench.params()).manifest.counts["labelled"] == 24
    assert len(server.looked) == 1


def test_a_folder_is_not_looked_for_in_a_list(bench, server, tmp_path):
    """transformers serve lists the hub's cache, not the folder it serves."""
    server.models = models("org/cached")
    assert bench.ask(bench.params([str(tmp_path)])).manifest.counts["labelled"] == 24


def test_a_list_is_asked_for_with_the_key_and_shows_it_to_nobody(bench, server, monkeypatch):
    monkeypatch.setenv("LABEL_KEY", KEY)
    server.models = models("there", KEY, f"model-{KEY}", "<b>")
    with pytest.raises(ResourceError, match="expected one of there") as error:
        bench.ask(bench.params(endpoint={"api_key_env": "LABEL_KEY"}))
    assert server.looked[0]["authorization"] == f"Bearer {KEY}" and KEY not in str(error.value)


def test_each_model_is_looked_for(bench, server):
    server.models = models("a")
    with pytest.raises(ResourceError, match="lists no model 'b'"):
        bench.ask(bench.params(["a", "b"]))
