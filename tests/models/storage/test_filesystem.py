from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.storage.errors import StorageUnavailable
from models.storage.filesystem import DirectoryStore


@pytest.mark.parametrize(
    "key", ["../outside", "a/../../outside", "/absolute", "a//b", "a/", "", ".incoming/x", "a/./b", "a\\..\\b", "a\0b"]
)
def test_no_key_leaves_the_folder(tmp_path: Path, key: str) -> None:
    (tmp_path / "outside").write_text("secret")
    store = DirectoryStore(tmp_path / "root")
    for act in (store.get_bytes, store.open, store.exists, store.delete, store.modified_at):
        with pytest.raises(ValueError, match="not a key"):
            act(key)
    with pytest.raises(ValueError, match="not a key"):
        store.put_bytes(key, b"")
    assert (tmp_path / "outside").read_text() == "secret"


def test_a_failed_put_leaves_nothing(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "root")
    store.put_bytes("file", b"x")
    with pytest.raises(StorageUnavailable):
        store.put_bytes("file/below", b"y")
    assert list(store.list("")) == ["file"]
    assert list((tmp_path / "root" / ".incoming").iterdir()) == []


def test_what_killed_processes_left_is_removed_when_it_is_old(tmp_path: Path) -> None:
    root = tmp_path / "root"
    program = (
        "import os\n"
        "from pathlib import Path\n"
        "from models.storage.filesystem import DirectoryStore\n"
        "os.fsync = lambda _: os.kill(os.getpid(), 9)\n"  # killed between the last byte and the rename
        f"DirectoryStore(Path({str(root)!r})).put_bytes('key', b'x')\n"
    )
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    store = DirectoryStore(root)
    store.put_bytes("whole", b"x")
    old, young = (root / ".incoming").iterdir()
    os.utime(old, (time.time() - 7_200,) * 2)
    os.utime(root / "whole", (time.time() - 7_200,) * 2)
    assert store.remove_unfinished(older_than_s=3_600) == 1
    assert list((root / ".incoming").iterdir()) == [young]
    assert list(store.list("")) == ["whole"]
    assert DirectoryStore(tmp_path / "never used").remove_unfinished(older_than_s=0) == 0


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file is in the way")
    with pytest.raises(StorageUnavailable):
        DirectoryStore(tmp_path / "root").put_bytes("key", b"x")
