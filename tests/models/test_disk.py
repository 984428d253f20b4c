"""A file that cannot be written for lack of room is the same error, whichever library writes it."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from models import disk
from models.learning.data import features
from models.log_lines import LogLines
from tests.file_sizes import files_up_to

_LARGE = {"features": np.zeros((1_000, 100), dtype=np.float32)}


def test_tensors_that_do_not_fit_raise_what_files_raise(tmp_path: Path) -> None:
    """Before, a job on a full disk failed as an internal error, and a cache that did not fit ended it."""
    with files_up_to(10_000):
        with pytest.raises(SafetensorError):
            save_file(_LARGE, tmp_path / "x")
        with pytest.raises(OSError, match="too large") as raised, disk.writing_tensors():
            save_file(_LARGE, tmp_path / "x")
        assert disk.is_full(raised.value)
        features._write(tmp_path / "cache" / "x.safetensors", _LARGE)
    assert list((tmp_path / "cache").iterdir()) == []


def test_lines_of_the_log_that_do_not_fit_are_lost_and_nobody_notices(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        lines = LogLines(file)
        with files_up_to(10):
            lines.write(b"x" * 100)
        lines.write(b"again\n")
    assert (tmp_path / "log").read_bytes().endswith(b"again\n")


def test_what_else_goes_wrong_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as raised, disk.writing_tensors():
        save_file(_LARGE, tmp_path / "nowhere" / "x")
    assert not disk.is_full(raised.value)
    with pytest.raises(SafetensorError), disk.writing_tensors():
        raise SafetensorError("a header that is no header")


def test_the_cause_of_an_error_tells() -> None:
    with pytest.raises(RuntimeError) as raised:
        raise RuntimeError("no version") from OSError(errno.ENOSPC, "no room")
    assert disk.is_full(raised.value)
    assert not disk.is_full(OSError(errno.EACCES, "not yours"))
    assert not disk.is_full(None)
