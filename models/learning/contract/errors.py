"""Errors of learning. `InvalidRequest` means the customer can mend it, everything else is ours."""

from __future__ import annotations

from models.backbones.errors import Stopped
from models.errors import GraftError, InvalidRequest

__all__ = ["Stopped"]  # one and the same: encoding and learning end alike when they are asked to


class InvalidHyperparameters(InvalidRequest):
    """A hyperparameter has a value that makes no sense for this base model or this data."""

    param = "hyperparameters"
    message = "{name} = {value}: {reason}"


class UnknownLabel(InvalidRequest):
    """The validation file has a label that no training row carries."""

    param = "validation_file"
    message = "Row {row} of the validation file has the label '{label}', which no training row has."


class TooFewRows(InvalidRequest):
    """Nothing can be learned, or nothing can be held out to measure it."""

    param = "training_file"
    message = (
        "{got} rows with {kinds} different targets are too few: at least four rows and two targets are needed.{rare}"
    )


class UnevenPairs(InvalidRequest):
    """The rows of one file have a second text and those of the other have not."""

    param = "validation_file"
    message = "{pairs} of the {rows} rows in both files have a text_pair. Give all rows one, or none."


class UnsupportedTask(InvalidRequest):
    """The task is not in the table."""

    param = "task"
    message = "There is no task '{task}'. Known: {known}."


class Diverged(GraftError):
    """The loss became infinite or not a number."""

    message = "Training diverged in epoch {epoch} at learning rate {learning_rate:g}. A lower learning rate helps."


class NotAWriter(InvalidRequest):
    """A job on answers in words on a base that does not write."""

    param = "model"
    message = "A text-generation job needs a base model that writes: {reason}. Use one of: {known}."


class RowsTooLong(InvalidRequest):
    """Rows that exceed what the base reads, where they are not to be cut."""

    param = "training_file"
    message = (
        "Rows of more than the {limit} tokens that the base model reads: {count}, rows {rows}. Shorten them, or pass "
        "long_rows='cut'."
    )


class NothingFits(InvalidRequest):
    """Rows that are too long for anything of their answers to be read."""

    param = "training_file"
    message = (
        "Only {rows} rows have an answer within the {limit} tokens that the base model reads. Shorten the messages."
    )


class NoLinearLayers(InvalidRequest):
    """Low-rank adaptation stands beside linear layers, and the base has none: a network of convolutions."""

    param = "strategy"
    message = (
        "The strategy 'lora' needs linear layers, and the base model '{base}' has none. Use auto, head, partial or "
        "full."
    )


class NoMaps(InvalidRequest):
    """A job on boxes in pictures on a base that knows no places: of tokens, of texts, of sounds."""

    param = "model"
    message = (
        "Boxes are found on the maps of a convolutional picture base (MobileNet, ResNet, RegNet, ConvNeXT), and the "
        "base model '{base}' has none. Use mobilenet-v2, or leave the model out."
    )


class UnsupportedStrategy(InvalidRequest):
    """A strategy that a task does not have on such a base."""

    param = "strategy"
    message = "The strategy '{strategy}' is not one of {task} on the base model '{base}'. Use one of: {known}."


class UnsupportedMethod(InvalidRequest):
    """A method of models that write, for a task whose models do not write."""

    param = "method"
    message = (
        "The method '{method}' learns which of two written answers is preferred, and {task} writes none. Leave the "
        "method out, or use 'supervised'."
    )
