"""Text files: UTF-8 with or without a byte-order mark, UTF-16 with one; lines of bounded length."""

from __future__ import annotations

import codecs
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from models.datasets.errors import NotUtf8
from models.datasets.formats import charsets
from models.datasets.limits import Limits

# No row that the limits allow is longer, and a file without line breaks must not be read in one piece.
MAX_LINE_CHARS = 16 * 2**20
_CHUNK = 2**20
_UTF32_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class OverlongLine(ValueError):
    """A line beyond MAX_LINE_CHARS; reading cannot go on."""

    def __init__(self) -> None:
        super().__init__(f"The line is longer than {MAX_LINE_CHARS} characters; nothing after it was read")


def encoding_of(head: bytes) -> str:
    """Return the codec for a file that starts with `head`, by its byte-order mark; UTF-8 without one."""
    if head.startswith(_UTF16_MARKS) and not head.startswith(_UTF32_MARKS):
        return "utf-16"
    return "utf-8-sig"


def decode_head(head: bytes) -> str:
    """Return the first bytes of a file as text, with replacement characters where they are not."""
    return head.decode(encoding_of(head), errors="replace")


def refused_encoding(head: bytes) -> str | None:
    """Return a wide encoding that is not read: UTF-32, and UTF-16 without its mark (every other byte is NUL)."""
    if head.startswith(_UTF32_MARKS):
        return "utf-32"
    if head.startswith(_UTF16_MARKS):
        return None
    even, odd, many = head[0::2].count(0), head[1::2].count(0), len(head) // 5
    if odd > many and even == 0:
        return "utf-16le"
    return "utf-16be" if even > many and odd == 0 else None


def check_encoding(path: Path, filename: str, limits: Limits) -> None:  # noqa: ARG001  (a Format's signature)
    """Decode the whole file once, in pieces; raises NotUtf8 with the place of the first bad byte."""
    with path.open("rb") as file:
        head = file.read(4096)
        file.seek(0)
        if guess := refused_encoding(head):
            raise NotUtf8(filename=filename, byte="0x00", offset=head.index(0), line=1, advice=_iconv(guess, filename))
        encoding = encoding_of(head)
        decoder = codecs.getincrementaldecoder(encoding)()
        position, line, final = 0, 1, False
        while not final:
            chunk = file.read(_CHUNK)
            position += len(chunk)
            final = not chunk
            try:
                line += decoder.decode(chunk, final).count("\n")
            except UnicodeDecodeError as error:
                bad: bytes = error.object
                # `error.object` is what the decoder had kept of earlier chunks and this one.
                before = bad[: error.start].decode(error.encoding.replace("utf-8-sig", "utf-8"), errors="replace")
                raise NotUtf8(
                    filename=filename,
                    byte=f"0x{bad[error.start]:02x}",
                    offset=position - len(bad) + error.start,
                    line=line + before.count("\n"),
                    advice=_advice(path, encoding, filename),
                ) from None


def _advice(path: Path, encoding: str, filename: str) -> str:
    if encoding == "utf-16":
        return "It begins as UTF-16 and is damaged: write it again, as UTF-8."
    with path.open("rb") as file:
        return charsets.advice(file.read(_CHUNK), filename)


def _iconv(name: str, filename: str) -> str:
    return f"Convert it: iconv -f {name} -t utf-8 {shlex.quote(filename)} > utf8-file"


def open_text(path: Path) -> TextIO:
    """Open for reading with the encoding that the file has; line ends are left as they are."""
    with path.open("rb") as file:
        encoding = encoding_of(file.read(4))
    return path.open(encoding=encoding, newline="")


def numbered_lines(path: Path) -> Iterator[tuple[int, str] | OverlongLine]:
    """Yield lines with their ends and their numbers, from 1; one that is too long is the last, as an error to name."""
    with open_text(path) as file:
        try:
            yield from enumerate(lines(file), start=1)
        except OverlongLine as error:
            yield error


def lines(file: TextIO) -> Iterator[str]:
    """Yield lines with their ends (CR, LF or CRLF). Raises OverlongLine instead of filling the memory."""
    while line := file.readline(MAX_LINE_CHARS + 1):
        if len(line) > MAX_LINE_CHARS:
            raise OverlongLine
        yield line
