"""Texts that were read in another encoding than their own before they came here: `CafÃ©` for `Café`.

The file is sound UTF-8 then, so nothing refuses it. What gives it away are signs that follow one another in such a text
and hardly ever in another one. Characters that were lost altogether (U+FFFD) are counted beside them.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

from models.datasets.examples import Answer, Box, Conversation, Example, TextPair
from models.datasets.problems import excerpt

_SHOWN = 5
_SPECIAL = "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"  # what windows-1252 has where Latin-1 has control characters
_SECOND = rf"[\u0080-\u00bf{_SPECIAL}]"
_BROKEN = re.compile(
    # Between capitals, `Ã` and a quotation mark are Portuguese.
    r"(?<![A-ZÀ-Þ])[ÃÂ][\u00a0-\u00bf]"
    rf"|Ã[{_SPECIAL}](?=[a-zß-ÿ])"
    rf"|â[€\u0080]{_SECOND}"
    rf"|ðŸ{_SECOND}{{2}}"
    # Of other alphabets every letter has become two or three signs.
    rf"|(?:[\u00c2-\u00df]{_SECOND}){{3}}"
    rf"|(?:[\u00e0-\u00ef]{_SECOND}{{2}}){{2}}"
)
_TEXT_FILES = ("csv", "tsv", "jsonl", "chat", "conll")
_LOST = "\ufffd"


class Mojibake:
    """Counts rows with texts or labels that were read in the wrong encoding once, with the numbers of the first."""

    def __init__(self) -> None:
        self._broken: list[int] = []
        self._lost: list[int] = []
        self._counts = [0, 0]
        self._example = ""

    def add(self, example: Example) -> None:
        """Look at the texts and the label of one example."""
        for text in _texts(example):
            if text.isascii():
                continue
            if _LOST in text:
                _note(self._lost, example.row)
                self._counts[1] += 1
                return
            if (found := _BROKEN.search(text)) is not None:
                _note(self._broken, example.row)
                self._counts[0] += 1
                self._example = self._example or _word_at(text, found.start())
                return

    def warnings(self, filename: str, file_format: str) -> list[dict[str, Any]]:
        """Return the warnings, with what mends the file."""
        found = []
        if self._broken:
            count, mended = self._counts[0], mend(self._example)
            instead = f" for '{excerpt(mended)}'" if mended else ""
            message = (
                f"{_rows(count, self._broken)} hold text that was read in another encoding than its own: "
                f"'{excerpt(self._example)}'{instead}. Read the source as UTF-8 and write it again"
            )
            if file_format in _TEXT_FILES:
                quoted = shlex.quote(filename)
                message += f"; if the whole file is so: iconv -f utf-8 -t windows-1252 {quoted} > mended-file"
            found.append(_warning("mojibake", f"{message}.", count, self._broken))
        if self._lost:
            count = self._counts[1]
            message = (
                f"{_rows(count, self._lost)} hold the character U+FFFD, which stands for one that was lost when the "
                "text was read in another encoding than its own. Write them again from the source."
            )
            found.append(_warning("lost_characters", message, count, self._lost))
        return found


def mend(text: str) -> str | None:
    """Return the text as it was before it was read as windows-1252 (or Latin-1); None if it was not."""
    try:
        return b"".join(_byte(char) for char in text).decode()
    except (UnicodeDecodeError, UnicodeEncodeError):
        return None


def _byte(char: str) -> bytes:
    try:
        return char.encode("windows-1252")
    except UnicodeEncodeError:
        return char.encode("latin-1")  # the five bytes that windows-1252 leaves out


def _texts(example: Example) -> list[str]:
    item, target = example.input, example.target
    texts = [item.first, item.second] if isinstance(item, TextPair) else [item] if isinstance(item, str) else []
    if isinstance(item, Conversation):
        texts = [item.messages]
    if isinstance(target, Answer):
        texts.append(target.text)
    elif isinstance(target, str):
        texts.append(target)
    elif isinstance(target, tuple):
        texts += [label for label in target if isinstance(label, str)]
        texts += sorted({box.label for box in target if isinstance(box, Box)})
    return texts


def _word_at(text: str, place: int) -> str:
    # White space of Unicode may be a part of what was broken: only a space parts words here.
    begin = text.rfind(" ", 0, place) + 1
    end = text.find(" ", place)
    return text[begin : len(text) if end < 0 else end].strip()


def _note(rows: list[int], row: int) -> None:
    if len(rows) < _SHOWN:
        rows.append(row)


def _rows(count: int, first: list[int]) -> str:
    return f"{count} row{'s' if count > 1 else ''} (first {', '.join(map(str, first))})"


def _warning(code: str, message: str, count: int, rows: list[int]) -> dict[str, Any]:
    return {"code": code, "message": message, "count": count, "rows": rows}
