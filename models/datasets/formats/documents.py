"""Whole documents where one row per line is expected: JSON of one piece, and what annotation tools export.

Each is refused with the one command that makes rows of it. What the commands write is read as it is.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import PurePath
from typing import Any

from models.datasets.errors import WrongFormat

_ROW_KEYS = {"text", "label", "labels", "messages", "conversations", "tokens", "prompt", "sentence", "spans"}
_FIRST_LIST = re.compile(r'"([^"\\]+)"\s*:\s*\[\s*\{')
_RASA_YAML = re.compile(r"^(version:[^\n]*\n\s*)?nlu:\s*$|^ ?-\s*intent:\s*\S", re.MULTILINE)
_RASA_MARKDOWN = re.compile(r"^## ?intent:", re.MULTILINE)
# Marked entities, `[Berlin](city)` and `[Berlin]{"entity": "city"}`, become their text.
_UNMARK = r'gsub(/\]\([^)]*\)|\]\{[^}]*\}/,"");gsub(/\[/,"")'
_YAML_ROWS = (
    r"""awk 'BEGIN{print "label\ttext"} /^ ? ?- *intent:/{label=$NF;next} /^ ? ?- *[a-z]+:/{label="";next} """
    r"""/^   +- /&&label!=""{sub(/^ +- +/,"");""" + _UNMARK + r""";print label "\t" $0}'"""
)
_MARKDOWN_ROWS = (
    r"""awk 'BEGIN{print "label\ttext"} /^## ?intent:/{sub(/^## ?intent: */,"");label=$0;next} /^#/{label="";next} """
    r"""/^ *[-*] /&&label!=""{sub(/^ *[-*] +/,"");""" + _UNMARK + r""";print label "\t" $0}'"""
)


def refuse_documents(filename: str, text: str, *, whole: bool) -> None:
    """Raise WrongFormat if a text that begins with `text` (`whole`: and ends there) is one document."""
    start = text.lstrip()
    if start.startswith("["):
        if (found := _array(start)) is not None:
            _refuse(filename, *found)
    elif start.startswith("{"):
        if (found := _object(start, whole=whole)) is not None:
            _refuse(filename, *found)
    elif _RASA_YAML.search(start) and "intent:" in start:
        _refuse(filename, "Rasa's training data (YAML)", _YAML_ROWS, ".tsv")
    elif _RASA_MARKDOWN.search(start):
        _refuse(filename, "Rasa's training data (Markdown)", _MARKDOWN_ROWS, ".tsv")


def _refuse(filename: str, found: str, command: str, suffix: str) -> None:
    target = PurePath(filename).stem + "-rows" + suffix
    advice = f"Write its rows line by line: {command} {shlex.quote(filename)} > {shlex.quote(target)}"
    raise WrongFormat(filename=filename, found=found, advice=advice)


def _array(text: str) -> tuple[str, str, str] | None:
    first = _decoded(text[1:].lstrip())
    if not isinstance(first, dict | list) and not text[1:].lstrip().startswith(("{", "[")):
        return None if first is None else ("one JSON array of plain values", "jq -c '.[] | {text: .}'", ".jsonl")
    if isinstance(first, list):
        return "one JSON array of arrays", "jq -c '.[] | {text: .[0], label: .[1]}'", ".jsonl"
    if isinstance(first, dict) and isinstance(first.get("data"), dict) and "annotations" in first:
        return "an export of Label Studio", f"jq -c '{_label_studio(first)}'", ".jsonl"
    return "one JSON array", "jq -c '.[]'", ".jsonl"


def _label_studio(task: dict[str, Any]) -> str:
    """Return the command for a full export of Label Studio's, by what the first task's annotation is."""
    texts = [name for name, value in task["data"].items() if isinstance(value, str)]
    text = f".data[{json.dumps(texts[0] if texts else 'text')}]"
    annotations = task["annotations"]
    results = annotations[0].get("result", []) if annotations and isinstance(annotations[0], dict) else []
    value: dict[str, Any] = next((result.get("value", {}) for result in results if isinstance(result, dict)), {})
    done = ".[] | select(.annotations[0].result | length > 0)"
    if "labels" in value:
        spans = '[.annotations[0].result[] | .value | {start: .start, "end": .end, label: .labels[0]}]'
        return f".[] | {{text: {text}, spans: {spans}}}"
    if "rating" in value or "number" in value:
        name = "rating" if "rating" in value else "number"
        return f"{done} | {{text: {text}, value: .annotations[0].result[0].value.{name}}}"
    return f"{done} | {{text: {text}, label: [.annotations[0].result[].value.choices[]]}}"


def _object(text: str, *, whole: bool) -> tuple[str, str, str] | None:
    first, _, following = text.partition("\n")
    if following.strip() and isinstance(_decoded(first), dict):
        return None  # JSONL
    if '"rasa_nlu_data"' in text[:200]:
        query = ".rasa_nlu_data.common_examples[] | {text, label: .intent}"
        return "Rasa's training data (JSON)", f"jq -c '{query}'", ".jsonl"
    document, rest = _decoded_to(text)
    if not isinstance(document, dict):
        return _endless(text, first.strip(), whole=whole)
    if rest.strip():
        return "JSON objects of several lines", "jq -c .", ".jsonl"
    return _single(document) if whole or "\n" in text.strip() else None


def _endless(text: str, first: str, *, whole: bool) -> tuple[str, str, str] | None:
    """Return the command for an object whose end was not read; None if it is broken: then its rows say where."""
    if first != "{" and (whole or "\n" in text):
        return None
    found = _FIRST_LIST.search(text)
    if found and not _ROW_KEYS & set(re.findall(r'"([^"\\]+)"\s*:', text[: found.start()])):
        return _wrapped(found[1])
    return None if whole else ("JSON objects of several lines", "jq -c .", ".jsonl")


def _single(document: dict[str, Any]) -> tuple[str, str, str] | None:
    """Return the command for one object that is the whole file."""
    for name, value in document.items():
        if isinstance(value, list) and len(value) > 0 and isinstance(value[0], dict) and not _ROW_KEYS & set(document):
            return _wrapped(name)
    if document and all(isinstance(value, dict) for value in document.values()):
        keys = [json.dumps(name) for name in document]
        pairs = ", ".join(f"{key}: $d[{key}][$row]" for key in keys)
        return (
            "one JSON object of columns",
            f"jq -c '. as $d | .[{keys[0]}] | keys_unsorted[] as $row | {{{pairs}}}'",
            ".jsonl",
        )
    lists = {name: value for name, value in document.items() if isinstance(value, list)}
    if len(lists) > 1 and len(lists) == len(document) and "tokens" not in document:
        keys = [json.dumps(name) for name in document]
        pairs = ", ".join(f"{key}: $d[{key}][$row]" for key in keys)
        command = f"jq -c '. as $d | range(.[{keys[0]}] | length) as $row | {{{pairs}}}'"
        return "one JSON object of columns", command, ".jsonl"
    return None


def _wrapped(name: str) -> tuple[str, str, str]:
    path = f".{name}" if re.fullmatch(r"[A-Za-z_]\w*", name) else f".[{json.dumps(name)}]"
    return f"one JSON object that holds its rows in '{name[:40]}'", f"jq -c '{path}[]'", ".jsonl"


def _decoded(text: str) -> Any:
    return _decoded_to(text)[0]


def _decoded_to(text: str) -> tuple[Any, str]:
    """Return the first JSON value of a text, None if it does not end, and what follows it."""
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None, ""
    return value, text[end:]
