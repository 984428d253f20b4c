"""How many requests a caller may make, and the headers that tell."""

from __future__ import annotations

import math
import time

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.errors import RateLimited

_STATE_KEY = "rate_limit_headers"


class RateLimits:
    """Requests per caller and process in a fixed window. A shared store would put the network on the hot path."""

    def __init__(self, rate: str) -> None:
        self._item = parse(rate)
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def admit(self, scope: Scope, caller: str) -> None:
        """Count one request of `caller`; raises RateLimited when it has no more in this window."""
        admitted = self._limiter.hit(self._item, caller)
        window = self._limiter.get_window_stats(self._item, caller)
        reset_s = max(0.0, window.reset_time - time.time())
        scope["state"][_STATE_KEY] = {
            "x-ratelimit-limit-requests": str(self._item.amount),
            "x-ratelimit-remaining-requests": str(window.remaining),
            "x-ratelimit-reset-requests": f"{math.ceil(reset_s)}s",
        }
        if not admitted:
            raise RateLimited(
                reason=f"Rate limit reached: {self._item.amount} requests per {_window(self._item.get_expiry())}. "
                f"Try again in {math.ceil(reset_s)} s.",
                retry_after_s=max(reset_s, 1.0),
            )


class RateLimitHeaders:
    """ASGI: puts what `RateLimits.admit` found on the answer, whatever the answer is."""

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
                MutableHeaders(scope=message).update(scope["state"][_STATE_KEY])
            await send(message)

        await self.app(scope, receive, mark)


def _window(seconds: int) -> str:
    return {1: "second", 60: "minute", 3600: "hour", 86400: "day"}.get(seconds, f"{seconds} s")
