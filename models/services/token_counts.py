"""Tokens of a file's rows, as the base that writes counts them: told at upload, without torch."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from models.backbones import registry, sources
from models.backbones.chat_template import ChatTokenizer
from models.backbones.errors import BaseModelUnreachable
from models.datasets.errors import OpenAnswers
from models.datasets.examples import Answer, Conversation, DatasetProfile
from models.datasets.reading import read
from models.datasets.tasks.text_generation import NAME
from models.settings import Settings

_COUNTED = 2_000  # rows: a second at most
_SHOWN = 20


def warnings(settings: Settings, path: Path, found: DatasetProfile, *, stated: bool) -> list[dict[str, Any]]:
    """Return how many tokens the rows have, and which exceed what the default base reads; [] for other tasks.

    A base that is not on this machine yet is not unpacked for it: a note says that counts follow.

    Raises OpenAnswers for a file that was taken for one to write from where no base writes; `stated`: its task was.
    """
    if found.task != NAME:
        return []
    entry = registry.default_for(settings, "text", "decoder")
    try:
        registry.check(entry)
    except BaseModelUnreachable as error:
        if stated:
            return []  # another base may be meant; the job says
        advice = f"That needs a base model that writes. {error}"
        raise OpenAnswers(distinct="many", rows=found.rows, advice=advice) from None
    folder = sources.installed(entry.source)
    if folder is None or not (folder / "tokenizer.json").is_file():
        message = f"Tokens are counted when a job begins: '{entry.name}' has not been unpacked on this machine yet."
        return [{"code": "tokens_not_counted", "message": message, "base": entry.name}]
    tokenizer = _tokenizer(folder)
    long: list[int] = []
    counts: list[int] = []
    for example in read(path, format=found.format, task=found.task, columns=found.columns):
        if len(counts) == _COUNTED:
            break
        assert isinstance(example.input, Conversation)  # noqa: S101  (what the task's parse makes)
        assert isinstance(example.target, Answer)  # noqa: S101
        counts.append(_count(tokenizer, example.input, example.target))
        if counts[-1] > entry.max_tokens:
            long.append(example.row)
    of = "" if found.rows <= _COUNTED else f" of the first {_COUNTED} rows"
    message = f"{sum(counts)} tokens{of} on '{entry.name}', {max(counts)} in the longest row."
    notes = [{"code": "tokens", "message": message, "count": sum(counts), "longest": max(counts), "base": entry.name}]
    if long:
        listed = ", ".join(map(str, long[:_SHOWN])) + (", …" if len(long) > _SHOWN else "")
        message = (
            f"Rows of more than the {entry.max_tokens} tokens that '{entry.name}' reads: {len(long)}, rows {listed}. "
            "They are cut; with long_rows='refuse' the job is refused instead."
        )
        notes.append({"code": "truncated", "message": message, "count": len(long), "base": entry.name, "rows": long})
    return notes


def _count(tokenizer: ChatTokenizer, conversation: Conversation, answer: Answer) -> int:
    if conversation.form == "text":
        return len(tokenizer.encode_text(answer.text))
    messages = [*json.loads(conversation.messages), {"role": "assistant", "content": answer.text}]
    tools = json.loads(conversation.tools) if conversation.tools else None
    try:
        return len(tokenizer.encode_chat(messages, tools=tools, add_generation_prompt=False))
    except ValueError:
        return 0  # another base's template may take it: the job says


@lru_cache(maxsize=2)
def _tokenizer(folder: Path) -> ChatTokenizer:
    return ChatTokenizer(folder)
