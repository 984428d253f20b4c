"""A stand-in for a vLLM server beside the tiny base that writes, and settings that send the writing there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from models.artifacts.folder import Artifact
from models.backbones.writing import DecoderBackbone, load_decoder
from models.records.customers import Customer
from models.records.versions import ModelVersion
from models.services.resources import Resources
from models.serving.predictor import Predictor
from models.serving.upstream.runner import UpstreamRunner
from models.settings import Settings
from tests.models.backbones import decoder_checkpoints
from tests.models.serving import written_versions
from tests.models.serving.upstream.vllm_stand_in import KEY, VllmStandIn, serving


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> DecoderBackbone:
    entry = decoder_checkpoints.write(tmp_path_factory.mktemp("tiny") / "base")
    return load_decoder(entry, device="cpu", precision="fp32", threads=1)


@pytest.fixture
def vllm(tiny: DecoderBackbone) -> Iterator[VllmStandIn]:
    with serving(VllmStandIn("tiny-writer", tiny.folder)) as stand_in:
        yield stand_in


@pytest.fixture
def settings(settings: Settings, tiny: DecoderBackbone, vllm: VllmStandIn, tmp_path: Path) -> Settings:
    bases = decoder_checkpoints.offer(tiny.folder, tmp_path / "bases.json")
    changes = {
        "base_models_file": bases,
        "generation_base_model": "tiny-writer",
        "generation_upstream": vllm.url,
        "generation_upstream_key": SecretStr(KEY),
        "generation_upstream_folder": tmp_path / "shared",
        "generation_max_tokens": 40,
        "precision": "fp32",
        "directory_poll_s": 0.05,
    }
    return settings.model_copy(update=changes)


@pytest.fixture
def publish(resources: Resources, tmp_path: Path) -> Callable[[Customer, Artifact], ModelVersion]:
    """Publishes a further version of the customer's model `writer`, promoted."""
    return lambda owner, made: written_versions.publish(resources, owner, made, tmp_path)


@pytest.fixture
def predicting(settings: Settings, resources: Resources) -> Callable[..., Any]:
    """`async with predicting() as (predictor, runner)`."""

    @asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[tuple[Predictor, UpstreamRunner]]:
        predictor = Predictor(settings.model_copy(update=changes), resources)
        predictor.meter._flush_s = 3_600.0  # tests read what was counted, however long they take
        try:
            await predictor.start()
            (runner,) = [one for one in predictor.runners() if isinstance(one, UpstreamRunner)]
            yield predictor, runner
        finally:
            await predictor.close()

    return start
