"""Errors of base models."""

from __future__ import annotations

from models.errors import GraftError, InvalidRequest, Unavailable


class UnknownBaseModel(InvalidRequest):
    """A base model whose name has no entry in the registry."""

    param = "model"
    message = "There is no base model '{name}'. {hint}"


class NoBaseModel(InvalidRequest):
    """A data set that none of the base models here reads."""

    param = "model"
    message = (
        "This service has no base model that reads {modality}. Its operator adds one with `graft base-models add`, or "
        "in the file that GRAFT_BASE_MODELS_FILE names: "
        '{{"a-name": {{"modality": "{modality}", "source": {{"folder": "…"}}, "licence": "…"}}}}.'
    )


class BaseModelUnreachable(Unavailable):
    """An entry whose weights cannot be read."""

    param = "model"
    message = "The base model '{name}' cannot be loaded from {source}: {reason}. {mend}"


class UnsupportedBaseModel(GraftError):
    """A base model whose architecture has no blocks that Graft could freeze and share."""

    message = (
        "The base model '{name}' has the architecture {architecture}, which is not a stack of encoder blocks that "
        "can be used here. Use an encoder such as BERT for texts, MobileNet, ResNet, ViT or DINOv2 for pictures, "
        "YAMNet, AST or wav2vec 2.0 for sounds."
    )


class UnsupportedDecoder(GraftError):
    """A base model that is to write and whose network cannot be computed here."""

    message = (
        "The base model '{name}' has the architecture {architecture}, which cannot write here. Use one like Llama's: "
        "Llama, SmolLM2, Mistral, Qwen2, Qwen2.5 or Qwen3, without experts."
    )


class UnsupportedDetector(GraftError):
    """A base model that is to find boxes itself and that cannot be trained here."""

    message = (
        "The base model '{name}' has the architecture {architecture}, which cannot be taught to find boxes here. Use "
        "RT-DETR or D-FINE, or a convolutional picture base such as MobileNet or ResNet."
    )


class InvalidBaseModelsFile(GraftError):
    """A file of further base models, the operator's, that cannot be read."""

    message = "The base models file {path} is not valid: {reason}"


class UnwritableBaseModelsFile(GraftError):
    """A file of further base models that cannot be changed."""

    message = "The base models file {path} cannot be written: {reason}. Run this where the operator keeps it."


class BaseModelRetired(InvalidRequest):
    """A job on a base that its operator took out of use: what was trained on it goes on serving."""

    param = "model"
    message = "The base model '{name}' is retired: models on it go on answering, but no new job starts from it. {hint}"


class Stopped(GraftError):
    """The end of a long computation that its caller asked to stop."""

    message = "Stopped on request."
