"""Tokens as bytes, and text out of them as it comes: a character may be spread over several tokens."""

from __future__ import annotations

import codecs
import json
import re
from typing import Any

from models.serving.generation.sampling import cut_for_stop

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "▁"


class TokenBytes:
    """The bytes of every token of a vocabulary; those of special tokens are empty: they are not text."""

    def __init__(self, described: str) -> None:
        """Read a `tokenizer.json`: byte-level, or of SentencePiece's kind."""
        tokenizer = json.loads(described)
        kinds = _kinds(tokenizer.get("decoder"))
        self._byte_level = "ByteLevel" in kinds
        self.strips_first_space = not self._byte_level and "Strip" in kinds
        mapped = _byte_of_character() if self._byte_level else {}
        found = {number: self._of(name, mapped) for name, number in _vocabulary(tokenizer["model"])}
        for added in tokenizer.get("added_tokens", ()):
            found[added["id"]] = b"" if added["special"] else added["content"].encode()
        self._bytes = [found.get(number, b"") for number in range(max(found, default=-1) + 1)]

    def __getitem__(self, token: int) -> bytes:
        return self._bytes[token] if token < len(self._bytes) else b""

    def __len__(self) -> int:
        return len(self._bytes)

    def _of(self, name: str, mapped: dict[str, int]) -> bytes:
        if self._byte_level:
            return bytes(mapped[character] for character in name if character in mapped)
        if (found := _BYTE.fullmatch(name)) is not None:
            return bytes([int(found[1], 16)])
        return name.replace(_SPACE, " ").encode()


class TextStream:
    """The text of one answer: what can be shown of it after each token, up to a stop string."""

    def __init__(self, token_bytes: TokenBytes, stops: tuple[str, ...] = ()) -> None:
        self._token_bytes = token_bytes
        self._stops = stops
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._first = token_bytes.strips_first_space
        self.stopped = False

    def add(self, token: int) -> str:
        """Return what can be shown now."""
        return self._show(self._decoder.decode(self._token_bytes[token]))

    def end(self) -> str:
        """Return the rest, once no token follows."""
        shown = self._show(self._decoder.decode(b"", final=True))
        if self.stopped:
            return shown
        rest, self._held = self._held, ""
        return shown + rest

    def _show(self, text: str) -> str:
        if self._first and text:
            text, self._first = text.removeprefix(" "), False
        self._held += text
        if self.stopped:
            return ""
        shown, self.stopped = cut_for_stop(self._held, self._stops) if self._stops else (len(self._held), False)
        text, self._held = self._held[:shown], self._held[shown:]
        return text


def _vocabulary(model: dict[str, Any]) -> list[tuple[str, int]]:
    words = model["vocab"]
    if isinstance(words, dict):
        return list(words.items())
    return [(word, number) for number, (word, *_) in enumerate(words)]  # Unigram: with their scores


def _kinds(decoder: dict[str, Any] | None) -> set[str]:
    if decoder is None:
        return set()
    return {decoder["type"]}.union(*(_kinds(one) for one in decoder.get("decoders", ())))


def _byte_of_character() -> dict[str, int]:
    """Return GPT-2's mapping backwards: bytes that are no letters stand for themselves 256 characters further on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    mapped = {chr(byte): byte for byte in printable}
    return mapped | {chr(256 + place): byte for place, byte in enumerate(others)}
