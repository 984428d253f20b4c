"""Rate limits of callers, and their headers."""

from __future__ import annotations

import math
import time

from limits import parse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.errors import RateLimited

_STATE_KEY = "rate_limit_headers"


class RateLimits:
    """Requests per caller and process in a fixed window. A shared store would put the network on the hot path.

    The windows of all callers begin together, so forgetting the past is one new dictionary. (The memory storage of
    `limits` scans all of its keys every 10 ms on a thread of its own, which ten thousand customers would feel.)
    """

    def __init__(self, rate: str) -> None:
        item = parse(rate)
        self._amount = item.amount
        self._window_s = item.get_expiry()
        self._window = 0
        self._counts: dict[str, int] = {}

    def admit(self, scope: Scope, caller: str) -> None:
        """Count one request of `caller`, on the event loop; raises RateLimited when it has no more in this window."""
        now = time.time()
        window = int(now // self._window_s)
        if window != self._window:
            self._window, self._counts = window, {}
        count = self._counts.get(caller, 0) + 1
        reset_s = math.ceil((window + 1) * self._window_s - now)
        self._counts[caller] = count
        scope["state"][_STATE_KEY] = (
            (b"x-ratelimit-limit-requests", b"%d" % self._amount),
            (b"x-ratelimit-remaining-requests", b"%d" % max(0, self._amount - count)),
            (b"x-ratelimit-reset-requests", b"%ds" % reset_s),
        )
        if count > self._amount:
            raise RateLimited(
                reason=f"Rate limit reached: {self._amount} requests per {_window(self._window_s)}. "
                f"Try again in {reset_s} s.",
                retry_after_s=reset_s,
            )


class FailedLogins:
    """Wrong keys per address and process in a fixed window."""

    def __init__(self, rate: str) -> None:
        item = parse(rate)
        self._amount = item.amount
        self._window_s = item.get_expiry()
        self._window = 0
        self._counts: dict[str, int] = {}

    def count(self, address: str) -> None:
        """Count one wrong key."""
        self._begin_window()
        self._counts[address] = self._counts.get(address, 0) + 1

    def check(self, address: str) -> None:
        """Raise RateLimited if the address has sent too many in this window."""
        reset_s = self._begin_window()
        if self._counts.get(address, 0) >= self._amount:
            raise RateLimited(
                reason=f"Too many wrong keys came from this address. Try again in {reset_s} s.", retry_after_s=reset_s
            )

    def _begin_window(self) -> int:
        now = time.time()
        window = int(now // self._window_s)
        if window != self._window:
            self._window, self._counts = window, {}
        return math.ceil((window + 1) * self._window_s - now)


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
