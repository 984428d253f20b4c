"""`graft watch` while the server restarts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from deploy.cli import progress
from deploy.cli.main import app

JOB = {"id": "ftjob-1", "status": "succeeded", "suffix": "tickets", "created_at": 0, "step": None}
NOTHING: dict[str, object] = {"data": [], "has_more": False}


class Restarting(ThreadingHTTPServer):
    """Ends the first connection without an answer, refuses the next two requests, and answers all others."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Restarting

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if len(self.server.asked) == 1:
            self.close_connection = True
        elif len(self.server.asked) == 2:
            self._answer(503, {"error": {"message": "The server is starting.", "code": "unavailable"}})
        elif len(self.server.asked) == 3:
            self.send_error(502)  # in HTML, as proxies do
        elif "/events" in self.path:
            self._answer(200, NOTHING)
        elif "suffix=" in self.path:
            self._answer(200, {"data": [JOB], "has_more": False})
        else:
            self._answer(200, JOB)

    def _answer(self, status: int, body: dict[str, object]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:  # type: ignore[override]
        """Not on the tests' standard error."""


@pytest.fixture
def restarting() -> Iterator[Restarting]:
    with Restarting() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("reference", ["ftjob-1", "tickets"])
def test_the_first_look_up_waits_for_a_server_that_restarts(
    restarting: Restarting, monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    monkeypatch.setattr(progress, "_AGAIN_AFTER_S", 0.01)
    url = f"http://127.0.0.1:{restarting.server_address[1]}"
    answer = CliRunner().invoke(app, ["watch", reference, "--server", url, "--key", "key"])
    assert answer.exit_code == 0, answer.stderr
    assert "succeeded" in answer.stdout
    assert answer.stderr.count("Trying again") == 1
