"""Guesses at the encoding of a text that is not UTF-8: the one that makes ordinary text of its bytes, or none.

A wrong name is worse than none: most encodings accept most bytes, and what `iconv` makes of them is mojibake that
nobody refuses any more.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

_SAMPLE_BYTES = 2**16
_CONFIDENT = 0.9  # share of the characters beyond ASCII that are ordinary
_MARGIN = 0.05  # by which the best has to beat the others
_SHOWN = 24
_ENOUGH = 10
_MOST_NAMED = 3
_WORDS = re.compile(r"[^\W\d_]+|[^\w\s]")

_WESTERN = frozenset("àáâãäåæçèéêëìíîïñòóôõöøùúûüýßœÿÀÁÂÄÅÆÇÈÉÊÍÑÓÔÖØÚÜŒ€£§°«»¿¡–—‘’“”„…•\u00a0")
_CENTRAL = frozenset("áäčďéěíľĺňóôŕřšťúůýžąćęłńóśźżőűöüăâîşţđÁČĎÉĚÍŇÓŘŠŤÚŮÝŽĄĆĘŁŃŚŹŻŐŰÖÜ–—‘’“”„…§\u00a0")
_OUTER = frozenset("“”„«»…•")  # never within a word
_TURKISH = frozenset("çğıöşüâîûÇĞİÖŞÜ–—‘’“”„…\u00a0")
_CYRILLIC = range(0x410, 0x450)
_GREEK = range(0x386, 0x3CF)
_HEBREW = range(0x5D0, 0x5EB)
_ARABIC = range(0x621, 0x6D3)
_KANA = range(0x3040, 0x3100)
_JAPANESE = frozenset({"shift_jis", "euc-jp"})
_SYLLABLES = range(0xAC00, 0xD7A4)
_PUNCTUATION = frozenset("，。！？、：；（）《》「」『』“”‘’…—·　～ー")


def advice(data: bytes, filename: str) -> str:
    """Return how to convert a file that holds `data`: with the encoding's name, or with those that it may be."""
    found = names_of(data)
    if not found:
        return (
            "Save it as UTF-8 (Excel: 'CSV UTF-8'), or convert it from the encoding in which it was saved: "
            f"iconv -f ENCODING -t utf-8 {shlex.quote(filename)} > utf8-file"
        )
    readings = _readings(data, found)
    if len(found) == 1:
        how = f"It is {found[0]} if it should say '{readings[0]}'"
    else:
        how = "It should say " + ", or ".join(
            f"'{reading}': then it is {name}" for name, reading in zip(found, readings, strict=True)
        )
    return f"{how}. Convert it: iconv -f {found[0]} -t utf-8 {shlex.quote(filename)} > utf8-file"


def names_of(data: bytes) -> list[str]:
    """Return the encodings that make ordinary text of the bytes, by the names that `iconv` knows, the likeliest first.

    Three at most, each with another text.
    """
    texts = {name: text for name in _CANDIDATES if (text := _decode(data, name)) is not None}
    scores = {name: _score(text, _CANDIDATES[name]) for name, text in texts.items()}
    for name in _JAPANESE & scores.keys():
        if not any(ord(char) in _KANA for char in texts[name]):  # no Japanese is written without
            scores[name] = 0.0
    ranked = sorted(scores, key=lambda name: -scores[name])
    if not ranked or scores[ranked[0]] < _CONFIDENT:
        return []
    close = [name for name in ranked if scores[ranked[0]] - scores[name] < _MARGIN]
    # Those that read every character alike are the same here.
    close = [name for at, name in enumerate(close) if texts[name] not in [texts[other] for other in close[:at]]]
    # Korean syllables lie where Chinese has the first half of its alphabet: a text that uses no other is Korean.
    if set(close) == {"euc-kr", "gb18030"} and sum(char > "\x7f" for char in texts["euc-kr"]) >= _ENOUGH:
        return ["euc-kr"]
    return close[:_MOST_NAMED]


def _score(text: str, ordinary: Callable[[str], bool]) -> float:
    """Return the share of the characters beyond ASCII that are ordinary, and stand where they may."""
    total = good = 0
    for found in _WORDS.finditer(text):
        word = found[0]
        beyond = [char for char in word if char > "\x7f"]
        total += len(beyond)
        within = (
            text[max(0, found.start() - 1) : found.start()].isalpha() and text[found.end() : found.end() + 1].isalpha()
        )
        if _is_cased_oddly(word) or _is_mixed(word) or (within and word in _OUTER):
            continue
        good += sum(map(ordinary, beyond))
    return good / total if total else 0.0


def _is_cased_oddly(word: str) -> bool:
    return word.upper() != word and word[1:].lower() != word[1:]


def _is_mixed(word: str) -> bool:
    """Return whether a word of another alphabet has Latin letters in it."""
    return any(char.isascii() and char.isalpha() for char in word) and any("\u0370" <= char < "\u0700" for char in word)


def _decode(data: bytes, name: str) -> str | None:
    for cut in range(4):  # the sample may end within a character
        try:
            return data[: _SAMPLE_BYTES - cut].decode(name) if len(data) >= _SAMPLE_BYTES else data.decode(name)
        except UnicodeDecodeError:
            if len(data) < _SAMPLE_BYTES:
                return None
    return None


def _readings(data: bytes, names: list[str]) -> list[str]:
    """Return what each encoding makes of the first word on which they differ, or of the first that is not ASCII."""
    words = [[word for word in re.findall(r"\S+", _decode(data, name) or "") if not word.isascii()] for name in names]
    at = next((place for place, found in enumerate(zip(*words, strict=False)) if len(set(found)) == len(names)), 0)
    return ["".join(char for char in found[at] if char.isprintable())[:_SHOWN] if found else "" for found in words]


def _frequent(codec: str, leads: range) -> Callable[[str], bool]:
    """Return whether a character is among those that the codec's standard lists first, for everyday use."""

    def ordinary(char: str) -> bool:
        if char in _PUNCTUATION:
            return True
        try:
            return char.encode(codec)[0] in leads
        except UnicodeEncodeError:
            return False

    return ordinary


def _japanese(char: str) -> bool:
    return ord(char) in _KANA or _kanji(char)


def _korean(char: str) -> bool:
    return ord(char) in _SYLLABLES and _hangul(char)


def _cyrillic(char: str) -> bool:
    return ord(char) in _CYRILLIC or char in "ёЁ«»–—№“”„\u00a0"


_kanji = _frequent("euc_jp", range(0xB0, 0xD0))
_hangul = _frequent("euc_kr", range(0xB0, 0xC9))
_CANDIDATES: dict[str, Callable[[str], bool]] = {
    "windows-1252": _WESTERN.__contains__,
    "windows-1250": _CENTRAL.__contains__,
    "windows-1251": _cyrillic,
    "koi8-r": _cyrillic,
    "windows-1253": lambda char: ord(char) in _GREEK,
    "windows-1254": _TURKISH.__contains__,
    "windows-1255": lambda char: ord(char) in _HEBREW,
    "windows-1256": lambda char: ord(char) in _ARABIC or char in "،؛؟",
    "gb18030": _frequent("gb2312", range(0xB0, 0xD8)),
    "big5": _frequent("big5", range(0xA4, 0xC7)),
    "shift_jis": _japanese,
    "euc-jp": _japanese,
    "euc-kr": _korean,
}
