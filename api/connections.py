"""Connections: how slowly a client may send and read before it is cut off. How many there may be: `connection_limits`.

uvicorn itself bounds only the pause between two requests: a client that sends a byte of a header now and then, or of a
body, keeps its connection for ever. The protocol here watches from outside of the application, so no route can forget
it, and a request that arrives whole, as nearly all do, starts no timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, cast

import orjson
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.connection_limits import Connections, HeadersTooLarge, RequestTooSlow
from models.errors import GraftError, RateLimited, Unavailable

# Of all headers of one request and its line: nginx' and Apache's limits are below.
_HEADER_BYTES = 64 * 1024
# After an early answer the rest of a body is thrown away for so long. Closed at once, the kernel would send a reset,
# and clients that are still sending would not read the answer.
_LINGER_S = 2.0


def protocol_over(connections: Connections) -> type[asyncio.Protocol]:
    """Return the protocol class of a server with these connections."""
    return type("Protocol", (BoundedProtocol,), {"bounds": connections})


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, under the bounds of `Connections`."""

    bounds: ClassVar[Connections]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, and wait for the headers of its first request or refuse it."""
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self._address = self.client[0] if self.client else ""
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._reading_headers = True
        self._begun = False  # some of the next headers have come
        self._reading_body = False
        self._body_bytes = 0  # in this window
        self._window_began_at = 0.0
        self._keep_alive = True  # of the request whose body is still coming
        self._ended = False  # what still comes is thrown away
        refusal = self.bounds.open(self._address)
        if refusal is not None:
            self._answer(refusal)
            transport.close()
            self._ended = True
        else:
            self._start_timer(self.bounds.settings.header_timeout_s, self._headers_are_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count down."""
        self._stop_timer()
        self._stop_write_timer()
        self.bounds.close(self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, and bound what has to come yet."""
        if self._ended:
            return
        if self._reading_headers:
            self._begun = True
            self._header_bytes += len(data)
        super().data_received(data)
        if self._ended or self.transport.is_closing():
            return
        if self._reading_body:
            self._body_bytes += len(data)
            if self._timer is None:
                self._await_body()
        elif self._begun:
            if self._header_bytes > _HEADER_BYTES:
                self._cut(HeadersTooLarge(limit=_HEADER_BYTES), "large_headers")
            elif self._timer is None:
                self._start_timer(self.bounds.settings.header_timeout_s, self._headers_are_late)

    def on_message_begin(self) -> None:
        """Expect headers; of a request that came in one piece with the one before, too."""
        self._begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin with the request, whose body may have to come yet."""
        self._stop_timer()
        self._reading_headers, self._begun, self._reading_body = False, False, True
        self._header_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Leave the connection open for the next request, if it was to be."""
        if self._timer is not None and self._reading_body and not self.cycle.response_started:
            self.cycle.keep_alive = self._keep_alive
            self.cycle.transport = self.transport
        self._stop_timer()
        self._reading_headers, self._begun, self._reading_body = True, False, False
        self._header_bytes = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Wait for the client to read its answer."""
        super().pause_writing()
        self._stop_write_timer()
        self._write_timer = self.loop.call_later(self.bounds.settings.idle_timeout_s, self._reading_stalled)

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        self._stop_write_timer()
        super().resume_writing()

    def linger(self) -> None:
        """End the connection after an answer that came before the end of the body: its rest is not read."""
        self._stop_timer()
        self._ended = True
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._start_timer(_LINGER_S, self.transport.close)

    def _await_body(self) -> None:
        """Watch a body that has not come at once. An answer that comes before its end ends the connection."""
        self._keep_alive = self.cycle.keep_alive
        if not self.cycle.response_started:
            self.cycle.keep_alive = False
        self.cycle.transport = cast("asyncio.Transport", _LastAnswer(self))
        if self.cycle.response_complete:
            self.linger()
        else:
            self._begin_window()

    def _begin_window(self) -> None:
        self._body_bytes, self._window_began_at = 0, self.loop.time()
        self._start_timer(self.bounds.settings.body_timeout_s, self._judge_body)

    def _judge_body(self) -> None:
        """End a body of which too little came in this window, unless it was the application that did not read."""
        settings = self.bounds.settings
        flow = cast("_Flow", self.flow)
        held_back = flow.read_paused or flow.resumed_at > self._window_began_at or self.cycle.waiting_for_100_continue
        if held_back or self._body_bytes >= settings.body_timeout_s * settings.body_bytes_per_s:
            self._begin_window()
            return
        reason = (
            f"The body came too slowly: {self._body_bytes} bytes in {settings.body_timeout_s:g} s; "
            f"at least {settings.body_bytes_per_s:g} bytes per second are asked for."
        )
        self._cut(RequestTooSlow(reason=reason), "slow_body")

    def _headers_are_late(self) -> None:
        timeout_s = self.bounds.settings.header_timeout_s
        self._cut(RequestTooSlow(reason=f"The request's headers did not come within {timeout_s:g} s."), "slow_headers")

    def _reading_stalled(self) -> None:
        self.bounds.on_end("slow_reader")
        self.transport.abort()

    def _cut(self, error: GraftError, reason: str) -> None:
        """Answer with an error, if nothing is answered yet, and end the connection."""
        self.bounds.on_end(reason)
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy:
            self.cycle.disconnected = True  # for the application the client has left
            self.cycle.message_event.set()
        if busy and (self.cycle.response_started or self._reading_headers):
            self.transport.abort()  # an error would be read as a part of the answer before it, or as that answer
            return
        if self._begun or self._reading_body:  # who has said nothing is told nothing
            self._answer(error)
        self.linger()

    def _answer(self, error: GraftError) -> None:
        body = orjson.dumps({"error": error.as_dict()})
        head = [STATUS_LINE[error.status], b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)]
        if isinstance(error, Unavailable | RateLimited):
            head.append(b"retry-after: %d\r\n" % max(1, round(error.retry_after_s)))
        self.transport.write(b"".join([*head, b"connection: close\r\n\r\n", body]))

    def _start_timer(self, seconds: float, then: Callable[[], Any]) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, then)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


class _Flow(FlowControl):
    """uvicorn's flow control, which remembers when the application went on reading."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._loop = asyncio.get_running_loop()
        self.resumed_at = 0.0

    def resume_reading(self) -> None:
        """Read on."""
        if self.read_paused:
            self.resumed_at = self._loop.time()
        super().resume_reading()


class _LastAnswer:
    """A connection's transport as the request with an unfinished body sees it: to close is to linger."""

    def __init__(self, protocol: BoundedProtocol) -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        """Write a piece of the answer."""
        self._protocol.transport.write(data)

    def is_closing(self) -> bool:
        """Whether the connection is being closed."""
        return self._protocol.transport.is_closing()

    def close(self) -> None:
        """End the answer, and the connection after it."""
        self._protocol.linger()
