"""Headers that tell browsers how little an answer may do: on every answer, errors too."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALWAYS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
_POLICY = b"content-security-policy"
# Data is not a page: it loads nothing, and no other page shows it in a frame.
_OF_DATA = (_POLICY, b"default-src 'none'; frame-ancestors 'none'")
# Swagger UI comes from this process alone. Its page starts it by a script in the page, and it sets styles by itself.
_OF_DOCS = (
    _POLICY,
    b"default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    b"frame-ancestors 'none'",
)
_DOCS = "/docs"


class SecurityHeaders:
    """ASGI: adds the headers; a route's own header of the same name stays and is not sent twice."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to one answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        policy = _OF_DOCS if path == _DOCS or path.startswith(_DOCS + "/") else _OF_DATA

        async def mark(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message.get("headers", ())
                names = {name for name, _ in given}
                added = [header for header in (*_ALWAYS, policy) if header[0] not in names]
                message["headers"] = [*given, *added]
            await send(message)

        await self.app(scope, receive, mark)
