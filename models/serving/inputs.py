"""Decoding of requests into a model's inputs: JSON values and uploaded files, by the modality of the task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from models.datasets import tasks as data_tasks
from models.datasets.examples import Input, Media, TextPair
from models.datasets.limits import Limits
from models.datasets.media import inputs as media
from models.datasets.media.encodings import Medium
from models.serving.errors import InvalidInput

# A JSON value, or the Media that came as a file; the name of the parameter, for errors; limits → the input.
Reader = Callable[[Any, str, Limits], Input]


def read_text(value: Any, param: str, limits: Limits) -> Input:
    """Return one text; raises InvalidInput."""
    if isinstance(value, Media):
        reason = f'{param} is a file, and this model reads text: send JSON, {{"inputs": ["…"]}}.'
        raise InvalidInput(reason=reason, param=param)
    if not isinstance(value, str):
        raise InvalidInput(reason=f"{param} must be a text, it is {_kind(value)}.", param=param)
    if not value or value.isspace():
        raise InvalidInput(reason=f"{param} is empty.", param=param)
    if len(value) > limits.max_text_chars:
        reason = f"{param} has {len(value)} characters, at most {limits.max_text_chars} are read."
        raise InvalidInput(reason=reason, param=param)
    return value


def read_pair(value: Any, param: str, limits: Limits) -> Input:
    """Return two texts from `{"text": …, "text_pair": …}`; raises InvalidInput."""
    if not isinstance(value, dict) or set(value) != {"text", "text_pair"}:
        reason = f'{param} must be {{"text": "…", "text_pair": "…"}}: this model was trained on pairs.'
        raise InvalidInput(reason=reason, param=param)
    first, second = (read_text(value[name], f"{param}.{name}", limits) for name in ("text", "text_pair"))
    return TextPair(str(first), str(second))


def read_image(value: Any, param: str, limits: Limits) -> Input:
    """Return a picture, decoded on trial; raises InvalidMedia."""
    return _read_media(value, "image", param, limits)


def read_audio(value: Any, param: str, limits: Limits) -> Input:
    """Return a sound, decoded on trial; raises InvalidMedia."""
    return _read_media(value, "audio", param, limits)


# By the modality of the task.
READERS: dict[str, Reader] = {"text": read_text, "image": read_image, "audio": read_audio}
# Decoding takes milliseconds, or seconds: it is done on a thread, not on the event loop.
_SLOW_MODALITIES = frozenset({"image", "audio"})


def is_slow_to_read(task: str) -> bool:
    """Return whether reading one input of the task takes milliseconds."""
    return data_tasks.TASKS[task].modality in _SLOW_MODALITIES


def _read_media(value: Any, medium: Medium, param: str, limits: Limits) -> Media:
    if isinstance(value, Media):
        return media.from_upload(value.data, value.name, medium, limits, param=param)
    return media.from_json(value, medium, limits, param=param)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")
