"""From a row's output to the prediction that goes over the wire, and from a JSON input to what the base reads.

One entry per task. The numbers are those of the head after its activation: probabilities, or a value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from models.datasets.examples import Input, Media, TextPair
from models.datasets.limits import Limits
from models.datasets.media import inputs as media
from models.datasets.media.encodings import Medium
from models.datasets.tasks import kind
from models.learning import tasks
from models.learning.tasks import spans
from models.learning.tasks.task import Read
from models.serving.adapters.adapter import Adapter
from models.serving.encoders.input_modes import InputMode
from models.serving.encoders.requests import Floats, Request
from models.serving.errors import InvalidInput

# What is decoded on the event loop: up to 1 ms where labels are told, up to 5 where words are tagged one by one.
INLINE_VALUES = 4_096

# Labels with scores in one answer: about 10 MB of JSON. 2,048 inputs of 1,000 labels would be 100 MB.
MOST_LABELS_SHOWN = 200_000

Decoder = Callable[[Request, int], list[dict[str, Any]]]
Reader = Callable[[Any, str, Limits], Input]


@dataclass(frozen=True, slots=True)
class ServedTask:
    """What serving knows of a task. `activation` names one of `heads.ACTIVATIONS`."""

    activation: str
    read: Reader  # (JSON value or the Media that came as a file, param, limits) → input
    decode: Decoder  # (answered request, top_k) → predictions
    reads_long: bool = False  # reading takes milliseconds: not on the event loop
    shows: Literal["top", "all", "few"] = "few"  # of the labels: the `top_k` best, all, or what there is to say


def read_text(value: Any, param: str, limits: Limits) -> Input:
    """One text; raises InvalidInput."""
    if not isinstance(value, str):
        raise InvalidInput(reason=f"{param} must be a text, it is {_kind(value)}.", param=param)
    if not value or value.isspace():
        raise InvalidInput(reason=f"{param} is empty.", param=param)
    if len(value) > limits.max_text_chars:
        reason = f"{param} has {len(value)} characters, at most {limits.max_text_chars} are read."
        raise InvalidInput(reason=reason, param=param)
    return value


def read_picture(value: Any, param: str, limits: Limits) -> Input:
    """A picture, decoded on trial; raises InvalidMedia."""
    return _read_media(value, "image", param, limits)


def read_sound(value: Any, param: str, limits: Limits) -> Input:
    """A sound, decoded on trial; raises InvalidMedia."""
    return _read_media(value, "audio", param, limits)


def read_pair(value: Any, param: str, limits: Limits) -> Input:
    """Two texts as `{"text": …, "text_pair": …}`; raises InvalidInput."""
    if not isinstance(value, dict) or set(value) != {"text", "text_pair"}:
        reason = f'{param} must be {{"text": "…", "text_pair": "…"}}: this model was trained on pairs.'
        raise InvalidInput(reason=reason, param=param)
    first, second = (read_text(value[name], f"{param}.{name}", limits) for name in ("text", "text_pair"))
    return TextPair(str(first), str(second))


def read_inputs(
    task: ServedTask,
    reading: InputMode,
    inputs: Sequence[Any],
    *,
    labels: int,
    top_k: int,
    max_inputs: int,
    limits: Limits,
) -> list[Input]:
    """All inputs of a request to a model of so many labels; raises InvalidInput, whose `param` names what is wrong."""
    if not 1 <= len(inputs) <= max_inputs:
        raise InvalidInput(reason=f"inputs holds {len(inputs)}, 1 to {max_inputs} are accepted.", param="inputs")
    _check_size(task, len(inputs), labels, top_k)
    read = read_pair if reading == "pair" else task.read
    return [read(value, f"inputs[{index}]", limits) for index, value in enumerate(inputs)]


def decode_single(request: Request, top_k: int) -> list[dict[str, Any]]:
    """The most probable label of each row, and the `top_k` best."""
    tops = _tops(request.adapter, request.outputs, top_k)
    return [{"label": top[0]["label"], "score": top[0]["score"], "top": top} for top in tops]


def decode_multi(request: Request, top_k: int) -> list[dict[str, Any]]:
    """Every label over its threshold, most probable first; all scores by label; the `top_k` best."""
    adapter, outputs = request.adapter, request.outputs
    thresholds = adapter.thresholds or (0.5,) * len(adapter.labels)
    predictions = []
    for top, output in zip(_tops(adapter, outputs, top_k), outputs, strict=True):
        scores = output.tolist()
        chosen = [at for at, score in enumerate(scores) if score >= thresholds[at]]
        chosen.sort(key=scores.__getitem__, reverse=True)
        predictions.append(
            {
                "labels": [adapter.labels[at] for at in chosen],
                "scores": dict(zip(adapter.labels, scores, strict=True)),
                "top": top,
            }
        )
    return predictions


def decode_each(request: Request, top_k: int) -> list[dict[str, Any]]:
    """Row by row, as the task itself says it."""
    adapter = request.adapter
    task = tasks.find(adapter.task)
    thresholds = np.array(adapter.thresholds, dtype=np.float32) if adapter.thresholds else None
    return [
        task.decode(output, adapter.labels, thresholds, top_k, Read(item, request.rows.get(index)))
        for index, (output, item) in enumerate(zip(request.outputs, request.inputs, strict=True))
    ]


def decode_spans(request: Request, top_k: int) -> list[dict[str, Any]]:  # noqa: ARG001  (every span is told)
    """The spans of each row, in the order of the text."""
    words = [request.rows[index].spans_W2 for index in range(len(request.outputs))]
    texts = [str(item) for item in request.inputs]
    found = spans.read_out_all(request.outputs, words, texts, request.adapter.labels)
    return [{"spans": row} for row in found]


def decodes_at_once(request: Request) -> bool:
    """Whether decoding is less work than handing it to a thread and back."""
    return sum(output.size for output in request.outputs) <= INLINE_VALUES


TASKS: dict[str, ServedTask] = {
    "text-classification": ServedTask("softmax", read_text, decode_single, shows="top"),
    "multi-label-classification": ServedTask("sigmoid", read_text, decode_multi, shows="all"),
    "image-classification": ServedTask("softmax", read_picture, decode_single, reads_long=True, shows="top"),
    "audio-classification": ServedTask("softmax", read_sound, decode_single, reads_long=True, shows="top"),
    "text-regression": ServedTask("identity", read_text, decode_each),
    "token-classification": ServedTask("softmax", read_text, decode_spans),
}


def served(task: str) -> ServedTask:
    """What serving knows of a task; its own entry, or that of the task as which it is learned."""
    return TASKS[kind(task)]


def _check_size(task: ServedTask, rows: int, labels: int, top_k: int) -> None:
    """Raises InvalidInput for a request whose answer would be too large."""
    shown = {"top": min(top_k, labels), "all": labels, "few": 0}[task.shows]
    if rows == 1 or rows * shown <= MOST_LABELS_SHOWN:
        return
    fewer = f"Send at most {max(1, MOST_LABELS_SHOWN // shown)} inputs"
    if task.shows == "all":
        how, param = f"all {labels} labels of this model are told for each input. {fewer}.", "inputs"
    else:
        how = f"top_k is {top_k}. {fewer}, or ask for a top_k of at most {max(1, MOST_LABELS_SHOWN // rows)}."
        param = "top_k"
    reason = f"The answer would hold {rows * shown} scores, at most {MOST_LABELS_SHOWN} are sent: {how}"
    raise InvalidInput(reason=reason, param=param)


def _tops(adapter: Adapter, outputs: Sequence[Floats], top_k: int) -> list[list[dict[str, Any]]]:
    labels = adapter.labels
    count = min(top_k, len(labels))
    if count == 1:
        # The usual question, mostly of one row: a fifth of the event loop's time went into doing it as a table. Not by
        # numpy's argmax either: it lets go of the interpreter's lock, and busy lanes are slow to give it back.
        scores = [output.tolist() for output in outputs]
        best = [(max(row), row) for row in scores]
        return [[{"label": labels[row.index(score)], "score": score}] for score, row in best]
    scores_BK = np.stack(outputs)
    # Stable, so that equal scores come in the order of the labels.
    best_BC = np.argsort(-scores_BK, axis=1, kind="stable")[:, :count]
    values_BC = np.take_along_axis(scores_BK, best_BC, axis=1).tolist()
    return [
        [{"label": labels[at], "score": score} for at, score in zip(row, values, strict=True)]
        for row, values in zip(best_BC.tolist(), values_BC, strict=True)
    ]


def _read_media(value: Any, medium: Medium, param: str, limits: Limits) -> Media:
    if isinstance(value, Media):
        return media.from_upload(value.data, value.name, medium, limits, param=param)
    return media.from_json(value, medium, limits, param=param)


def _kind(value: Any) -> str:
    if isinstance(value, Media):
        return "a file"
    names = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")
