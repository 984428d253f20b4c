"""Decoding of outputs into the predictions that go over the wire, by the task alone."""

from __future__ import annotations

import asyncio
from typing import Any

from models.learning.tasks.task import AnsweredTask, DecodeOptions
from models.serving.errors import InvalidInput
from models.serving.runner import Answered, ServedAdapter

# What is decoded on the event loop: up to 1 ms for labels, up to 5 where words are tagged one by one.
INLINE_VALUES = 4_096

# Labels with scores in one answer: about 10 MB of JSON. 2,048 inputs of 1,000 labels would be 100 MB.
MOST_SCORES = 200_000


async def decode(
    task: AnsweredTask,
    adapter: ServedAdapter,
    answered: Answered,
    *,
    top_k: int | None = None,
    min_score: float | None = None,
) -> list[dict[str, Any]]:
    """Return one prediction per input. On a thread if that is more work than handing it to one and back."""
    arguments = (
        answered.outputs,
        answered.inputs,
        answered.rows,
        DecodeOptions(adapter.labels, adapter.thresholds, top_k or 1, top_k, min_score, adapter.scale),
    )
    if answered.values <= INLINE_VALUES:
        return task.decode(*arguments)
    return await asyncio.to_thread(task.decode, *arguments)


def check_options(task: AnsweredTask, *, top_k: int | None, min_score: float | None) -> None:
    """Raise InvalidInput for an option that has no effect on the task's answers; its `param` names it."""
    for name, value, what in (("top_k", top_k, "labels and boxes"), ("min_score", min_score, "boxes")):
        if value is not None and name not in task.answer_options:
            reason = f"{name} limits {what}; this model's answers ({task.name}) have none to limit. Leave it out."
            raise InvalidInput(reason=reason, param=name)


def check_size(task: AnsweredTask, *, inputs: int, labels: int, top_k: int) -> None:
    """Raise InvalidInput for a request whose answer would be too large; its `param` names what to reduce."""
    scores = {"top_k": min(top_k, labels), "all": labels, "none": 0}[task.scored_labels]
    if inputs == 1 or inputs * scores <= MOST_SCORES:
        return
    fewer = f"Send at most {max(1, MOST_SCORES // scores)} inputs"
    if task.scored_labels == "all":
        how, param = f"all {labels} labels of this model are listed for each input. {fewer}.", "inputs"
    else:
        how = f"top_k is {top_k}. {fewer}, or ask for a top_k of at most {max(1, MOST_SCORES // inputs)}."
        param = "top_k"
    reason = f"The answer would hold {inputs * scores} scores, at most {MOST_SCORES} are sent: {how}"
    raise InvalidInput(reason=reason, param=param)
