"""What a file of questions and answers is for, where nobody said: answers that recur are labels, others are texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.datasets.formats.chat import CALL
from models.datasets.formats.format import Format
from models.datasets.limits import Limits
from models.datasets.problems import Problem
from models.datasets.tasks import text_generation

CLASSIFICATION = "text-classification"
_QUESTION, _ANSWER = ("prompt", "completion")


@dataclass(frozen=True, slots=True)
class Taken:
    """The task that a file is taken for, with the columns that it is read by, and why."""

    task: str
    columns: dict[str, str] | None
    reason: str

    def warning(self) -> dict[str, str]:
        """Return the note of it for the file's profile, which its jobs repeat."""
        other = CLASSIFICATION if self.task == text_generation.NAME else text_generation.NAME
        message = f"Taken for {self.task}: {self.reason}. If it is not, upload it with task='{other}'."
        return {"code": "taken_for", "message": message, "task": self.task}


def decide(path: Path, source: Format, found: list[str], limits: Limits) -> Taken | None:
    """Return the reading of a file whose answers may be labels or texts; None if its columns say it."""
    names = {own.strip().casefold(): own for own in found}
    for layout in text_generation.PAIRS:
        if all(name in names for name in layout):
            return Taken(text_generation.NAME, None, "it has pairs of answers of which one is preferred")
    if source.free_answers:
        return _by_answers(path, source, {"label": "label", CALL: CALL}, None, limits)
    if "messages" in names and "label" not in names:
        return Taken(text_generation.NAME, None, "it has conversations")
    if _QUESTION in names and _ANSWER in names and not {"text", "label"} & names.keys():
        columns = {"text": names[_QUESTION], "label": names[_ANSWER]}
        return _by_answers(path, source, {"label": names[_ANSWER]}, columns, limits)
    return None


def _by_answers(
    path: Path, source: Format, answer: dict[str, str], columns: dict[str, str] | None, limits: Limits
) -> Taken | None:
    """Count how often each answer occurs, by its hash. A call of a tool is no label: one is enough."""
    counts: dict[int, int] = {}
    rows = longest = 0
    for row in source.rows(path, answer):
        if isinstance(row, Problem):
            continue
        if row.values.get(CALL):
            reason = f"row {row.number} answers with a call of a tool, which is no label"
            return Taken(text_generation.NAME, None, reason)
        value = row.values.get("label")
        if value is None:
            continue
        text = str(value).strip()
        rows += 1
        longest = max(longest, len(text))
        counts[hash(text)] = counts.get(hash(text), 0) + 1
        if rows > limits.max_rows:
            break
    once = sum(count == 1 for count in counts.values())
    if len(counts) > 2 and once * 2 > len(counts):
        reason = f"{len(counts)} different answers in {rows} rows are texts, not labels that recur"
        return Taken(text_generation.NAME, None, reason)
    if longest > limits.max_label_chars:
        reason = f"an answer has {longest} characters, more than the {limits.max_label_chars} of a label"
        return Taken(text_generation.NAME, None, reason)
    reason = f"its {rows} rows have {len(counts)} different answers, which recur as labels do"
    return Taken(CLASSIFICATION, columns, reason) if counts else None
