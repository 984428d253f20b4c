"""Versions at the upstream server: which adapters are loaded there, from which folders, and when they go.

A version of low-rank matrices is a PEFT folder where the server can read it, under a name of its own: the predictor's
number, the customer, the manifest's hash. Predictors share no names, so none takes away what another one uses. What
the memory cache drops (evicted, deleted, no longer live) is unloaded and removed once nobody's answer needs it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from models.artifacts.manifest import UNSCALED
from models.artifacts.prompt import Prompt
from models.identifiers import new_id
from models.serving.adapters.disk_cache import take_folder
from models.serving.errors import GenerationMisconfigured, GenerationUnavailable
from models.serving.upstream.client import VllmClient
from models.storage.errors import refusing_when_full

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class UpstreamAdapter:
    """One version, as the upstream server gets it: its prompt, and the files of a PEFT folder if it has matrices."""

    task: str
    key: str
    customer_id: str = ""
    prompt: Prompt = field(default_factory=Prompt)
    files: Mapping[str, bytes] = field(default_factory=dict)
    nbytes: int = 0
    loaded: LoadedAdapters | None = None
    retired: bool = False
    labels: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = ()
    scale: tuple[float, float] = UNSCALED

    def let_go(self) -> None:
        """Have it unloaded once no answer needs it. Called by the memory cache."""
        self.retired = True
        if self.loaded is not None and self.files:
            self.loaded.tidy(self)


class LoadedAdapters:
    """What this predictor has loaded upstream. Belongs to one event loop; `close` at the end."""

    def __init__(self, client: VllmClient, parent: Path) -> None:
        """Take a numbered folder below `parent`; what an earlier process left in it is unloaded at the first use.

        Raises GenerationMisconfigured if it cannot be written.
        """
        self._client = client
        self._owned: int | None
        try:
            self.folder, self._owned = take_folder(parent)
            self._leftovers = [path.name for path in self.folder.iterdir() if path.is_dir()]
        except OSError as error:
            raise _unwritable(parent, error) from error
        self._clearing: asyncio.Task[None] | None = None
        self._begun: set[str] = set()  # what may lie in the folder or upstream: loaded, or a load that went wrong
        self._names: set[str] = set()  # of these, what is loaded
        self._users: Counter[str] = Counter()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._tidying: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._names)

    def name_of(self, adapter: UpstreamAdapter) -> str:
        """Return what the server calls a version."""
        return f"graft-{self.folder.name}-{adapter.customer_id}-{adapter.key}"

    def hold(self, adapter: UpstreamAdapter) -> None:
        """Keep a version loaded until `release`: whatever the cache does, an answer needs it."""
        self._users[self.name_of(adapter)] += 1

    def release(self, adapter: UpstreamAdapter) -> None:
        """Let go of a version that was held."""
        name = self.name_of(adapter)
        self._users[name] -= 1
        if not self._users[name]:
            del self._users[name]
        if adapter.retired:
            self.tidy(adapter)

    async def load(self, adapter: UpstreamAdapter, *, again: bool = False) -> str:
        """Return the name of a version that is held, loaded now if it is not, or `again` if the server has lost it.

        Raises GenerationUnavailable, GenerationMisconfigured and DiskFull.
        """
        name = self.name_of(adapter)
        async with self._locks[name]:
            await self._clear()
            if again or name not in self._names:
                self._begun.add(name)
                folder = await _write_to_the_end(adapter.files, self.folder / name)
                await self._client.load(name, folder)
                self._names.add(name)
        return name

    def tidy(self, adapter: UpstreamAdapter) -> None:
        """Unload a version that nobody holds, also one whose load went wrong."""
        name = self.name_of(adapter)
        if self._users[name] or name not in self._begun:
            return
        self._start(self._unload(name), f"unload-{name}")

    async def close(self) -> None:
        """Wait until what is unloaded now is gone. What is loaded stays: the next process unloads it or goes on."""
        while self._tidying:
            await asyncio.wait(self._tidying)
        if self._owned is not None:
            os.close(self._owned)
            self._owned = None

    async def _unload(self, name: str) -> None:
        async with self._locks[name]:
            if self._users[name] or name not in self._begun:
                return
            self._begun.discard(name)
            self._names.discard(name)
            await self._take_away(name)
        if not self._users[name]:
            self._locks.pop(name, None)

    async def _clear(self) -> None:
        # Whoever loads waits for all of it, because its own name may be among them; who leaves does not end it.
        if not self._leftovers:
            return
        if self._clearing is None or self._clearing.done():
            self._clearing = self._start(self._take_leftovers(), "unload-leftovers")
        await asyncio.shield(self._clearing)

    async def _take_leftovers(self) -> None:
        while self._leftovers:
            await self._take_away(self._leftovers[-1])
            self._leftovers.pop()

    def _start(self, tidying: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(tidying, name=name)
        self._tidying.add(task)
        task.add_done_callback(self._tidying.discard)
        return task

    async def _take_away(self, name: str) -> None:
        try:
            await self._client.unload(name)
        except (GenerationUnavailable, GenerationMisconfigured) as error:
            # A server that is away has forgotten it when it comes back: what is loaded at run time is nowhere written.
            log.warning("upstream.not_unloaded", adapter=name, error=str(error))
        await asyncio.to_thread(shutil.rmtree, self.folder / name, ignore_errors=True)


async def _write_to_the_end(files: Mapping[str, bytes], folder: Path) -> Path:
    """Write on a thread. Who is cancelled waits for its end: a folder that appears later would be nobody's to remove.

    Raises GenerationMisconfigured and DiskFull.
    """
    writing = asyncio.ensure_future(asyncio.to_thread(_write, files, folder))
    try:
        return await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.gather(writing, return_exceptions=True)
        raise


def _unwritable(folder: Path, error: OSError) -> GenerationMisconfigured:
    # The setting's name and the system's words: customers read this, too, and learn no path.
    log.error("upstream.folder_not_written", folder=str(folder), error=str(error))
    return GenerationMisconfigured(
        reason=f"the predictor cannot write to the folder for its adapters ({error.strerror}; set "
        "GRAFT_GENERATION_UPSTREAM_FOLDER to one that it may write and that the server sees under the same path)"
    )


def _write(files: Mapping[str, bytes], folder: Path) -> Path:
    """Return the folder with these files; it appears complete or not at all.

    Raises GenerationMisconfigured and DiskFull.
    """
    if folder.is_dir():
        return folder.absolute()
    temporary = folder.parent / new_id("write_")
    try:
        with refusing_when_full():
            temporary.mkdir(parents=True)
            for name, content in files.items():
                (temporary / name).write_bytes(content)
            temporary.rename(folder)
    except OSError as error:
        raise _unwritable(folder.parent, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # what is left of it; where all is well it has another name
    return folder.absolute()
