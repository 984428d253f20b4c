"""How long the command line waits for a server that takes its time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from deploy.cli import client as cli
from deploy.cli.client import Client
from deploy.cli.connection import Connection
from deploy.cli.errors import ServerSilent


class SlowServer(ThreadingHTTPServer):
    """Answers nothing before it is let go."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.has_upload = threading.Event()
        self.go = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: SlowServer

    def do_GET(self) -> None:
        self.server.go.wait(60)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.has_upload.set()
        self.server.go.wait(60)
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:  # type: ignore[override]
        """Not on the tests' standard error."""


@pytest.fixture
def slow() -> Iterator[SlowServer]:
    with SlowServer() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()


def test_an_upload_waits_longer_for_its_answer_than_other_requests(
    slow: SlowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_TIMEOUT", httpx.Timeout(0.5))
    connection = Connection(f"http://127.0.0.1:{slow.server_address[1]}", "key")
    with Client(connection) as client, ThreadPoolExecutor(1) as pool:
        upload = pool.submit(client.upload, "/v1/files", fields={}, files={"file": ("t.csv", b"text,label\n")})
        assert slow.has_upload.wait(30)
        # A request that began after the upload has given up by now; the upload has not.
        with pytest.raises(ServerSilent, match="not answered within"):
            client.get("/v1/files")
        slow.go.set()
        assert upload.result(30) == {}
