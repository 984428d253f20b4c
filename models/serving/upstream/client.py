"""What Graft says to a vLLM server: its OpenAI routes, and those that load and unload adapters at run time.

The server runs with `--enable-lora`, `--served-model-name` of the base here, and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1.
"""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import structlog

from models.serving.errors import GenerationMisconfigured, GenerationUnavailable, InvalidInput
from models.settings import Settings

log = structlog.get_logger(__name__)

_CONNECT_S = 2.0
# Between two pieces of an answer; the first one waits behind what the server has under way.
_SILENCE_S = 300.0
# Loading reads a file of megabytes and lays it out.
_LOAD_S = 120.0
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=64)


class NotLoaded(Exception):
    """The server knows no model of this name: it has been started anew, or another one has unloaded it."""


def context_length(settings: Settings, base_model: str, *, timeout_s: float = 5.0) -> int | None:
    """Return how many tokens the server reads with a base, None if it does not say; blocks.

    Raises GenerationUnavailable, and GenerationMisconfigured if it is no vLLM server or does not serve this base.
    """
    try:
        with httpx.Client(**_options(settings), timeout=timeout_s) as http:
            answer = http.get("v1/models")
    except httpx.HTTPError as error:
        raise _unreachable(error) from error
    if answer.status_code != HTTPStatus.OK:
        raise _refusal(answer)
    try:
        lengths = {str(model["id"]): model.get("max_model_len") for model in answer.json()["data"]}
        served = {name: None if length is None else int(length) for name, length in lengths.items()}
    except (ValueError, KeyError, TypeError) as error:  # a web page, or the JSON of another program
        log.error("upstream.no_vllm", error=repr(error), answer=answer.text[:200])
        raise GenerationMisconfigured(
            reason="it does not answer as a vLLM server (set GRAFT_GENERATION_UPSTREAM to the URL of one, without /v1)"
        ) from error
    if base_model not in served:
        log.error("upstream.other_base", wanted=base_model, served=sorted(served)[:10])
        raise GenerationMisconfigured(
            reason=f"it does not serve '{base_model}' (start it with --served-model-name {base_model})"
        )
    return served[base_model]


class VllmClient:
    """Requests to one server. Belongs to one event loop; `close` at the end."""

    def __init__(self, settings: Settings) -> None:
        timeout = httpx.Timeout(_SILENCE_S, connect=_CONNECT_S, pool=None)
        self._http = httpx.AsyncClient(**_options(settings), timeout=timeout, limits=_LIMITS)

    async def load(self, name: str, folder: Path) -> None:
        """Load a PEFT adapter folder under a name; nothing happens if it has that already.

        Raises GenerationUnavailable and GenerationMisconfigured.
        """
        body = {"lora_name": name, "lora_path": str(folder)}
        answer = await self._post("v1/load_lora_adapter", body, timeout_s=_LOAD_S)
        if answer.status_code == HTTPStatus.OK or "already been loaded" in answer.text:
            return
        if answer.status_code == HTTPStatus.NOT_FOUND and "adapter" not in answer.text:
            raise GenerationMisconfigured(
                reason="it loads no adapters at run time (start it with --enable-lora and "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1)"
            )
        log.error("upstream.not_loaded", adapter=name, status=answer.status_code, answer=answer.text[:500])
        if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status_code in _KEYS:
            raise _refusal(answer)
        raise GenerationMisconfigured(reason="it cannot load the version")  # its own words name folders

    async def unload(self, name: str) -> None:
        """Unload an adapter; nothing happens if it is not there. Raises GenerationUnavailable."""
        answer = await self._post("v1/unload_lora_adapter", {"lora_name": name}, timeout_s=_LOAD_S)
        if answer.status_code not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
            raise _refusal(answer)

    async def complete(self, body: dict[str, Any]) -> httpx.Response:
        """Begin a streamed completion; whoever reads it closes it, and with it the writing there.

        Raises NotLoaded, InvalidInput, GenerationUnavailable.
        """
        request = self._http.build_request("POST", "v1/completions", json=body)
        try:
            answer = await self._http.send(request, stream=True)
        except httpx.HTTPError as error:
            raise _unreachable(error) from error
        if answer.status_code == HTTPStatus.OK:
            return answer
        try:
            await answer.aread()
        except httpx.HTTPError as error:
            raise _unreachable(error) from error
        finally:
            await answer.aclose()
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise NotLoaded
        if answer.status_code in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY):
            raise InvalidInput(reason=f"This cannot be written: {message_of(answer)}")
        raise _refusal(answer)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _post(self, path: str, body: dict[str, Any], *, timeout_s: float) -> httpx.Response:
        try:
            return await self._http.post(path, json=body, timeout=httpx.Timeout(timeout_s, connect=_CONNECT_S))
        except httpx.HTTPError as error:
            raise _unreachable(error) from error


_KEYS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def message_of(answer: httpx.Response) -> str:
    """Return the message of an error, in vLLM's words."""
    try:
        return str(answer.json()["error"]["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"


def _options(settings: Settings) -> dict[str, Any]:
    key = settings.generation_upstream_key
    headers = {} if key is None else {"authorization": f"Bearer {key.get_secret_value()}"}
    return {"base_url": settings.generation_upstream.rstrip("/") + "/", "headers": headers}


def _refusal(answer: httpx.Response) -> GenerationUnavailable | GenerationMisconfigured:
    log.error("upstream.refused", path=answer.url.path, status=answer.status_code)
    if answer.status_code in _KEYS:
        return GenerationMisconfigured(reason="it refuses this predictor's key (GRAFT_GENERATION_UPSTREAM_KEY)")
    return GenerationUnavailable(reason=f"it answers with status {answer.status_code}")


def _unreachable(error: httpx.HTTPError) -> GenerationUnavailable:
    # The class alone: customers learn no address.
    log.error("upstream.unreachable", error=str(error) or type(error).__name__)
    return GenerationUnavailable(reason=f"it cannot be reached ({type(error).__name__})")
