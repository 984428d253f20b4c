"""Answers that a vLLM server writes, over HTTP. The server is a stand-in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import openai
import pytest
from pydantic import SecretStr

from tests.api.conftest import Server, make_settings, serve
from tests.models.backbones import decoder_checkpoints
from tests.models.serving.upstream.vllm_stand_in import KEY, VllmStandIn, serving

MODEL = "tiny-writer"


def test_the_sdk_gets_what_the_server_writes_and_a_clear_error_when_it_is_down(
    tmp_path: Path, broker_url: str, new_database: Callable[[], str]
) -> None:
    decoder_checkpoints.write(tmp_path / "base")
    bases = decoder_checkpoints.offer(tmp_path / "base", tmp_path / "bases.json", name=MODEL)
    stand_in = VllmStandIn(MODEL, tmp_path / "base")
    with serving(stand_in):
        settings = make_settings(
            tmp_path / "data",
            new_database(),
            broker_url=broker_url,
            role="all",
            precision="fp32",
            base_models_file=bases,
            generation_base_model=MODEL,
            generation_upstream=stand_in.url,
            generation_upstream_key=SecretStr(KEY),
        )
        with serve(settings) as server:
            _while_it_is_up(server, stand_in)
            stand_in.status = 503
            _while_it_cannot(server)


def _while_it_is_up(server: Server, stand_in: VllmStandIn) -> None:
    tenant = server.tenant("acme")
    whole = tenant.openai.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello?"}])
    assert (whole.choices[0].message.content or "").startswith("y-writer read ")
    assert whole.usage is not None
    assert whole.usage.prompt_tokens == len(stand_in.bodies[-1]["prompt"])
    assert whole.usage.completion_tokens == len(whole.choices[0].message.content or "")
    chunks = list(tenant.openai.completions.create(model=MODEL, prompt=["a", "bc"], n=2, stream=True, max_tokens=5))
    texts = ["".join(one.choices[0].text for one in chunks if one.choices[0].index == index) for index in range(4)]
    assert texts == ["y-wri"] * 4
    assert server.anonymous.get("/readyz").json()["checks"]["generation_upstream"] == "ok"


def _while_it_cannot(server: Server) -> None:
    tenant = server.tenant("zeta")
    with pytest.raises(openai.InternalServerError) as caught:
        tenant.openai.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hello?"}], stream=True
        )
    assert (caught.value.status_code, caught.value.code) == (503, "generation_unavailable")
    assert int(caught.value.response.headers["retry-after"]) >= 1
    ready = server.anonymous.get("/readyz")
    assert ready.status_code == 200  # all that is not written is answered
