from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from models.settings import Settings
from models.storage import open_store
from models.storage.errors import ObjectCorrupt, StorageUnavailable
from models.storage.s3 import S3Connection, S3Store


@pytest.fixture
def store_kind() -> str:
    """Only the server."""
    return "s3"


@pytest.fixture
def client(settings: Settings) -> Iterator[object]:
    """A client beside the store's own."""
    return boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="access",
        aws_secret_access_key="secret",
    )


def _bucket(settings: Settings) -> str:
    return settings.object_store.removeprefix("s3://").partition("/")[0]


def test_keys_lie_below_the_prefix(settings: Settings, client: object) -> None:
    open_store(settings).put_bytes("a/b", b"x")
    listing = client.list_objects_v2(Bucket=_bucket(settings))  # type: ignore[attr-defined]
    assert [entry["Key"] for entry in listing["Contents"]] == ["test/a/b"]


def test_a_damaged_object_is_noticed(settings: Settings, client: object, tmp_path: Path) -> None:
    store = open_store(settings)
    store.put_bytes("key", b"what was stored")
    head = client.head_object(Bucket=_bucket(settings), Key="test/key")  # type: ignore[attr-defined]
    client.put_object(  # type: ignore[attr-defined]
        Bucket=_bucket(settings), Key="test/key", Body=b"what rotted away", Metadata=head["Metadata"]
    )
    with pytest.raises(ObjectCorrupt):
        store.get_bytes("key")
    with pytest.raises(ObjectCorrupt):
        store.get_file("key", tmp_path / "target")
    assert list(tmp_path.glob("*target*")) == []


def test_a_server_that_is_away_fails_soon(tmp_path: Path) -> None:
    nowhere = S3Connection("http://127.0.0.1:1", access_key_id="a", secret_access_key="s", connect_timeout_s=0.2)
    store = S3Store("bucket", "", nowhere)
    (tmp_path / "source").write_bytes(b"x")
    with pytest.raises(StorageUnavailable):
        store.get_bytes("key")
    with pytest.raises(StorageUnavailable):
        store.put_file("key", tmp_path / "source")
    with pytest.raises(StorageUnavailable):
        list(store.list(""))


def test_a_bucket_that_is_not_there(settings: Settings, tmp_path: Path) -> None:
    server = S3Connection(settings.s3_endpoint_url, access_key_id="a", secret_access_key="s")
    store = S3Store("no-such-bucket", "", server)
    (tmp_path / "source").write_bytes(b"x")
    with pytest.raises(StorageUnavailable, match="NoSuchBucket"):
        store.put_bytes("key", b"x")
    with pytest.raises(StorageUnavailable, match="NoSuchBucket"):
        store.put_file("key", tmp_path / "source")
