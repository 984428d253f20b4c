"""Objects in S3, or in any server with its protocol."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, cast
from uuid import uuid4

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from models.storage.errors import ObjectCorrupt, ObjectMissing, StorageUnavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PART_BYTES = 8 * 1024 * 1024
_COPY_BYTES = 1024 * 1024
# Every object carries the hash of its content: what is fetched years later is checked against it.
_HASH = "sha256"
_MISSING = {"NoSuchKey", "404", "NotFound"}


@dataclass(frozen=True, slots=True)
class S3Connection:
    """A server and its credentials. Without an endpoint: AWS; without keys: those of the environment."""

    endpoint_url: str | None = None
    region: str = "us-east-1"
    access_key_id: str | None = None
    secret_access_key: str | None = None
    connect_timeout_s: float = 3.0
    read_timeout_s: float = 20.0


class S3Store:
    """An `ObjectStore` in one bucket, below one prefix. Threads may share it."""

    def __init__(self, bucket: str, prefix: str, connection: S3Connection) -> None:
        self._bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        config = Config(
            connect_timeout=connection.connect_timeout_s,
            read_timeout=connection.read_timeout_s,
            retries={"mode": "standard", "max_attempts": 4},
            max_pool_connections=32,
            # Self-hosted servers rarely have a host name per bucket.
            s3={"addressing_style": "path" if connection.endpoint_url else "auto"},
            # Checksums are asked for by name below; the newer defaults break older servers.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        self._client: S3Client = boto3.session.Session().client(
            "s3",
            endpoint_url=connection.endpoint_url,
            region_name=connection.region,
            aws_access_key_id=connection.access_key_id,
            aws_secret_access_key=connection.secret_access_key,
            config=config,
        )
        self._transfer = TransferConfig(
            multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=4
        )

    def put_file(self, key: str, path: Path) -> None:
        """Store a local file, whole or not at all; large ones in parts. The server checks each part's SHA-256."""
        sha256, size = _hash_file(path)
        with _translated(key):
            self._client.upload_file(
                str(path),
                self._bucket,
                self._prefix + key,
                ExtraArgs={"ChecksumAlgorithm": "SHA256", "Metadata": {_HASH: sha256}},
                Config=self._transfer,
            )
            self._verify(key, sha256, size)

    def put_bytes(self, key: str, data: bytes) -> None:
        """Store a small object, whole or not at all. The server checks its SHA-256."""
        digest = hashlib.sha256(data)
        with _translated(key):
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._prefix + key,
                Body=data,
                ChecksumSHA256=base64.b64encode(digest.digest()).decode(),
                Metadata={_HASH: digest.hexdigest()},
            )
            self._verify(key, digest.hexdigest(), len(data))

    def get_file(self, key: str, path: Path) -> None:
        """Fetch to a local file, which appears complete or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            with _translated(key), temporary.open("xb") as target:
                self._copy(key, target)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def get_bytes(self, key: str) -> bytes:
        """Fetch a small object."""
        with _translated(key):
            response = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
            data = response["Body"].read()
        _compare(key, response["Metadata"].get(_HASH), hashlib.sha256(data).hexdigest())
        return data

    def open(self, key: str) -> BinaryIO:
        """Stream an object. Its content is not checked; `get_file` checks it."""
        with _translated(key):
            response = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
        return cast("BinaryIO", response["Body"])

    def exists(self, key: str) -> bool:
        """Return whether the object is there."""
        try:
            with _translated(key):
                self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)
        except ObjectMissing:
            return False
        return True

    def modified_at(self, key: str) -> float:
        """Return the time at which the object was stored, Unix seconds by the server's clock."""
        with _translated(key):
            head = self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)
        return head["LastModified"].timestamp()

    def list(self, prefix: str) -> Iterator[str]:
        """Return keys below a prefix."""
        with _translated(prefix):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                for entry in page.get("Contents", []):
                    yield entry["Key"].removeprefix(self._prefix)

    def delete(self, key: str) -> None:
        """Remove an object; no error if it is gone already."""
        with _translated(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def delete_prefix(self, prefix: str) -> int:
        """Remove everything below a prefix, which ends with a slash; return how many objects."""
        if not prefix.endswith("/"):
            raise ValueError(f"not a folder: {prefix!r}")
        keys = list(self.list(prefix))
        # One by one: the batch call needs a Content-MD5 that some servers require and newer clients no longer send.
        for key in keys:
            self.delete(key)
        return len(keys)

    def remove_unfinished(self, older_than_s: float) -> int:  # noqa: ARG002
        """Remove nothing, return 0: parts of uploads are left to a lifecycle rule of the bucket."""
        return 0

    def _copy(self, key: str, target: IO[bytes]) -> None:
        response = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
        digest = hashlib.sha256()
        for chunk in response["Body"].iter_chunks(_COPY_BYTES):
            digest.update(chunk)
            target.write(chunk)
        _compare(key, response["Metadata"].get(_HASH), digest.hexdigest())

    def _verify(self, key: str, sha256: str, size: int) -> None:
        head = self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)
        if head["ContentLength"] != size:
            raise ObjectCorrupt(key=key, reason=f"{head['ContentLength']} bytes arrived of {size}")
        _compare(key, head["Metadata"].get(_HASH), sha256)


def _hash_file(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), file.tell()


def _compare(key: str, stored: str | None, actual: str) -> None:
    if stored is not None and stored != actual:
        raise ObjectCorrupt(key=key, reason="its SHA-256 is not the one it was stored with")


@contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, Boto3Error, ClientError) as error:
        # An upload in parts wraps the server's error.
        cause = error if isinstance(error, ClientError) else error.__context__
        code = (
            cause.response.get("Error", {}).get("Code", "") if isinstance(cause, ClientError) else type(error).__name__
        )
        if code in _MISSING:
            raise ObjectMissing(key=key) from error
        raise StorageUnavailable(reason=f"it answered {code}") from error
    except OSError as error:
        raise StorageUnavailable(reason=error.strerror or type(error).__name__) from error
