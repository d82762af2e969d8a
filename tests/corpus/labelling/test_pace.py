"""When requests go out: evenly, never during a pause, and not all together at its end."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.labelling.ask_params import EndpointParams
from corpus.labelling.pace import Pace
from store.errors import ResourceError, StepError


def pace(**limits):
    return Pace(EndpointParams(url="http://127.0.0.1:1/v1", **limits))


async def times_of(found, n, pause_after_s=None, pause_s=0.0):
    """(when each request went out, when the pause began), in seconds."""
    begin, times, paused = time.monotonic(), [], []

    async def one():
        await found.turn(100)
        times.append(time.monotonic() - begin)

    async def pausing():
        if pause_after_s is not None:
            await asyncio.sleep(pause_after_s)
            paused.append(time.monotonic() - begin)
            found.pause(pause_s)

    await asyncio.gather(pausing(), *(one() for _ in range(n)))
    return sorted(times), paused


@pytest.mark.parametrize("limits", [{"requests_per_minute": 1200}, {"tokens_per_minute": 120_000}])
def test_requests_are_spaced_in_a_line_and_after_a_pause(limits):
    times, (paused,) = asyncio.run(times_of(pace(**limits), 12, pause_after_s=0.12, pause_s=0.4))
    early, late = [t for t in times if t <= paused], [t for t in times if t > paused]
    assert len(late) >= 2 and len(early) + len(late) == 12
    assert all(t >= 0.05 * k - 0.002 for k, t in enumerate(early))
    assert all(t >= paused + 0.4 + 0.05 * k - 0.002 for k, t in enumerate(late))


def test_without_limits_nothing_waits():
    assert asyncio.run(times_of(pace(), 50))[0][-1] < 5.0


def test_a_pause_holds_everybody_without_limits_too():
    found = pace()
    found.pause(0.3)
    found.pause(0.1)  # a shorter one does not cut it short
    assert asyncio.run(times_of(found, 5))[0][0] >= 0.29


def test_a_pause_that_is_too_long():
    with pytest.raises(StepError, match=r"asks to wait 301 s; expected at most 300 s"):
        pace().pause(301)


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 6))
def test_it_gives_up_after_so_many_in_a_row_and_not_before(answers, limit):
    found, row = pace(stop_after=limit), 0
    for answered in answers:
        row = 0 if answered else row + 1
        if answered:
            found.answered()
        elif row < limit:
            found.gave_up("HTTP 500")
        else:
            with pytest.raises(ResourceError, match=rf"{limit} pages in a row .* HTTP 500"):
                found.gave_up("HTTP 500")
            return
