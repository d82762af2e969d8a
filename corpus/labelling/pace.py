"""When the next request may go out: limits by minute, pauses a server asks for, waiting longer after each failure, and when to stop.

Time only: nothing here changes what is asked or what comes out.
"""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from dataclasses import dataclass, field

from corpus.labelling.ask_params import EndpointParams
from store.errors import ResourceError, StepError

BACKOFF_S, BACKOFF_MOST_S = 0.5, 60.0


@dataclass
class Pace:
    """One endpoint's. Requests and tokens are spread evenly over a minute, so no window of a minute holds more than the limit."""

    params: EndpointParams
    _free_at: float = 0.0
    _paused_until: float = 0.0
    _failed_in_a_row: int = 0
    _random: random.Random = field(default_factory=random.Random)

    async def turn(self, n_tokens: int) -> None:
        """Wait until a request of about so many tokens (in and out) may go out."""
        while True:
            now = time.monotonic()
            start = max(now, self._free_at, self._paused_until)
            self._free_at = start + self._cost_s(n_tokens)
            if start > now:
                await asyncio.sleep(start - now)
            if time.monotonic() >= self._paused_until:
                return
            # A pause began meanwhile: stand in line again, or all that waited would go out together at its end.

    def _cost_s(self, n_tokens: int) -> float:
        params = self.params
        by_requests = 60.0 / params.requests_per_minute if params.requests_per_minute else 0.0
        by_tokens = 60.0 * n_tokens / params.tokens_per_minute if params.tokens_per_minute else 0.0
        return max(by_requests, by_tokens)

    def pause(self, seconds: float) -> None:
        """The server asks everybody to wait; StepError if that is longer than the recipe allows."""
        if seconds > self.params.max_wait_s:
            raise StepError(f"the server asks to wait {seconds:,.0f} s", where=self.params.url,
                            expected=f"at most {self.params.max_wait_s:,.0f} s (max_wait_s)",
                            remedy="run again later: answers so far are kept")  # fmt: skip
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    async def back_off(self, n_failed: int) -> None:
        """Wait after the n-th failure of a request: twice as long each time, with jitter so that requests do not return together."""
        await asyncio.sleep(min(BACKOFF_MOST_S, BACKOFF_S * 2.0 ** (n_failed - 1)) * self._random.uniform(0.5, 1.0))

    def answered(self) -> None:
        """A page got its answer."""
        self._failed_in_a_row = 0

    def gave_up(self, why: str) -> None:
        """A page got none; ResourceError after too many in a row."""
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= self.params.stop_after:
            raise ResourceError(
                f"{self._failed_in_a_row} pages in a row got no answer after {self.params.attempts} attempts each, the last one: {why}",
                where=self.params.url, remedy="see that the server runs, then run again: answers so far are kept",
            )  # fmt: skip


def retry_after_s(value: str | None, now: float | None = None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3): a number or a date; None for what is neither."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - (time.time() if now is None else now)
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if seconds < float("inf") else None
