"""Cancellation of the work of clients that have disconnected."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

from api.errors import ClientClosedRequest

Answer = TypeVar("Answer")

# Most answers are faster than any disconnection; a watcher for each of them would cost more than it saves.
_WATCH_AFTER_S = 0.1


async def unless_gone(request: Request, work: Awaitable[Answer]) -> Answer:
    """Return the result of `work`; if the client disconnects first, cancel it and raise ClientClosedRequest.

    The request's body must have been read: what comes after it is the client's leaving.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("not in a task")
    watcher: asyncio.Task[None] | None = None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    def begin() -> None:
        nonlocal watcher
        watcher = asyncio.create_task(watch(), name="disconnection")

    timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_S, begin)
    try:
        return await work
    except asyncio.CancelledError:
        if not gone or task.uncancel() > 0:
            raise
        raise ClientClosedRequest() from None
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()
