"""Errors of the command line, printed instead of a traceback."""

from __future__ import annotations

from typing import Any

from models.errors import GraftError

TO_UTF8 = "Convert it: iconv -f latin1 -t utf-8."


class CommandError(GraftError):
    """A command that cannot be carried out; the message says what to do."""

    message = "{reason}"


class NoKey(CommandError):
    """No key in an option, the environment or the configuration file."""

    message = "No key for {server}. Pass --key, set {variable}, or keep it with `graft login`."


class NotText(CommandError):
    """An argument with bytes that are not UTF-8: it cannot be sent."""

    message = "{text!r} is not UTF-8, and cannot be sent. " + TO_UTF8


class ServerUnreachable(CommandError):
    """A server that does not answer."""

    message = "Cannot reach {server} ({reason}). Is it running? `graft up` starts one here; --server names another."


class ServerSilent(CommandError):
    """A server that took the request and has not answered it yet."""

    message = (
        "{server} has taken the request and not answered within {seconds:.0f} s. It may still be at work; try again."
    )


class NotGraft(CommandError):
    """A server that answers, but is not Graft."""

    message = "{server} answered {status} with something that is not Graft's: {start!r}"


class ApiRefused(CommandError):
    """An error that the API answered with; it is shown as the API words it, with its details."""

    message = "{reason}"

    def __init__(self, status: int, error: dict[str, Any], request_id: str | None) -> None:
        self.http_status = status
        self.error = error
        self.request_id = request_id
        super().__init__(reason=error.get("message") or f"The server answered {status}.", details=error.get("details"))

    @property
    def code(self) -> str:
        """The API's own code for the error."""
        return str(self.error.get("code") or self.http_status)
