"""The arrays of a JSON object, element by element: a document of any length in the memory of its longest element."""

from __future__ import annotations

import codecs
import json
from collections.abc import Container, Iterator
from typing import Any

from models.datasets.problems import BadValue, excerpt

MOST_CHARS = 2 * 2**20  # of one element, or of a value that is no array
_SPACE = " \t\n\r"
_MEND = "Write the file again, with a writer of JSON, and make the archive anew."
_DECODER = json.JSONDecoder()


def elements(chunks: Iterator[bytes], wanted: Container[str]) -> Iterator[tuple[str, int, Any]]:
    """Yield (key, position from 1, element) of the arrays of the outermost object whose keys are `wanted`.

    Everything else is passed over, but has to be JSON. Raises BadValue.
    """
    text = _Text(chunks)
    text.expect("{")
    if text.peek() == "}":
        return
    while True:
        key = text.value()
        if not isinstance(key, str):
            raise text.error("a key in double quotes is expected")
        text.expect(":")
        if text.peek() == "[":
            for position, element in enumerate(_array(text), start=1):
                if key in wanted:
                    yield key, position, element
        else:
            text.value()
        if text.peek() == "}":
            return
        text.expect(",")


def _array(text: _Text) -> Iterator[Any]:
    text.expect("[")
    if text.peek() == "]":
        text.expect("]")
        return
    while True:
        yield text.value()
        if text.peek() == "]":
            text.expect("]")
            return
        text.expect(",")


class _Text:
    """A cursor over text that arrives in pieces."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._dropped = "", 0, 0
        self._ended = False

    def peek(self) -> str:
        """Return the next character that is no white space, without taking it; empty at the end."""
        while True:
            while self._at < len(self._text):
                if (found := self._text[self._at]) not in _SPACE:
                    return found
                self._at += 1
            if self._ended:
                return ""
            self._more()

    def expect(self, char: str) -> None:
        """Take this character. Raises BadValue if another comes."""
        if self.peek() != char:
            raise self.error(f"'{char}' is expected")
        self._at += 1

    def value(self) -> Any:
        """Take one value, whatever it is. Raises BadValue if it is too long, too deep or none."""
        self.peek()
        while True:
            try:
                found, end = _DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                raise BadValue("holds values that are nested too deep", "Leave them out.") from None
            except ValueError as error:
                if self._ended:
                    raise self.error(str(getattr(error, "msg", "a number is too long"))) from None
            else:
                if end - self._at > MOST_CHARS:
                    raise self._too_long()
                if end < len(self._text) or self._ended:  # a number may go on in the next piece
                    self._at = end
                    return found
            if len(self._text) - self._at > MOST_CHARS:
                raise self._too_long()
            self._more(len(self._text) - self._at)

    def error(self, why: str) -> BadValue:
        """Return the error at the present place."""
        found = excerpt(self._text[self._at : self._at + 40], 40)
        return BadValue(f"is not valid JSON ({why} at character {self._dropped + self._at + 1}: {found})", _MEND)

    def _too_long(self) -> BadValue:
        return self.error(f"one value has more than {MOST_CHARS} characters, or is no JSON")

    def _more(self, least: int = 1) -> None:
        """Read at least so many bytes more, and forget what was taken."""
        pieces, size = [self._text[self._at :]], 0
        while size < least and not self._ended:
            chunk = next(self._chunks, b"")
            self._ended = not chunk
            size += len(chunk)
            try:
                pieces.append(self._decode.decode(chunk, final=self._ended))
            except UnicodeDecodeError:
                raise BadValue("is not UTF-8", "Save it as UTF-8.") from None
        self._dropped += self._at
        self._text, self._at = "".join(pieces), 0
