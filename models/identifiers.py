"""Prefixed identifiers and names, made in one place."""

from __future__ import annotations

import re
import secrets

# Characters of a reference to a model (`ft:minilm:acme:tickets@live`): more than any has.
LONGEST_REFERENCE = 300
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


def new_id(prefix: str) -> str:
    """Return a random identifier of 24 base-62 characters (142 bits): `new_id("cus_")` → `cus_…`.

    Prefixes in use: `cus_`, `key_`, `file-`, `ftjob-`, `ftevent-`, `ftckpt-`, `mod_`, `ver_`, `req_`, `audit_`.
    """
    # One draw for all characters: every request has an id, and a system call for each of them was seen in a profile.
    number, characters = secrets.randbits(192), []
    for _ in range(24):
        number, index = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[index])
    return prefix + "".join(characters)


def new_secret() -> str:
    """Return a new API key: `gr-` and 43 characters (256 bits of entropy)."""
    return "gr-" + secrets.token_urlsafe(32)


def is_name(text: str) -> bool:
    """Return whether `text` can name a customer or a model: 1 to 64 lower-case letters, digits, '.', '_', '-'."""
    return _NAME.fullmatch(text) is not None


def full_model_name(base: str, customer: str, model: str) -> str:
    """Return the wire name of a fine-tuned model: `ft:minilm:acme:tickets`."""
    return f"ft:{base}:{customer}:{model}"
