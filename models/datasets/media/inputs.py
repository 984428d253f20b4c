"""Pictures and sounds in a request for a prediction: base64 in JSON, or the bytes of a multipart file."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any

from models.datasets.errors import InvalidMedia
from models.datasets.examples import Media
from models.datasets.limits import Limits
from models.datasets.media import pictures, sounds
from models.datasets.media.encodings import NOUNS, Medium
from models.datasets.problems import BadValue, excerpt

_DATA_URL = re.compile(r"data:([^,;]{0,100})([^,]{0,100}),", re.IGNORECASE)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{1,20}://", re.IGNORECASE)
# What a client writes that does not know the type: the bytes decide.
_UNTYPED = ("", "application/octet-stream")
_EXAMPLES: dict[Medium, str] = {"image": "image/jpeg", "audio": "audio/wav"}
_VERIFIERS: dict[Medium, Callable[[bytes, str, Limits], int]] = {"image": pictures.verify, "audio": sounds.verify}


def verify(media: Media, medium: Medium, limits: Limits) -> Media:
    """Decode a picture or a sound on trial; it comes back with its extent. Raises BadValue."""
    return Media(media.name, media.data, _VERIFIERS[medium](media.data, media.name, limits))


def from_json(value: Any, medium: Medium, limits: Limits, *, param: str) -> Media:
    """Return a checked picture or sound from `{"image": "<base64>"}`, `{"audio": …}`, the bare base64 or a data URL.

    Raises InvalidMedia, whose `param` names the input.
    """
    if isinstance(value, dict):
        if set(value) != {medium}:
            keys = ", ".join(f"'{excerpt(str(key), 20)}'" for key in list(value)[:5]) or "none"
            raise _invalid(param, BadValue(f"has the fields {keys}", f'Send {{"{medium}": "<base64>"}}.'))
        value = value[medium]
    if not isinstance(value, str):
        reason = f"is {excerpt(value, 40)} where base64 is expected"
        raise _invalid(param, BadValue(reason, f'Send {{"{medium}": "<base64>"}}.'))
    try:
        return verify(Media(param, _decode(value, medium, limits)), medium, limits)
    except BadValue as error:
        raise _invalid(param, error) from None


def from_upload(data: bytes, filename: str, medium: Medium, limits: Limits, *, param: str) -> Media:
    """Return a checked picture or sound from the bytes of an uploaded file. Raises InvalidMedia, which names both."""
    try:
        return verify(Media(filename, data), medium, limits)
    except BadValue as error:
        raise _invalid(param, error, place=f"{param} ('{excerpt(filename, 60)}')") from None


def _decode(text: str, medium: Medium, limits: Limits) -> bytes:
    """Return the bytes of base64 or of a data URL, whose type only has to be of the medium: what they are decides."""
    if _ADDRESS.match(text):
        mend = f"Send {NOUNS[medium]} itself, as a data URL: data:{_EXAMPLES[medium]};base64,…"
        raise BadValue("is an address, and nothing is fetched", mend)
    head = _DATA_URL.match(text)
    if head is not None:
        declared, parameters = (part.strip().lower() for part in head.groups())
        if ";base64" not in parameters:
            raise BadValue("is a data URL without ';base64'", "Encode the bytes as base64.")
        if declared not in _UNTYPED and not declared.startswith(f"{medium}/"):
            reason = f"is a data URL of the type '{excerpt(declared, 40)}' where {NOUNS[medium]} is expected"
            raise BadValue(reason, f"Send one such as data:{_EXAMPLES[medium]};base64,…")
        text = text[head.end() :]
    if len(text) * 3 // 4 > limits.max_media_bytes + 3:
        raise BadValue(f"has more than {limits.max_media_bytes} bytes", "Send a smaller or shorter one.")
    plain = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadValue("is not valid base64", "Encode the file's bytes as base64, or send them as a file.") from None


def _invalid(param: str, error: BadValue, *, place: str = "") -> InvalidMedia:
    return InvalidMedia(place=place or param, reason=error.reason, mend=error.mend, param=param)
