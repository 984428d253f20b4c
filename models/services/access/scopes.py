"""Scopes of keys: what a customer's key may do."""

from __future__ import annotations

from typing import Literal, get_args

KeyScope = Literal["predict", "train", "manage"]
# predict: ask models. train: upload data, start and follow jobs. manage: delete, promote, issue and revoke keys.
SCOPES: tuple[KeyScope, ...] = get_args(KeyScope)
