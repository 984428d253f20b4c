"""Slow and many connections.

Before, only the pause between two requests was bounded: a client that sent a byte now and then kept its connection, its
file descriptor and its buffers for ever, as many times as it liked; a wrong key's upload was read to its end.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import openai
import pytest
from pydantic import ValidationError

from api.connection_limits import Connections
from models.errors import RateLimited, Unavailable
from models.settings import Settings

if TYPE_CHECKING:
    from tests.api.conftest import Server

_DEADLINE_S = 20
_POST = b"POST /v1/fine_tuning/jobs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


@pytest.fixture(scope="module")
def impatient(
    tmp_path_factory: pytest.TempPathFactory,
    broker_url: str,
    new_database: Callable[[], str],
    run_server: Callable[[Settings], AbstractContextManager[Server]],
) -> Iterator[Server]:
    """A server that waits for tenths of seconds."""
    from tests.api.conftest import make_settings

    settings = make_settings(
        tmp_path_factory.mktemp("impatient"),
        new_database(),
        broker_url=broker_url,
        header_timeout_s=0.3,
        body_timeout_s=0.3,
        idle_timeout_s=1,
    )
    with run_server(settings) as running:
        for client in (running.operator, running.anonymous):
            # A kept one may be closed by the server, which waits for a second, just as the next request goes out.
            client.headers["connection"] = "close"
        yield running


@pytest.fixture
def connect(impatient: Server) -> Iterator[Callable[[], socket.socket]]:
    """Opens connections to that server."""
    host, _, port = impatient.url.removeprefix("http://").partition(":")
    opened: list[socket.socket] = []

    def make() -> socket.socket:
        opened.append(socket.create_connection((host, int(port)), timeout=_DEADLINE_S))
        return opened[-1]

    yield make
    for connection in opened:
        connection.close()


def _drip(connection: socket.socket, piece: bytes) -> bytes:
    """Send a piece now and then until the server has had enough; return what it said."""
    connection.settimeout(0.05)
    said, deadline = b"", time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        try:
            connection.sendall(piece)
        except OSError:
            return said
        try:
            found = connection.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            return said
        if not found:
            return said
        said += found
    raise AssertionError(f"the connection is still open; it said {said!r}")


def _all(connection: socket.socket) -> bytes:
    """Return what the server says until it closes the connection."""
    said = b""
    while found := connection.recv(65536):
        said += found
    return said


def _error(said: bytes) -> dict[str, Any]:
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return dict(json.loads(body)["error"])


def test_headers_that_never_end_are_ended(impatient: Server, connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n")
    said = _drip(connection, b"x-a: 1\r\n")
    assert said.startswith(b"HTTP/1.1 408 ")
    assert _error(said)["code"] == "request_too_slow"
    assert impatient.anonymous.get("/healthz").status_code == 200


@pytest.mark.parametrize("piece", [b"", b"\r\n"])
def test_a_connection_that_asks_for_nothing_is_closed(connect: Callable[[], socket.socket], piece: bytes) -> None:
    _drip(connect(), piece)


def test_the_second_request_of_a_connection_is_watched_as_the_first(connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert _drip(connection, b"G").startswith(b"HTTP/1.1 4")


def test_headers_without_bounds_are_refused(connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: ")
    said = _drip(connection, b"a" * 50_000)
    assert said.startswith(b"HTTP/1.1 431 ")
    assert _error(said)["code"] == "headers_too_large"


def test_a_body_that_drips_is_ended(impatient: Server, connect: Callable[[], socket.socket]) -> None:
    key = impatient.tenant("drips").key.encode()
    connection = connect()
    connection.sendall(_POST + b"content-length: 100000\r\nauthorization: Bearer " + key + b"\r\n\r\n{")
    said = _drip(connection, b" ")
    assert said.startswith(b"HTTP/1.1 408 ")
    assert "at least 1000 bytes per second" in _error(said)["message"]


def test_a_body_as_slow_as_it_may_be_arrives(impatient: Server, connect: Callable[[], socket.socket]) -> None:
    key = impatient.tenant("slow").key.encode()
    connection = connect()
    connection.sendall(
        _POST + b"content-length: 9000\r\nconnection: close\r\nauthorization: Bearer " + key + b"\r\n\r\n"
    )
    for _ in range(9):  # three times as long as a window
        connection.sendall(b" " * 1000)
        time.sleep(0.1)
    said = _all(connection)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert _error(said)["code"] != "request_too_slow"


def test_the_body_of_a_wrong_key_is_not_read(connect: Callable[[], socket.socket]) -> None:
    """Before, the rest of the upload was received and thrown away, at whatever pace, however long."""
    connection = connect()
    connection.sendall(_POST + b"content-length: 1000000000\r\nauthorization: Bearer gr-wrong\r\n\r\n" + b"a" * 1000)
    said = _drip(connection, b"a" * 1000)
    assert said.startswith(b"HTTP/1.1 401 ")
    assert _error(said)["code"] == "invalid_key"


def test_a_client_that_sends_on_after_the_answer_still_reads_it(impatient: Server) -> None:
    """A connection that is closed at once is reset, and the client sees a broken pipe in the place of its 401."""
    with pytest.raises(openai.AuthenticationError):
        impatient.sdk("gr-wrong").files.create(file=("a.csv", b"a" * 20_000_000), purpose="fine-tune")


def test_a_client_that_waits_to_be_asked_for_the_body_is_asked_only_with_a_key(
    impatient: Server, connect: Callable[[], socket.socket]
) -> None:
    expecting = _POST + b"content-length: 2\r\nexpect: 100-continue\r\nauthorization: Bearer "
    refused = connect()
    refused.sendall(expecting + b"gr-wrong\r\n\r\n")
    said = _all(refused)
    assert said.startswith(b"HTTP/1.1 401 ")
    assert b"100 Continue" not in said
    _error(said)
    asked = connect()
    asked.sendall(expecting + impatient.tenant("asks").key.encode() + b"\r\n\r\n")
    assert asked.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
    asked.sendall(b"{}")
    assert asked.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_an_answer_that_nobody_reads_is_given_up(impatient: Server, connect: Callable[[], socket.socket]) -> None:
    tenant = impatient.tenant("stalls")
    table = "text,label\n" + "".join(f"row {number} {'word ' * 20},{'ab'[number % 2]}\n" for number in range(15_000))
    file = tenant.http.post("/v1/files", files={"file": ("big.csv", table)}).json()
    request = f"GET /v1/files/{file['id']}/content HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {tenant.key}\r\n\r\n"
    connection = connect()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(4):
        connection.sendall(request.encode())
    deadline = time.monotonic() + _DEADLINE_S
    while 'reason="slow_reader"' not in impatient.anonymous.get("/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_uploads_and_pauses_of_honest_clients_work(impatient: Server, table: str) -> None:
    tenant = impatient.tenant("honest")
    for _ in range(3):
        assert tenant.http.post("/v1/files", files={"file": ("a.csv", table)}).status_code == 200
        time.sleep(0.4)  # longer than headers and bodies may take, on the same connection


def test_connections_are_counted_by_process_and_by_address() -> None:
    ended: list[str] = []
    settings = Settings(max_connections=5, max_connections_per_address=2, trusted_proxies="10.0.0.0/8,::1")
    connections = Connections(settings, ended.append)
    assert connections.open("192.0.2.1") is None
    assert connections.open("192.0.2.1") is None
    refused = connections.open("192.0.2.1")
    assert isinstance(refused, RateLimited)
    assert "2 connections" in str(refused)
    connections.close("192.0.2.1")
    for _ in range(3):  # of many clients
        assert connections.open("10.1.2.3") is None
    assert isinstance(connections.open("10.1.2.3"), Unavailable)
    assert ended == ["address_limit", "total_limit"]
    for address in ["192.0.2.1"] * 2 + ["10.1.2.3"] * 4:
        connections.close(address)
    assert (connections.total, dict(connections.by_address)) == (0, {})


def test_a_refused_connection_is_told_why_and_another_is_served_when_one_ends(
    settings_for: Callable[..., Settings], run_server: Callable[..., AbstractContextManager[Server]]
) -> None:
    settings = settings_for(max_connections_per_address=2, trusted_proxies="none")
    with run_server(settings) as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        held = [socket.create_connection((host, int(port)), timeout=_DEADLINE_S) for _ in range(2)]
        with socket.create_connection((host, int(port)), timeout=_DEADLINE_S) as third:
            said = _all(third)
        assert said.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 1" in said
        assert _error(said)["code"] == "too_many_from_address"
        for connection in held:
            connection.close()
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            with server.client(None) as client:
                if client.get("/healthz").status_code == 200:
                    break
            assert time.monotonic() < deadline


def test_a_forwarded_address_is_believed_from_a_proxy_only(
    settings_for: Callable[..., Settings], run_server: Callable[..., AbstractContextManager[Server]]
) -> None:
    """Or whoever guesses keys would write another address into each request."""
    for trusted, statuses in (("127.0.0.1", [401, 401]), ("192.0.2.0/24", [401, 429])):
        with run_server(settings_for(failed_logins="1/year", trusted_proxies=trusted)) as server:
            seen = [
                server.anonymous.get(
                    "/v1/files",
                    headers={"authorization": f"Bearer gr-{number}", "x-forwarded-for": f"198.51.100.{number}"},
                ).status_code
                for number in range(2)
            ]
        assert seen == statuses


def test_a_forwarded_address_has_so_many_requests_under_way(
    settings_for: Callable[..., Settings], run_server: Callable[..., AbstractContextManager[Server]]
) -> None:
    """Before, one client behind a trusted proxy could hold as many as there are connections."""
    with run_server(settings_for(max_connections_per_address=2, trusted_proxies="127.0.0.1")) as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        key = server.settings.admin_key
        assert key is not None

        def ask(address: str) -> socket.socket:
            connection = socket.create_connection((host, int(port)), timeout=_DEADLINE_S)
            head = f"authorization: Bearer {key.get_secret_value()}\r\nx-forwarded-for: 127.0.0.1, {address}\r\n"
            body = b"content-length: 2\r\n\r\n{"  # its end does not come yet
            start = b"POST /v1/customers HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            connection.sendall(start + head.encode() + body)
            return connection

        def code_of(address: str) -> str:
            got = server.operator.get("/v1/customers", headers={"x-forwarded-for": address})
            return "" if got.status_code == 200 else str(got.json()["error"]["code"])

        held = [ask("198.51.100.1") for _ in range(2)]
        deadline = time.monotonic() + _DEADLINE_S
        while code_of("198.51.100.1") != "too_many_from_address":
            assert time.monotonic() < deadline
        assert code_of("198.51.100.2") == ""  # another client of the same proxy
        assert code_of("127.0.0.1") == ""  # the proxy itself
        held[0].sendall(b"}")
        assert held[0].recv(65536).startswith(b"HTTP/1.1 400 ")  # no name
        assert code_of("198.51.100.1") == ""
        for connection in held:
            connection.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trusted_proxies", "*"),
        ("trusted_proxies", "10.0.0.1/8"),
        ("header_timeout_s", 0),
        ("body_timeout_s", -1),
        ("body_bytes_per_s", "fast"),
        ("idle_timeout_s", 0),
        ("max_connections", 0),
        ("max_connections_per_address", 0),
        ("max_streams", 0),
    ],
)
def test_wrong_bounds_are_refused_at_the_start(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings(**{name: value})
