"""How many connections a process and an address may have, and the errors of those that are refused or cut off.

Behind a trusted proxy connections are the proxy's, so the address that it forwards is bound by its requests under way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import render
from models.errors import GraftError, RateLimited, Unavailable
from models.settings import Settings, networks_of


class TooManyConnections(Unavailable):
    """This process has as many connections as it may have: 503."""

    message = "The server has too many connections. Try again."


class TooManyFromAddress(RateLimited):
    """One address has as many connections, or requests under way by a proxy, as it may have: 429."""

    message = "Your address has {count} {what}, as many as one may have. {mend}"


class RequestTooSlow(GraftError):
    """A request arrived too slowly: 408."""

    status = 408
    type = "invalid_request_error"
    message = "{reason}"


class HeadersTooLarge(GraftError):
    """A request's headers are over the limit: 431."""

    status = 431
    type = "invalid_request_error"
    message = "The request's headers are longer than {limit} bytes."


# Why a connection was refused or cut off, as metrics name it.
END_REASONS = ("slow_headers", "large_headers", "slow_body", "slow_reader", "address_limit", "total_limit")


@dataclass(slots=True)
class Connections:
    """The open connections of one process and their bounds. `on_end` is told why one was refused or cut off."""

    settings: Settings
    on_end: Callable[[str], None] = lambda _: None
    total: int = 0
    by_address: Counter[str] = field(default_factory=Counter)

    def open(self, address: str) -> GraftError | None:
        """Count a new connection; return the error with which it is refused, if it is."""
        self.total += 1
        self.by_address[address] += 1
        if self.total > self.settings.max_connections:
            self.on_end("total_limit")
            return TooManyConnections()
        most = self.settings.max_connections_per_address
        if self.by_address[address] > most and not _is_proxy(self.settings, address):
            self.on_end("address_limit")
            mend = "Close some, or send several requests over one."
            return TooManyFromAddress(count=most, what="connections to this server", mend=mend)
        return None

    def close(self, address: str) -> None:
        """Count down."""
        self.total -= 1
        self.by_address[address] -= 1
        if not self.by_address[address]:
            del self.by_address[address]


class AddressLimit:
    """ASGI: bounds the requests under way of one address, whichever connections they came by.

    An address that connects by itself meets the bound of its connections first: each has one request at a time.
    """

    def __init__(self, app: ASGIApp, settings: Settings, on_end: Callable[[str], None]) -> None:
        self.app = app
        self._settings = settings
        self._on_end = on_end
        self._under_way: dict[str, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or answer TooManyFromAddress."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client = scope.get("client")
        address = client[0] if client else ""
        count, most = self._under_way.get(address, 0), self._settings.max_connections_per_address
        if count >= most and not _is_proxy(self._settings, address):
            self._on_end("address_limit")
            error = TooManyFromAddress(count=most, what="requests under way", mend="Wait for some to end.")
            await render(error)(scope, receive, send)
            return
        self._under_way[address] = count + 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._under_way[address] -= 1
            if not self._under_way[address]:
                del self._under_way[address]


def _is_proxy(settings: Settings, address: str) -> bool:
    """Whether many clients come from this address: only asked of one that has many connections."""
    try:
        found = ip_address(address)
    except ValueError:  # a unix socket: whatever is on its other end is on this machine
        return True
    return any(found in network for network in networks_of(settings.trusted_proxies))
