"""Rate limits of callers, and their headers."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable

from limits import parse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.errors import RateLimited

_STATE_KEY = "rate_limit_headers"


class _FixedWindow:
    """Counts by name in windows of a fixed length.

    The windows of all names begin together, so forgetting the past is one new dictionary. (The memory storage of
    `limits` scans all of its keys every 10 ms on a thread of its own, which ten thousand customers would feel.)
    """

    def __init__(self, rate: str) -> None:
        item = parse(rate)
        self.amount = item.amount
        self.length_s = item.get_expiry()
        self.counts: dict[str, int] = {}
        self._number = 0

    def begin(self) -> int:
        """Forget the counts if a new window has begun; return the whole seconds until the next one."""
        now = time.time()
        number = int(now // self.length_s)
        if number != self._number:
            self._number, self.counts = number, {}
        return math.ceil((number + 1) * self.length_s - now)

    def count(self, name: str) -> int:
        """Add one to a name's count in this window and return it."""
        count = self.counts[name] = self.counts.get(name, 0) + 1
        return count


class RateLimits:
    """Requests per caller and process in a fixed window. A shared store would put the network on the hot path."""

    def __init__(self, rate: str) -> None:
        self._window = _FixedWindow(rate)

    def admit(self, scope: Scope, caller: str) -> None:
        """Count one request of `caller`, on the event loop; raises RateLimited when it has no more in this window."""
        window = self._window
        reset_s = window.begin()
        count = window.count(caller)
        scope["state"][_STATE_KEY] = (
            (b"x-ratelimit-limit-requests", b"%d" % window.amount),
            (b"x-ratelimit-remaining-requests", b"%d" % max(0, window.amount - count)),
            (b"x-ratelimit-reset-requests", b"%ds" % reset_s),
        )
        if count > window.amount:
            raise RateLimited(
                reason=f"Rate limit reached: {window.amount} requests per {_window(window.length_s)}. "
                f"Try again in {reset_s} s.",
                retry_after_s=reset_s,
            )


class FailedLogins:
    """Wrong keys per address and process in a fixed window."""

    def __init__(self, rate: str) -> None:
        self._window = _FixedWindow(rate)

    def count(self, address: str) -> None:
        """Count one wrong key."""
        self._window.begin()
        self._window.count(address)

    def check(self, address: str) -> None:
        """Raise RateLimited if the address has sent too many in this window."""
        reset_s = self._window.begin()
        if self._window.counts.get(address, 0) >= self._window.amount:
            raise RateLimited(
                reason=f"Too many wrong keys came from this address. Try again in {reset_s} s.", retry_after_s=reset_s
            )


class TooManyStreams(RateLimited):
    """A key or a customer follows as many jobs as it may: 429."""

    message = (
        "{whose} has {count} open event streams, as many as one may have. Close some, or follow jobs by "
        "GET /v1/fine_tuning/jobs, which lists all of them in one answer."
    )


class OpenStreams:
    """Event streams per key, customer and process: each one holds a connection and memory for as long as it likes."""

    def __init__(self, *, per_customer: int, per_key: int) -> None:
        self._per_customer = per_customer
        self._per_key = per_key
        self._counts: Counter[str] = Counter()

    def open(self, customer_id: str, key_id: str) -> Callable[[], None]:
        """Count a stream, on the event loop; return what is to be called at its end. Raises TooManyStreams."""
        for name, most, whose in (
            (key_id, self._per_key, "This key"),
            (customer_id, self._per_customer, "Your account"),
        ):
            if self._counts[name] >= most:
                raise TooManyStreams(whose=whose, count=most, retry_after_s=10.0)
        self._counts.update((key_id, customer_id))

        def close() -> None:
            self._counts.subtract((key_id, customer_id))
            self._counts += Counter()  # forgets those that are at zero

        return close


class RateLimitHeaders:
    """ASGI: adds the headers of `RateLimits.admit` to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to one answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})

        async def mark(message: Message) -> None:
            if message["type"] == "http.response.start" and _STATE_KEY in scope["state"]:
                message["headers"] = [*message.get("headers", ()), *scope["state"][_STATE_KEY]]
            await send(message)

        await self.app(scope, receive, mark)


def _window(seconds: int) -> str:
    return {1: "second", 60: "minute", 3600: "hour", 86400: "day"}.get(seconds, f"{seconds} s")
