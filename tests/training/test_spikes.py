"""The spike rule against a plain computation, and in a run with planted bad rows, interrupted and not."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from store.errors import ArtifactError, StepError
from store.fs import Folder
from store.tokens import TokenStore
from training.log import METRICS, read_lines
from training.loop import train
from training.params import ModelInit, TrainParams
from training.spikes import SpikeParams, SpikeRule

ROWS = np.arange(4)


def verdicts(rule, losses, norms):
    return [rule.accepts(i + 1, a, b, ROWS) for i, (a, b) in enumerate(zip(losses, norms, strict=True))]


def series(seed, n=400, share=0.03):
    rng = np.random.default_rng(seed)
    loss, norm = 2 + 0.1 * rng.standard_normal(n), np.exp(0.2 * rng.standard_normal(n))
    loss[rng.random(n) < share] += 3
    norm[rng.random(n) < share] *= 30
    return loss.tolist(), norm.tolist()


def test_the_rule_is_median_and_mad_over_the_window():
    params = SpikeParams(sigmas=6, window=50, min_steps=20, max_in_a_row=1000)
    losses, norms = series(1)
    rule, got = SpikeRule(params), []
    for i in range(len(losses)):
        high = False
        for name, values in (("loss", losses), ("grad_norm", norms)):
            seen = np.array(values[max(0, i - 50) : i])
            if len(seen) >= 20:
                sigma = 1.4826 * np.median(np.abs(seen - np.median(seen)))
                limit = np.median(seen) + 6 * max(sigma, 1e-3 * abs(np.median(seen)))
                assert rule.limit(name) == pytest.approx(limit, rel=1e-12), i
                high |= values[i] > limit
        got.append(rule.accepts(i + 1, losses[i], norms[i], ROWS))
        assert got[-1] == (not high), i
    assert 5 < got.count(False) < 40


def test_spikes_are_found_and_noise_is_left_alone():
    rng = np.random.default_rng(3)
    calm = (2 + 0.1 * rng.standard_normal(5000)).tolist()
    assert verdicts(SpikeRule(SpikeParams()), calm, calm).count(False) <= 1
    planted = [v + (2 if i in (100, 101, 300) else 0) for i, v in enumerate(calm[:400])]
    got = verdicts(SpikeRule(SpikeParams()), planted, calm[:400])
    assert [i for i, ok in enumerate(got) if not ok] == [100, 101, 300]


def test_before_min_steps_nothing_is_judged_and_equal_values_make_no_spike():
    rule = SpikeRule(SpikeParams(window=16, min_steps=8))
    assert all(verdicts(rule, [1.0] * 7 + [50.0], [1.0] * 8))
    rule = SpikeRule(SpikeParams(window=16, min_steps=8))
    assert all(verdicts(rule, [1.0] * 30 + [1.005], [1.0] * 31))


def test_a_run_of_spikes_stops_with_an_error():
    rule = SpikeRule(SpikeParams(window=64, min_steps=32, max_in_a_row=3))
    rng = np.random.default_rng(0)
    verdicts(rule, (2 + 0.1 * rng.standard_normal(40)).tolist(), [1.0] * 40)
    assert [rule.accepts(s, 9.0, 1.0, ROWS) for s in (41, 42)] == [False, False]
    with pytest.raises(StepError, match="3 spikes in a row up to step 43"):
        rule.accepts(43, 9.0, 1.0, ROWS)
    rule.in_a_row = 2
    assert rule.accepts(44, 2.0, 1.0, ROWS) and rule.in_a_row == 0


def test_not_a_number_is_above_every_limit():
    assert SpikeRule(SpikeParams()).judge(math.nan, 1.0).reason == "loss"
    assert SpikeRule(SpikeParams()).judge(1.0, math.nan).reason == "grad_norm"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 399))
def test_a_restored_rule_decides_as_the_one_that_went_on(seed, at):
    params = SpikeParams(window=30, min_steps=10, max_in_a_row=1000)
    losses, norms = series(seed, share=0.1)
    whole = SpikeRule(params)
    expected = verdicts(whole, losses, norms)
    lines = [{"step": i + 1, "loss": a, "grad_norm": b, **({} if ok else {"skipped": True})}
             for i, (a, b, ok) in enumerate(zip(losses, norms, expected, strict=True))]  # fmt: skip
    again = SpikeRule(params)
    again.restore([json.loads(json.dumps(line)) for line in lines], at)
    assert verdicts(again, losses[at:], norms[at:]) == expected[at:]
    assert again.in_a_row == whole.in_a_row


def test_spikes_before_a_stop_still_count_after_it():
    rule, calm = SpikeRule(SpikeParams(window=16, min_steps=8, max_in_a_row=3)), [1.0, 1.1] * 8
    lines = [{"step": i + 1, "loss": a, "grad_norm": 1.0} for i, a in enumerate(calm)]
    lines += [{"step": s, "loss": 9.0, "grad_norm": 1.0, "skipped": True} for s in (17, 18)]
    rule.restore(lines, 18)
    assert rule.in_a_row == 2
    with pytest.raises(StepError, match="3 spikes in a row up to step 19"):
        rule.accepts(19, 9.0, 1.0, ROWS)
    rule.restore(lines[:16], 16)
    assert rule.in_a_row == 0


def test_missing_lines_are_an_error():
    rule = SpikeRule(SpikeParams(window=8, min_steps=4))
    lines = [{"step": s, "loss": 1.0, "grad_norm": 1.0} for s in range(1, 20)]
    rule.restore(lines, 19)
    with pytest.raises(ArtifactError, match="lacks steps"):
        rule.restore(lines[:-1], 19)
    with pytest.raises(ArtifactError):
        rule.restore(lines[:14] + lines[15:], 19)
    rule.restore([], 0)


def test_min_steps_fit_the_window():
    with pytest.raises(ValidationError, match="exceeds the window"):
        SpikeParams(window=16, min_steps=17)


@pytest.fixture(scope="module")
def planted(tmp_path_factory, make_tokens, make_plan):
    """Rows of a language of eight words, and five rows of noise that nothing prepares for; one document a row."""
    rng, root = np.random.default_rng(5), Folder(str(tmp_path_factory.mktemp("planted")))
    docs = [np.array([*rng.integers(3, 11, 63), 0]) for _ in range(90)]
    noise = {20, 33, 50, 71, 88}
    docs = [rng.integers(1, 512, 64) if i in noise else d for i, d in enumerate(docs)]
    store = TokenStore.open(make_tokens(root, "planted", docs))
    plan = make_plan([store])
    assert plan.n_rows == 90
    return store, plan, noise


def test_planted_rows_are_skipped_and_a_resumed_run_is_the_same(planted, tmp_path):
    store, plan, noise = planted
    params = TrainParams(learning_rate=2e-3, rows_per_step=1, micro_batch_rows=1, epochs=2, precision="fp32", save_every_steps=None,
                         spikes=SpikeParams(window=24, min_steps=12), cpu_threads=1, seed=4)  # fmt: skip
    init = ModelInit(hidden_size=32, n_layers=1, n_heads=2, intermediate_size=64)

    def run(name, stops):
        for stop_at in [*stops, None]:
            n = iter(range(1000))
            asked = None if stop_at is None else (lambda n=n, s=stop_at: next(n) >= s)
            got = train(params, init, plan, [store], str(tmp_path / name), str(tmp_path / f"{name}-state"), should_stop=asked)
        return got, read_lines(str(tmp_path / name / METRICS))

    got, lines = run("whole", [])
    bad = {line["step"] for line in lines if set(np.asarray(_rows(plan, params, line["step"]))) & _rows_of(plan, noise)}
    skipped = {line["step"]: line for line in lines if line.get("skipped")}
    assert set(skipped) <= bad and got["n_skipped"] == len(skipped)
    assert {s for s in skipped if s > 90} == {s for s in bad if s > 90} and len(bad) == 10  # in the second epoch the words are learnt
    for step, line in skipped.items():
        assert line["reason"] in ("loss", "grad_norm") and line["limit"] < line[line["reason"]]
        assert line["rows"] == _rows(plan, params, step)
    first = min(skipped)
    again, cut = run("cut", [first, 9, 20])  # stopped right after a spike, and twice more
    assert cut == lines and again == got
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "whole/model" / name).read_bytes() == (tmp_path / "cut/model" / name).read_bytes()


def _rows(plan, params, step):
    from training.order import RowOrder

    order = RowOrder.plan(plan.n_rows, params.rows_per_step, epochs=params.epochs, max_steps=None, seed=params.seed)
    return order.rows(step - 1).tolist()


def _rows_of(plan, docs):
    return {r for r in range(plan.n_rows) if {d for _, d, _, _ in plan.row(r)} & docs}
