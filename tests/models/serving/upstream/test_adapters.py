"""Adapters at the upstream server: nothing stays of a load that went wrong, of a process before, of a full disk."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from starlette.responses import HTMLResponse, JSONResponse, Response

from models.records.customers import Customer
from models.services.resources import Resources
from models.serving.errors import GenerationMisconfigured, GenerationUnavailable
from models.serving.predictor import Predictor
from models.serving.upstream.adapters import LoadedAdapters, UpstreamAdapter
from models.serving.upstream.client import VllmClient, context_length
from models.serving.writing import WriteRequest
from models.serving.written_answer import WriteCall
from models.settings import Settings
from models.storage.errors import DiskFull
from tests.file_sizes import files_up_to
from tests.models.serving.conftest import until
from tests.models.serving.generation.conftest import chat
from tests.models.serving.upstream.vllm_stand_in import VllmStandIn


@pytest.fixture
def opened(settings: Settings) -> Callable[[], Any]:
    """`async with opened() as loaded`: the adapters of one process."""

    @asynccontextmanager
    async def start() -> AsyncIterator[LoadedAdapters]:
        client = VllmClient(settings)
        loaded = LoadedAdapters(client, settings.generation_upstream_adapters)
        try:
            yield loaded
        finally:
            await loaded.close()
            await client.close()

    return start


def _adapter(loaded: LoadedAdapters, key: str, *, rank: int = 4) -> UpstreamAdapter:
    matrices = {"base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": np.zeros((rank, 8), np.float32)}
    files = {
        "adapter_config.json": json.dumps({"r": rank}).encode(),
        "adapter_model.safetensors": safetensors.numpy.save(matrices),
    }
    return UpstreamAdapter("text-generation", key, "cus_1", files=files, loaded=loaded)


def _folders(loaded: LoadedAdapters) -> set[str]:
    return {path.name for path in loaded.folder.iterdir() if path.is_dir()}


async def _hold_and_load(loaded: LoadedAdapters, adapter: UpstreamAdapter) -> str:
    loaded.hold(adapter)
    try:
        return await loaded.load(adapter)
    finally:
        loaded.release(adapter)


def test_a_version_whose_load_went_wrong_is_removed_when_it_is_dropped(
    opened: Callable[[], Any], vllm: VllmStandIn
) -> None:
    async def run() -> None:
        async with opened() as loaded:
            refused, left = _adapter(loaded, "refused", rank=32), _adapter(loaded, "left")
            with pytest.raises(GenerationUnavailable):
                await _hold_and_load(loaded, refused)
            assert len(loaded) == 0
            vllm.loading.clear()
            loading = asyncio.create_task(_hold_and_load(loaded, left))
            await until(lambda: vllm.waiting == 1)
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            vllm.loading.set()
            await until(lambda: loaded.name_of(left) in vllm.loaded)  # the server does not know that nobody waits
            for adapter in (refused, left):
                adapter.let_go()
            await until(lambda: not _folders(loaded) and not vllm.loaded)

    asyncio.run(run())


@pytest.mark.parametrize("leaves", [False, True])
def test_what_an_earlier_process_left_goes_once_and_before_anything_is_loaded(
    opened: Callable[[], Any], settings: Settings, vllm: VllmStandIn, leaves: bool
) -> None:
    async def run() -> None:
        async with opened() as before:
            names = [await _hold_and_load(before, _adapter(before, key)) for key in ("a", "b", "c")]
        async with opened() as loaded:
            assert _folders(loaded) == set(names) == set(vllm.loaded)
            vllm.loading.clear()
            first = asyncio.create_task(_hold_and_load(loaded, _adapter(loaded, "new")))
            await until(lambda: vllm.waiting == 1)
            others = [asyncio.create_task(_hold_and_load(loaded, _adapter(loaded, key))) for key in ("b", "c")]
            await asyncio.sleep(0)
            if leaves:
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)
            vllm.loading.set()
            wanted = set(await asyncio.gather(*others)) | (set() if leaves else {await first})
            assert _folders(loaded) == set(vllm.loaded) == wanted
            assert [kind for kind, _ in vllm.history[3:]] == ["unload"] * 3 + ["load"] * len(wanted)

    asyncio.run(run())


def test_a_full_disk_is_said_and_leaves_no_part_of_a_folder(opened: Callable[[], Any]) -> None:
    async def run() -> None:
        async with opened() as loaded:
            adapter = _adapter(loaded, "a")
            with files_up_to(100), pytest.raises(DiskFull):
                await _hold_and_load(loaded, adapter)
            assert not _folders(loaded)
            await _hold_and_load(loaded, adapter)
            assert len(loaded) == 1
            shutil.rmtree(loaded.folder)
            loaded.folder.write_text("no folder")
            with pytest.raises(GenerationMisconfigured, match="GRAFT_GENERATION_UPSTREAM_FOLDER"):
                await _hold_and_load(loaded, _adapter(loaded, "b"))

    asyncio.run(run())


def test_a_folder_that_cannot_be_written_stops_no_predictor(
    customer: Callable[..., Customer], settings: Settings, resources: Resources, tmp_path: Path
) -> None:
    acme = customer("acme")
    taken = tmp_path / "taken"
    taken.write_text("no folder")

    async def run() -> None:
        predictor = Predictor(settings.model_copy(update={"generation_upstream_folder": taken}), resources)
        try:
            await predictor.start()
            with pytest.raises(GenerationMisconfigured, match="set GRAFT_GENERATION_UPSTREAM_FOLDER") as caught:
                await predictor.write(WriteCall(acme.id, "tiny-writer", WriteRequest(chat("Where is it?"))))
            assert str(tmp_path) not in str(caught.value)
        finally:
            await predictor.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "answer",
    [
        HTMLResponse("<html>It works!</html>"),
        JSONResponse([]),
        JSONResponse({"status": "ok"}),
        JSONResponse({"data": None}),
        JSONResponse({"data": ["tiny-writer"]}),
        JSONResponse({"data": [{"id": "tiny-writer", "max_model_len": "long"}]}),
    ],
    ids=["a page", "a list", "other keys", "no models", "names alone", "no length"],
)
def test_another_server_is_no_vllm_server(settings: Settings, vllm: VllmStandIn, answer: Response) -> None:
    vllm.models = answer
    with pytest.raises(GenerationMisconfigured, match="does not answer as a vLLM server"):
        context_length(settings, "tiny-writer")


def test_customers_are_told_no_folder_of_the_server(settings: Settings, vllm: VllmStandIn, tmp_path: Path) -> None:
    async def run() -> None:
        client = VllmClient(settings)
        with pytest.raises(GenerationMisconfigured, match="it cannot load the version") as caught:
            await client.load("a-version", tmp_path / "nowhere")
        assert str(tmp_path) not in str(caught.value)
        await client.close()

    asyncio.run(run())
