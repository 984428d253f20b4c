"""Errors of base models."""

from __future__ import annotations

from models.errors import GraftError, InvalidRequest, Unavailable


class UnknownBaseModel(InvalidRequest):
    """No entry of this name in the registry."""

    param = "model"
    message = "There is no base model '{name}'. {hint}"


class NoBaseModel(InvalidRequest):
    """No base model here reads what the data set holds."""

    param = "model"
    message = (
        "This service has no base model that reads {modality}. Its operator adds one to the file that "
        "GRAFT_BASE_MODELS_FILE names: "
        '{{"a-name": {{"modality": "{modality}", "source": {{"folder": "…"}}, "licence": "…"}}}}.'
    )


class BaseModelUnreachable(Unavailable):
    """The entry exists, its weights cannot be read."""

    param = "model"
    message = "The base model '{name}' cannot be loaded from {source}: {reason}. {mend}"


class UnsupportedBaseModel(GraftError):
    """The weights are there, but the architecture has no blocks that Graft could freeze and share."""

    message = (
        "The base model '{name}' has the architecture {architecture}, which is not a stack of encoder blocks that "
        "can be used here. Use an encoder such as BERT for texts, MobileNet, ResNet, ViT or DINOv2 for pictures, "
        "YAMNet, AST or wav2vec 2.0 for sounds."
    )


class InvalidBaseModelsFile(GraftError):
    """The operator's file of further base models cannot be read."""

    message = "The base models file {path} is not valid: {reason}"


class Stopped(GraftError):
    """The caller asked a long computation to stop, and it did."""

    message = "Stopped on request."
