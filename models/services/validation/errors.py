"""Errors of validations that end without having read the file."""

from __future__ import annotations

from models.datasets.errors import InvalidDataset
from models.errors import InvalidRequest, RateLimited, Unavailable


class ValidationTimeout(InvalidDataset):
    """A file that takes longer to read than one may."""

    reason = "'{filename}' could not be read within {limit:g} seconds of computing time ({clock:g} by the clock)."
    mend = "Split it over several files, or upload a random sample of its rows; smaller pictures read faster."


class ValidationMemory(InvalidDataset):
    """A file that takes more memory to read than one may."""

    reason = "'{filename}' takes more than {limit} bytes of memory to read."
    mend = "Write smaller row groups (row_group_size=10000), shorter texts, smaller pictures, or several files."


class UnreadableFile(InvalidDataset):
    """A file that ends the process that reads it, twice."""

    reason = "The process that read '{filename}' ended without an answer, twice ({how})."
    mend = "Write the file again, with another program or as CSV; if that is refused too, tell the operator."


class ValidationUnavailable(Unavailable):
    """No process can be started to read files in: 503."""

    message = "Files cannot be read at the moment. It is not your file's fault; try again."
    retry_after_s = 5.0


class ValidationAbandoned(InvalidRequest):
    """Nobody waits for the answer any more; it is for the access log."""

    status = 499
    message = "The client closed the connection before its file was read."


class TooManyUploads(RateLimited):
    """The customer has as many uploads under way as one may have: 429."""

    message = "You have {count} uploads under way, and {limit} may be at a time. Send it when another is answered."


class UploadsBusy(RateLimited):
    """All customers together have as many uploads under way as there may be: 429."""

    message = "{count} uploads are under way, as many as there may be at a time. Try again in a moment."
