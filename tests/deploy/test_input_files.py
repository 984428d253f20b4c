"""Files that `graft predict` is asked about: what is none is refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.cli import input_files
from deploy.cli.errors import CommandError


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a text that somebody took for an input " * 20, "there is no file"),
        ("photos/**.jpg", "no pattern of files"),
        ("nothing-*.jpg", "No file matches"),
        ("missing.jpg", "there is no file missing.jpg"),
        (".", "is a folder"),
    ],
    ids=["long", "pattern", "unmatched", "missing", "folder"],
)
def test_what_is_no_file_is_refused(name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandError, match=said):
        input_files.find([name], "image")
