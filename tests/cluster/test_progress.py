"""What a person reads while a step runs."""

import io
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cluster.progress import ProgressDisplay, detail, duration, kept_share, line, rate
from store.executor import Progress


def moment(done=50, total=200, elapsed_s=10.0, resumed=0, step="documents", **counts):
    return Progress(step, "documents", done, total, resumed, elapsed_s, counts)


def test_a_line_says_what_where_how_fast_and_how_long():
    now = moment(done=5_000, total=20_000, elapsed_s=50.0, resumed=1000, read=4000, kept=1000)
    assert (
        line(now)
        == "documents: 5,000 of 20,000 documents (25%), 80 documents/s, 3 min 08 s left, 25.0% kept, 1,000 from an earlier run"
    )
    assert line(moment(done=0, elapsed_s=0.0)) == "documents: 0 of 200 documents (0%)"
    assert line(moment(done=0, total=0, elapsed_s=0.0)).startswith("documents: 0 of 0 documents")
    assert detail(moment(done=200, elapsed_s=100.0)) == "2.0 documents/s, 1 min 40 s"


def test_phases_of_a_step_have_a_line_each():
    phases = [("grouping", 9, 9, 1.0), ("rows", 2, 4, 1.0), ("rows", 4, 4, 2.0)]
    text = shown([Progress("dedup", "documents", done, total, 0, s, phase=phase) for phase, done, total, s in phases], terminal=False)
    assert [one.strip().split(":")[0] for one in text.strip().splitlines()] == ["dedup, grouping", "dedup, rows"]
    assert "9 of 9 documents" in text and "4 of 4 documents (100%), 2.0 documents/s" in text


def test_kept_share_only_where_a_step_counts_it():
    assert kept_share(moment()) is None and kept_share(moment(read=5)) is None
    assert kept_share(moment(read=4, kept=1)) == 0.25 and kept_share(moment(read=4, kept=0)) == 0.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (3599.7, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_rates():
    assert [rate(x, "u") for x in (1234.5, 10, 2.54, 0.5, 1 / 300)] == ["1,234 u/s", "10 u/s", "2.5 u/s", "30 u/min", "12 u/h"]


def shown(moments, terminal, **options):
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=160, soft_wrap=True, highlight=False)
    with ProgressDisplay(console, **options) as display:
        for now in moments:
            display(now)
    return text.getvalue()


def test_a_log_has_a_line_now_and_then_and_always_the_last():
    moments = [moment(done=n, elapsed_s=n / 10) for n in range(0, 201)]
    assert shown(moments, terminal=False, log_every_s=3600).splitlines() == [f"     {line(moments[-1])}"]
    assert len(shown(moments, terminal=False, log_every_s=0.0).splitlines()) == 200
    two = [moment(200), moment(50, step="[select]"), moment(200, step="[select]")]
    assert [text.split(":")[0].strip() for text in shown(two, terminal=False).splitlines()] == ["documents", "[select]"]


def test_a_terminal_has_a_live_line_that_leaves_nothing_behind():
    text = shown([moment(10), moment(20), moment(100, step="next"), moment(200)], terminal=True)
    assert "20/200" in text or "100/200" in text
    assert shown([], terminal=True).count("documents") == 0


def test_it_can_be_opened_again_and_watches_without_being_opened(capsys):
    display = ProgressDisplay(Console(file=io.StringIO(), force_terminal=True))
    for _ in range(2):
        with display:
            display(moment(10))
        display(moment(200))


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**13))
def test_any_moment_has_a_line(a, b, c, elapsed_us):
    resumed, done, total = sorted((a, b, c))
    text = line(Progress("s", "u", done, total, resumed, elapsed_us / 1e6))
    assert text.startswith("s: ") and "\n" not in text and not any(f"{x}" in text for x in ("nan", "inf", "-"))
    assert all(len(list(g)) == 1 or k != "," for k, g in itertools.groupby(text))
