from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from models.storage.errors import ObjectMissing
from models.storage.filesystem import DirectoryStore
from models.storage.store import ObjectStore


def test_what_is_stored_comes_back(store: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"\x00weights" * 100)
    store.put_file("customers/cus_1/files/file-1", source)
    store.put_bytes("customers/cus_1/files/file-2", b"small")
    target = tmp_path / "new" / "folder" / "target"
    store.get_file("customers/cus_1/files/file-1", target)
    assert target.read_bytes() == source.read_bytes()
    assert os.listdir(target.parent) == ["target"]  # noqa: PTH208
    assert store.get_bytes("customers/cus_1/files/file-2") == b"small"
    with store.open("customers/cus_1/files/file-2") as stream:
        assert stream.read(2) == b"sm"
        assert stream.read() == b"all"


def test_a_large_file_comes_back(store: ObjectStore, tmp_path: Path) -> None:
    """Larger than one part of a multipart upload, and no multiple of it."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(1024) * (20 * 1024) + b"tail")
    store.put_file("large", source)
    store.get_file("large", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == source.read_bytes()


def test_an_empty_file_comes_back(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    store.put_file("empty", tmp_path / "empty")
    assert store.get_bytes("empty") == b""


def test_a_second_put_replaces_the_first(store: ObjectStore) -> None:
    store.put_bytes("key", b"first, and longer")
    store.put_bytes("key", b"second")
    assert store.get_bytes("key") == b"second"


def test_missing_objects(store: ObjectStore, tmp_path: Path) -> None:
    store.put_bytes("folder/object", b"")
    for key in ("nothing", "folder", "folder/object/below", "folder/nothing"):
        assert not store.exists(key)
        with pytest.raises(ObjectMissing):
            store.get_bytes(key)
        with pytest.raises(ObjectMissing):
            store.open(key)
        with pytest.raises(ObjectMissing):
            store.modified_at(key)
        with pytest.raises(ObjectMissing):
            store.get_file(key, tmp_path / "target")
    assert not list(tmp_path.glob("*target*"))
    assert store.exists("folder/object")


def test_lists_and_deletes_by_prefix(store: ObjectStore) -> None:
    for key in ("a/1", "a/b/2", "a/b/c/3", "ab/4", "b/5"):
        store.put_bytes(key, b"x")
    assert sorted(store.list("a/")) == ["a/1", "a/b/2", "a/b/c/3"]
    assert sorted(store.list("a")) == ["a/1", "a/b/2", "a/b/c/3", "ab/4"]
    assert sorted(store.list("")) == ["a/1", "a/b/2", "a/b/c/3", "ab/4", "b/5"]
    assert list(store.list("none/")) == []
    assert store.delete_prefix("a/b/") == 2
    assert store.delete_prefix("a/b/") == 0
    assert sorted(store.list("")) == ["a/1", "ab/4", "b/5"]
    with pytest.raises(ValueError, match="not a folder"):
        store.delete_prefix("a")


def test_deleting_again_is_no_error(store: ObjectStore) -> None:
    store.put_bytes("a/b", b"x")
    store.delete("a/b")
    store.delete("a/b")
    store.delete("never/was/there")
    assert not store.exists("a/b")
    # The folder is free for an object of its name.
    store.put_bytes("a", b"x")


def test_says_when_an_object_was_stored(store: ObjectStore) -> None:
    store.put_bytes("a", b"x")
    assert abs(store.modified_at("a") - time.time()) < 60


def test_readers_never_see_half_an_object(store: ObjectStore, tmp_path: Path) -> None:
    contents = [bytes([value]) * 300_000 for value in range(4)]
    store.put_bytes("key", contents[0])
    done = threading.Event()
    seen: list[bytes] = []

    def read() -> None:
        while not done.is_set():
            seen.append(store.get_bytes("key"))

    reader = threading.Thread(target=read)
    reader.start()
    for content in contents * 5:
        store.put_bytes("key", content)
    done.set()
    reader.join()
    assert seen
    assert all(content in contents for content in seen)


def test_neighbours_come_and_go_at_once(store: ObjectStore) -> None:
    """Deleting removes empty folders; storing beside it must not fail over that."""
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for _ in range(30 if isinstance(store, DirectoryStore) else 5):  # a bucket has no folders to lose
                store.put_bytes(f"shared/folder/{name}", b"x")
                assert store.exists(f"shared/folder/{name}")
                store.delete(f"shared/folder/{name}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # many more turns between two system calls
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert errors == []
