"""Domain errors: the class is the code, the data makes the message, one handler in `api` renders them.

`raise TooFewRows(label="refund", minimum=2, got=1)`. Every package keeps its errors beside its code and derives
them from the bases here, which carry the HTTP status and the error type of the wire format. `JobError` is the form in
which an error stays with the job that it ended.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

Blame = Literal["user", "server"]


class GraftError(Exception):
    """A failure that a caller can understand. Subclasses set `message`, a format string over the keyword arguments."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    message: ClassVar[str] = "The server had an error. It is not your fault; try again."
    param: str | None = None

    def __init__(self, *, param: str | None = None, details: list[dict[str, Any]] | None = None, **data: Any) -> None:
        self.data = data
        self.details = details or []
        self.param = param if param is not None else type(self).param
        super().__init__(self.message.format(**data))

    def anew(self) -> Self:
        """Return the same error as another object: one that is kept would gather the frames of everybody it reaches."""
        again = type(self).__new__(type(self), *self.args)
        again.__dict__.update(self.__dict__)
        return again

    @property
    def code(self) -> str:
        """The error's stable name on the wire: the class name in snake case."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    def as_dict(self) -> dict[str, Any]:
        """Return the `error` object of the wire format."""
        body: dict[str, Any] = {"message": str(self), "type": self.type, "param": self.param, "code": self.code}
        if self.details:
            body["details"] = self.details
        return body


class InvalidRequest(GraftError):
    """An error that the caller can correct: 400."""

    status = 400
    type = "invalid_request_error"
    message = "{reason}"


class NotFound(InvalidRequest):
    """An object that does not exist, or not for this customer: 404, the same body for both."""

    status = 404
    message = "No such {kind}: '{id}'."


class Conflict(InvalidRequest):
    """A request that cannot be done in the present state: 409."""

    status = 409
    message = "{reason}"


class Unauthenticated(GraftError):
    """A request without a valid key: 401."""

    status = 401
    type = "authentication_error"
    message = "{reason}"


class Forbidden(GraftError):
    """A valid key that may not do this: 403."""

    status = 403
    type = "permission_error"
    message = "{reason}"


class TooLarge(InvalidRequest):
    """The body is over a limit: 413."""

    status = 413
    message = "{reason}"


class RateLimited(GraftError):
    """Too many requests, or the queue is full: 429 with `retry-after`."""

    status = 429
    type = "rate_limit_error"
    message = "{reason}"

    def __init__(self, *, retry_after_s: float = 1.0, **data: Any) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(**data)


class Unavailable(GraftError):
    """A service that cannot be reached right now: 503 with `retry-after`."""

    status = 503
    type = "server_error"
    message = "{reason}"
    retry_after_s: float = 2.0


@dataclass(frozen=True, slots=True)
class JobError:
    """The reason why a job or one attempt at it failed, in words that its customer may read."""

    code: str
    message: str
    blame: Blame = "server"  # "user": the data or the settings; the job is not tried again
    param: str | None = None
    details: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of(cls, error: GraftError, *, blame: Blame | None = None) -> JobError:
        """Describe a domain error: an InvalidRequest is the user's fault, any other the server's, unless it is said."""
        blame = blame or ("user" if isinstance(error, InvalidRequest) else "server")
        return cls(error.code, str(error), blame, error.param, tuple(error.details))

    def as_dict(self) -> dict[str, Any]:
        """Return the job's `error` object."""
        body: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "param": self.param,
            "blame": self.blame,
        }
        return {**body, "details": list(self.details)} if self.details else body

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> JobError:
        """Read what `as_dict` returned. Raises KeyError without a code or a message."""
        return cls(
            code=body["code"],
            message=body["message"],
            blame=body.get("blame") or "server",
            param=body.get("param"),
            details=tuple(body.get("details") or ()),
        )
