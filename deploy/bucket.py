"""Make the bucket of the object store, for servers that start empty."""

from __future__ import annotations

from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from models.settings import Settings


def create(settings: Settings) -> str:
    """Create the bucket if it is missing; a line that says what happened. A folder needs nothing."""
    address = urlsplit(settings.resolved_object_store)
    if address.scheme != "s3":
        return "The object store is a folder; it needs no bucket."
    client = boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint_url,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key_id.get_secret_value() if settings.s3_access_key_id else None,
        aws_secret_access_key=settings.s3_secret_access_key.get_secret_value()
        if settings.s3_secret_access_key
        else None,
        config=Config(s3={"addressing_style": "path"} if settings.s3_endpoint_url else {}),
    )
    # AWS takes every region as a constraint but its first one.
    if settings.s3_region == "us-east-1" or settings.s3_endpoint_url:
        place = {}
    else:
        place = {"CreateBucketConfiguration": {"LocationConstraint": settings.s3_region}}
    try:
        client.create_bucket(Bucket=address.netloc, **place)  # type: ignore[arg-type]
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "BucketAlreadyOwnedByYou":
            raise
        return f"The bucket {address.netloc} exists."
    return f"The bucket {address.netloc} is made."
