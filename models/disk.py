"""Disks without room, in the words of every library that writes files."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def is_full(error: BaseException | None) -> bool:
    """Return whether an error came from a disk without room, or a quota used up: itself or the cause of another."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__
    return False


@contextmanager
def writing_tensors() -> Iterator[None]:
    """Raise the system's errors as OSError, as everything else that writes files does; safetensors has its own."""
    try:
        yield
    except SafetensorError as error:
        found = _OS_ERROR.search(str(error))
        if found is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number)) from error
