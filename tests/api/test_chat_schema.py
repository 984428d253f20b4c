"""Requests for chat completions as clients send them: a history is echoed, other models' fields come along."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from api import classified_input
from api.errors import InvalidBody
from api.schemas.chat import CreateChatCompletion


def asked(*messages: dict[str, Any], **fields: Any) -> str:
    body = CreateChatCompletion.model_validate({"model": "tickets", "messages": messages, **fields})
    return classified_input.asked(body, "text").value


def test_fields_that_are_null_are_as_good_as_absent() -> None:
    echoed = dict.fromkeys(("refusal", "annotations", "audio", "function_call", "tool_calls", "of_tomorrow"))
    history = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "greeting", **echoed}]
    assert asked(*history, {"role": "user", "content": "bye", "name": None}) == "bye"


def test_calls_of_tools_are_read_over() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {}}]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "17 degrees"}
    assert asked({"role": "user", "content": "weather"}, call, result) == "weather"


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function", "function": {"name": "look_up"}}], "tool_choice": "auto"},
        {"parallel_tool_calls": False, "reasoning_effort": "low"},
        {"logit_bias": {"50256": -100}, "modalities": ["text"]},
    ],
)
def test_what_steers_other_models_has_no_effect(fields: dict[str, Any]) -> None:
    assert asked({"role": "user", "content": "hello"}, **fields) == "hello"


def test_parts_are_joined_as_in_training() -> None:
    parts = [{"type": "text", "text": text} for text in ("where", "is ", "it")]
    assert asked({"role": "user", "content": parts}) == "where\nis it"


def test_only_the_message_that_is_classified_has_to_be_text() -> None:
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}
    assert asked(picture, {"role": "assistant", "content": "x"}, {"role": "user", "content": "and now?"}) == "and now?"
    mixed = {"role": "user", "content": [*picture["content"], {"type": "text", "text": "this?"}]}
    with pytest.raises(InvalidBody, match="image_url"):
        asked({"role": "user", "content": "hello"}, mixed)
    with pytest.raises(ValidationError, match="novel"):
        asked({"role": "user", "content": "hello", "novel": 1})
