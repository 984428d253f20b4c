"""Threads of access alone: whatever fills the event loop's own ones, keys and names are looked up."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Result = TypeVar("Result")
Params = ParamSpec("Params")


class AccessThreads:
    """A pool for queries. `close` at the end."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(thread_name_prefix="access")

    async def run(self, work: Callable[Params, Result], *args: Params.args, **kwargs: Params.kwargs) -> Result:
        """Return what `work` returns on a thread, in the caller's context, as `asyncio.to_thread` does."""
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: context.run(work, *args, **kwargs))

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False)
