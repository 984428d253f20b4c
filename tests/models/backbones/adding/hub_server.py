"""A hub on this machine that speaks as much of Hugging Face's protocol as its client asks for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "5f" * 20
GATED, BROKEN = "acme/gated", "acme/broken"


class _Hub(BaseHTTPRequestHandler):
    models: dict[str, Path]  # folders by id

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0].strip("/")
        name = "/".join(path.removeprefix("api/models/").split("/")[:2])
        if name == GATED:
            self._refuse(403, "GatedRepo", "Access to this model is restricted.")
        elif name == BROKEN:
            self._refuse(503, "", "Down for repairs.")
        elif name not in self.models:
            self._refuse(401, "RepoNotFound", "Invalid username or password.")
        elif path.startswith("api/models/"):
            self._describe(name, path.removeprefix(f"api/models/{name}").strip("/").split("/"))
        else:
            self._send(self.models[name], path.rpartition("/")[2], body=body)

    def _describe(self, name: str, rest: list[str]) -> None:
        files = sorted(self.models[name].iterdir())
        if len(rest) > 1 and rest[1] not in ("main", COMMIT):
            self._refuse(404, "RevisionNotFound", "Invalid rev id.")
        elif rest[0] == "tree":
            self._json([{"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0"} for file in files])
        else:
            named = [{"rfilename": file.name} for file in files]
            self._json({"id": name, "modelId": name, "sha": COMMIT, "siblings": named, "tags": [], "private": False})

    def _send(self, folder: Path, file: str, *, body: bool) -> None:
        content = (folder / file).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _json(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, status: int, code: str, message: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def serving(models: dict[str, Path]) -> Iterator[str]:
    """Serve these folders under their ids, and two ids that are refused; give the hub's address."""
    handler = type("Hub", (_Hub,), {"models": models})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
