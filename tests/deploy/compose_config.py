"""`docker compose config` without Docker: merge the files, put `.env` into them, as the Compose specification says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class MissingVariable(Exception):
    """A variable without a value, of which the file says that it needs one."""


def resolve(paths: list[Path], variables: Mapping[str, str]) -> dict[str, Any]:
    """The merged and substituted configuration. Raises MissingVariable."""
    merged: dict[str, Any] = {}
    for path in paths:
        merged = _merge(merged, yaml.safe_load(path.read_text(encoding="utf-8")))
    return _substitute(merged, variables)


def substitute(text: str, variables: Mapping[str, str]) -> str:
    """One string with `$NAME`, `${NAME}`, `:-`, `-`, `:?`, `?`, `:+`, `+` and `$$` replaced, also inside defaults."""
    result, at = "", 0
    while (dollar := text.find("$", at)) >= 0:
        result += text[at:dollar]
        at = dollar + 1
        if text.startswith("$", at):
            result, at = result + "$", at + 1
        elif text.startswith("{", at):
            end = _closing_brace(text, at)
            result, at = result + _expand(text[at + 1 : end], variables), end + 1
        else:
            found = _NAME.match(text, at)
            if found is None:
                raise ValueError(f"a lone $ in {text!r}")
            result, at = result + variables.get(found[0], ""), found.end()
    return result + text[at:]


def _expand(expression: str, variables: Mapping[str, str]) -> str:
    found = _NAME.match(expression)
    if found is None:
        raise ValueError(f"no name in ${{{expression}}}")
    value, rest = variables.get(found[0]), expression[found.end() :]
    if not rest:
        return value or ""
    colon = rest.startswith(":")
    operator, operand = rest[colon], rest[colon + 1 :]
    given = bool(value) if colon else value is not None
    if operator == "?":
        if not given:
            raise MissingVariable(f"{found[0]}: {operand}")
        return value or ""
    # Compose looks at the default even where it is not needed: a `:?` in it holds.
    other = substitute(operand, variables)
    if operator == "-":
        return (value or "") if given else other
    if operator == "+":
        return other if given else ""
    raise ValueError(f"unknown operator in ${{{expression}}}")


def _closing_brace(text: str, opening: int) -> int:
    depth = 0
    for at in range(opening, len(text)):
        if text[at] == "{":
            depth += 1
        elif text[at] == "}":
            depth -= 1
            if not depth:
                return at
    raise ValueError(f"no closing brace in {text!r}")


def _substitute(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return substitute(value, variables)
    if isinstance(value, list):
        return [_substitute(item, variables) for item in value]
    if isinstance(value, dict):
        return {key: _substitute(item, variables) for key, item in value.items()}
    return value


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
