"""An S3 server on this machine, on a free port of loopback, and a bucket in it."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from scalelite.recordings.bucket import Bucket, Patience
from scalelite.recordings.s3 import S3Storage

PATIENCE = Patience(5, 20, 1)


@attrs.frozen
class S3:
    """A bucket; `client` is boto3's."""

    url: str
    name: str
    client: Any

    @property
    def bucket(self) -> Bucket:
        return Bucket(self.client, self.name)

    @property
    def storage(self) -> S3Storage:
        return S3Storage(self.bucket)

    def keys(self, prefix: str = "") -> dict[str, bytes]:
        """All objects."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        names = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return {name: self.client.get_object(Bucket=self.name, Key=name)["Body"].read() for name in names}

    def names(self, prefix: str = "") -> list[str]:
        return sorted(found.key for found in self.bucket.objects(prefix))


def environment(url: str, key: str = "a key") -> dict[str, str]:
    """AWS' own variables."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": "its secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Its URL."""
    # It takes a while to import, and few tests need it.
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> S3:
    """An empty bucket, and AWS' variables set so that it is found."""
    import boto3

    for name, value in environment(s3_server).items():
        monkeypatch.setenv(name, value)
    client = boto3.session.Session().client("s3")
    name = f"recordings-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=name)
    return S3(s3_server, name, client)
