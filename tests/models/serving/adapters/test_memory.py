"""Resident memory: what a predictor holds is its base and what its cache counts, however many versions pass through."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from models import process_memory
from models.artifacts.folder import read_artifact, write_artifact
from models.backbones.text import TextBackbone
from models.services.catalog import ResolvedVersion
from models.serving.adapters.adapter import Adapter
from models.serving.adapters.assembly import assemble
from models.serving.adapters.cache import AdapterCache
from models.serving.adapters.disk_cache import MAP_BYTES
from tests.models.serving.conftest import make_artifact
from tests.models.serving.encoders.test_passes import VERSION, own_blocks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")

_MiB = 2**20


def test_versions_that_pass_through_leave_no_memory_behind(minilm: TextBackbone, tmp_path: Path) -> None:
    """Each is a mapped file of 7 MB: one bias that is a view of it kept all of it, beside the copy that is counted."""
    assert write_artifact(make_artifact(minilm, more=own_blocks(minilm, 5, 0)), tmp_path)
    mapped = (tmp_path / "weights.safetensors").stat().st_size
    assert mapped >= MAP_BYTES

    def load(version: ResolvedVersion) -> Adapter:
        adapter = assemble(read_artifact(tmp_path, map_bytes=MAP_BYTES), version, minilm)
        process_memory.give_back()
        return adapter

    async def serve() -> list[int]:
        cache = AdapterCache(load, limit_bytes=4 * mapped)
        resident = []
        for number in range(60):
            await cache.get(replace(VERSION, manifest_sha256=str(number)))
            if number in (2, 19, 59):
                resident.append(process_memory.resident_bytes())
        assert cache.evictions > 50
        assert str(tmp_path) not in Path("/proc/self/maps").read_text()
        cache.close()
        return resident

    _, after_20, after_60 = asyncio.run(serve())
    assert after_60 - after_20 < 4 * mapped  # 40 more: 280 MB


def test_freed_memory_is_given_back() -> None:
    process_memory.give_back()  # what earlier tests left free would be taken again
    before = process_memory.resident_bytes()
    held = [bytearray(4_096) for _ in range(20_000)]  # too small for a mapping of its own each
    keeps_the_heap_up = bytearray(4_096)
    grown = process_memory.resident_bytes()
    assert grown - before > 60 * _MiB
    del held
    if not process_memory.give_back():
        pytest.skip("not glibc")
    assert process_memory.resident_bytes() < before + 20 * _MiB
    assert len(keeps_the_heap_up) == 4_096
