"""The open runners of a process: one per learner and base model, opened when one is first asked for."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from models.backbones import registry
from models.serving.runner import Runner
from models.serving.runners import RUNNERS
from models.serving.shared_compute import SharedCompute
from models.settings import Settings

Key = tuple[str, str]  # learner, base model


class RunnerPool:
    """Runners by learner and base model. Belongs to one event loop; `close` at the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._shared = SharedCompute(settings)
        self._opening: dict[Key, asyncio.Task[Runner[Any]]] = {}

    async def get(self, learner: str, base_model: str) -> Runner[Any]:
        """Return the runner, opened once however many wait for it.

        Raises UnknownBaseModel, BaseModelUnreachable, UnsupportedBaseModel.
        """
        key = (learner, base_model)
        opening = self._opening.get(key)
        if opening is None:
            entry = registry.find(self._settings, base_model)
            opening = asyncio.create_task(
                asyncio.to_thread(RUNNERS[learner], entry, self._shared), name=f"load-{base_model}"
            )
            self._opening[key] = opening
        if _is_open(opening):
            return opening.result()
        try:
            return await asyncio.shield(opening)
        except Exception:
            self._opening.pop(key, None)  # the next request tries again
            raise

    def opened(self, learner: str, base_model: str) -> Runner[Any]:
        """Return a runner that `get` has returned before; from any thread."""
        return self._opening[learner, base_model].result()

    def all(self) -> list[Runner[Any]]:
        """Runners that are open."""
        return [opening.result() for opening in self._opening.values() if _is_open(opening)]

    async def close(self) -> None:
        """Answer what waits, then stop all. Safe twice."""
        runners, self._opening = self._opening, {}
        for opening in runners.values():
            with contextlib.suppress(Exception):
                await (await opening).close()


def _is_open(opening: asyncio.Task[Runner[Any]]) -> bool:
    return opening.done() and not opening.cancelled() and opening.exception() is None
