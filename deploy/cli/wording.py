"""The API's messages in the words of the command line: what it calls a field is an option here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from typing import Any

_STRING = r'"(?:[^"\\]|\\.)*"|…|\.\.\.'
_PAIR = re.compile(rf"({_STRING})\s*:\s*({_STRING})")
_FLAG = r'"(\w+)": (?:"(\w+)"|(\w+))'


def _columns(found: re.Match[str]) -> str:
    pairs = [f"{_bare(name)}={_bare(own)}" for name, own in _PAIR.findall(found[1])]
    return " ".join(f"--column {pair if '…' in pair else shlex.quote(pair)}" for pair in pairs) or found[0]


def _hyperparameter(found: re.Match[str]) -> str:
    return f"--hyperparameter {found[1]}={found[2] or found[3]}"


def _bare(written: str) -> str:
    return "…" if written in ("...", "…") else re.sub(r"\\(.)", r"\1", written[1:-1])


# What messages of the API tell their reader to pass, and how a command takes it. The first forms that fit are replaced.
_FORMS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), form)
    for pattern, form in (
        (r"columns=\{([^{}]*)\}", _columns),
        (r"\bcolumns names\b", "--column names"),
        (r"which columns names\b", "which --column names"),
        (r"\btask=(?:\"([\w-]+)\"|'([\w-]+)')", lambda found: f"--task {found[1] or found[2]}"),
        (r"hyperparameters \{" + _FLAG + r"\}", _hyperparameter),
        (r'"min_rows_per_label"', "--hyperparameter min_rows_per_label=N"),
        (r"upload it with purpose 'validation'", "check it with --validation, train with --validation FILE"),
        (r"^(status|strategy|promote|suffix|seed|task)(?:\[\d+\])?: ", r"--\1: "),
        (r"^scopes(?:\[\d+\])?: ", "--scope: "),
        (r"^grace_seconds: ", "--grace: "),
        (r"^This route needs a key", "This command needs a key"),
        (r"^hyperparameters\.(\w+): ", r"--hyperparameter \1: "),
        (r"\(POST /v1/fine_tuning/jobs\)", "(graft train FILE)"),
        (r"POST /v1/customers/\{id\}/keys issues a key", "graft keys create CUSTOMER issues a key"),
        (r"POST /v1/customers/\{id\}/keys", "graft keys create CUSTOMER"),
        (r"POST /v1/customers creates", "graft customers create NAME creates"),
    )
)


def in_commands(message: str) -> str:
    """Return a message of the API with options and commands in the place of fields and routes."""
    for pattern, form in _FORMS:
        message = pattern.sub(form, message)
    return message


def collapse(details: Iterable[dict[str, Any]], *, shown: int = 5) -> list[dict[str, Any]]:
    """Return details with those that differ in their place alone as one: the first, and `row` with the first rows."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for detail in details:
        same = tuple((name, str(value)) for name, value in detail.items() if name not in _PLACES)
        groups.setdefault(same, []).append(detail)
    found = []
    for alike in groups.values():
        if len(alike) > 1:
            rows = [str(each["row"]) for each in alike if each.get("row") is not None]
            more = f", … ({len(alike)} rows)" if len(rows) > shown else ""
            found.append({**alike[0], "row": ", ".join(rows[:shown]) + more})
        else:
            found.append(alike[0])
    return found


_PLACES = ("row", "line")
