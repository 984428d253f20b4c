"""Errors of answering, by class."""

from __future__ import annotations

from models.errors import Conflict, GraftError, InvalidRequest, RateLimited, Unavailable


class QueueFull(RateLimited):
    """Too many waiting rows of one customer: 429 with `retry-after`."""

    message = "{waiting} rows of yours are waiting and {limit} may; {rows} more do not fit. Try again in {seconds} s."


class InvalidInput(InvalidRequest):
    """An input that cannot be read: 400, `param` names it (`inputs[3]`)."""

    message = "{reason}"


class ArtifactBroken(Unavailable):
    """Files of a version that are missing or do not match their manifest: 503, for this model alone."""

    message = "The files of the model '{model}' (version {version}) cannot be used: {reason}."


class DeviceMemoryFull(Unavailable):
    """A GPU without the memory that the request needs: 503, nothing is wrong with the model."""

    message = (
        "The GPU's memory is full: {what} does not fit beside what is in use. Try again, or ask the operator to lower "
        "GRAFT_ADAPTER_MEMORY_BYTES or GRAFT_BATCH_TOKENS."
    )


class PassFailed(GraftError):
    """A pass ended in a way that no part of it foresees: 500; the log has the traceback."""


class ShuttingDown(Unavailable):
    """A predictor that is closing: 503, another one answers."""

    message = "This predictor is shutting down. Try again."


class MissingLibrary(Unavailable):
    """A library of the extra `generation` that this installation lacks: 503."""

    message = "{what} needs the library {package}, which is not installed here: pip install 'graft[generation]'."


class ContextLengthExceeded(InvalidRequest):
    """A conversation longer than the base reads: 400, in OpenAI's words."""

    message = (
        "This model's maximum context length is {most} tokens. However, you requested {asked} tokens ({prompt} in the "
        "messages, {completion} in the completion). Please reduce the length of the messages or completion."
    )


class GenerationUnavailable(Unavailable):
    """The server that writes answers is down or overloaded: 503 with `retry-after`."""

    message = "The server that writes answers is not available: {reason}. Try again in a few seconds."
    retry_after_s = 5.0


class GenerationMisconfigured(Unavailable):
    """The server that writes answers is not set up for Graft: 503, and a task for the operator."""

    message = "The server that writes answers is not set up for this: {reason}. The operator has to mend it."
    retry_after_s = 30.0


class GenerationInterrupted(Unavailable):
    """The server that writes answers has ended an answer in its middle: 503."""

    message = "The server that writes answers broke off ({reason}). Ask again."


class OwnBlocksNotServed(Conflict):
    """A version with blocks of its own, where a server of low-rank matrices writes: 409."""

    param = "model"
    message = (
        "Version {version} of '{model}' has blocks of its own (strategy {strategy}), and the server that writes "
        "answers here takes low-rank matrices only. Train the model with the strategy lora or auto."
    )


def is_servers_fault(error: BaseException) -> bool:
    """Return whether an error is none that the caller can mend: what it ended is not counted."""
    return not isinstance(error, GraftError) or error.status >= 500
