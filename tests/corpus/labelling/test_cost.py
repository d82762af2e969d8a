"""What labelling will cost, against what was sent; and waiting times."""

import time
from email.utils import formatdate

import pytest

from benchmarks.chat_server import page_text
from corpus.labelling.cost import Purse, estimate_count, estimate_pages
from corpus.labelling.pace import retry_after_s
from store.errors import StepError


def test_the_estimate_is_what_a_healthy_server_is_asked(bench, server):
    params = bench.params(["a", "b"], prompts=["en", "de"], endpoint={"input_price": 2.0, "output_price": 5.0})
    bench.write(30, [page_text(i % 20, "legal") if i else "" for i in range(30)])
    found = estimate_pages(params, bench.pages, bench.work)
    assert (found.requests, found.cached, found.pages) == (20 * 4, 0, 30) and server.asked == []
    bench.ask(params)
    assert len(server.asked) == found.requests
    sent = {m: [a.body["messages"] for a in server.asked if a.body["model"] == m] for m in "ab"}
    for part in found.models:
        n_tokens = sum(-(-sum(len(m["content"]) for m in messages) // 3) + 8 * len(messages) for messages in sent[part.model])
        assert (part.requests, part.tokens_in, part.tokens_out) == (40, n_tokens, 40 * params.max_tokens)
        assert part.cost == pytest.approx((n_tokens * 2 + 40 * params.max_tokens * 5) / 1e6)
    after = estimate_pages(params, bench.pages, bench.work)
    assert (after.requests, after.cost, after.minutes, after.cached) == (0, 0.0, 0.0, (30 - 1) * 4)


def test_a_plan_needs_no_pages(bench):
    params = bench.params(prompts=["en", "de"], endpoint={"requests_per_minute": 100, "input_price": 1.0})
    found = estimate_count(params, 260_000)
    assert found.requests == 520_000 and found.minutes == 5200 and not found.exact
    longest = bench.write(1, ["x" * 9000])
    assert estimate_pages(params, longest.pages, bench.work).models[0].tokens_in * 260_000 == found.models[0].tokens_in
    shorter = estimate_count(params, 260_000, mean_chars=1000)
    assert found.models[0].tokens_in - shorter.models[0].tokens_in == 520_000 * 1000  # 3,000 characters less are 1,000 tokens


@pytest.mark.parametrize(
    ("limits", "minutes"),
    [
        ({}, None),
        ({"requests_per_minute": 10}, 3.0),
        ({"answer_s": 4.0, "concurrency": 2}, 1.0),
        ({"answer_s": 4.0, "concurrency": 2, "requests_per_minute": 10}, 3.0),
    ],
)
def test_minutes_are_those_of_the_tightest_limit(bench, limits, minutes):
    found = estimate_count(bench.params(endpoint=limits), 30)
    assert found.minutes == minutes
    assert ("not known" in found.lines()[0]) == (minutes is None)


def test_tokens_by_the_minute(bench):
    found = estimate_count(bench.params(endpoint={"tokens_per_minute": 1000}), 30)
    assert found.minutes == pytest.approx((found.models[0].tokens_in + 30 * 64) / 1000)


def test_a_purse_is_never_overspent():
    purse = Purse(limit=10.0)
    purse.reserve(6.0, "here")
    with pytest.raises(StepError, match=r"here: the next request could spend more than max_cost"):
        purse.reserve(5.0, "here")
    purse.release(6.0)
    purse.spent = 2.0
    purse.reserve(8.0, "here")
    Purse().reserve(1e9, "without a limit")


def test_what_a_server_asks_to_wait():
    now = time.time()
    assert (
        retry_after_s(None) is None and retry_after_s("soon") is None and retry_after_s("inf") is None and retry_after_s("nan") is None
    )
    assert retry_after_s("0") == 0 and retry_after_s("1.5") == 1.5 and retry_after_s("-3") == 0
    assert retry_after_s(formatdate(now + 90, usegmt=True), now) == pytest.approx(90, abs=1.01)
    assert retry_after_s(formatdate(now - 90, usegmt=True), now) == 0
