"""What can go wrong with a base model."""

from __future__ import annotations

from models.errors import GraftError, InvalidRequest, Unavailable


class UnknownBaseModel(InvalidRequest):
    """No entry of this name in the registry."""

    param = "model"
    message = "There is no base model '{name}'. {hint}"


class BaseModelUnreachable(Unavailable):
    """The entry exists, its weights do not answer."""

    param = "model"
    message = "The base model '{name}' cannot be loaded from {source}: {reason}. {mend}"


class UnsupportedBaseModel(GraftError):
    """The weights are there, but the architecture has no blocks that Graft could freeze and share."""

    message = (
        "The base model '{name}' has the architecture {architecture}, which is not a stack of encoder blocks. "
        "Use an encoder such as BERT, RoBERTa, ELECTRA or DistilBERT."
    )


class InvalidBaseModelsFile(GraftError):
    """The operator's file of further base models cannot be read."""

    message = "The base models file {path} is not valid: {reason}"


class Stopped(GraftError):
    """The caller asked a long computation to stop, and it did."""

    message = "Stopped on request."
