"""A bucket of S3, or of what speaks its protocol: the few operations that storage and playback need. All of it blocks.

boto3 is imported only when a bucket is opened: it is an extra, and takes a while.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import attrs

from scalelite.recordings.media_types import extension, media_type
from scalelite.recordings.storage import StorageError

#: Requests to S3 at once, for one recording.
AT_ONCE: Final = 8
#: Objects that one request removes.
BATCH: Final = 1000
#: Bytes from which a copy is made in parts: S3 takes no longer one in one go.
COPY_IN_PARTS: Final = 512 * 1024 * 1024

_ATTACHED: Final = frozenset({"pdf", "ogg"})
_MISSING: Final = frozenset({"404", "NoSuchKey", "NotFound"})


class NoBoto(Exception):
    """boto3 is not installed."""


@attrs.frozen
class Patience:
    """How long S3 is waited for: seconds to connect and for each answer, and how often a request is made."""

    connect: float
    read: float
    attempts: int


#: For imports, publishing and removal.
STORING: Final = Patience(5, 60, 4)
#: For playback: a viewer waits.
PLAYING: Final = Patience(3, 10, 2)


@attrs.frozen
class Found:
    """An object that a listing names. `size` in bytes."""

    key: str
    size: int
    modified: datetime


@attrs.frozen
class Reading:
    """An object being read: `status` 200, 206, 304 or 416; `body` is to be closed, and None where there is none."""

    status: int
    size: int
    etag: str
    modified: datetime | None
    content_range: str | None
    body: Any


class Bucket:
    """The objects of one bucket. Methods raise StorageError."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    @classmethod
    def open(cls, name: str, patience: Patience) -> Bucket:
        """The bucket of that name; credentials, region and endpoint are AWS' own settings. Raises NoBoto.

        Nothing is connected yet.
        """
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError as error:
            raise NoBoto("S3_RECORDING needs boto3: install scalelite[s3]") from error
        config = Config(
            connect_timeout=patience.connect,
            read_timeout=patience.read,
            retries={"total_max_attempts": patience.attempts, "mode": "standard"},
            max_pool_connections=4 * AT_ONCE,
        )
        try:
            return cls(boto3.session.Session().client("s3", config=config), name)
        except (BotoCoreError, ValueError) as error:
            raise StorageError(f"S3 cannot be used: {error}") from error

    def objects(self, prefix: str) -> Iterator[Found]:
        """All objects below `prefix`."""
        with told(f"could not list {prefix}"):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=prefix):
                for item in page.get("Contents", ()):
                    yield Found(item["Key"], item["Size"], item["LastModified"])

    def any(self, prefix: str) -> bool:
        """Whether there is an object below `prefix`."""
        with told(f"could not list {prefix}"):
            return bool(self._client.list_objects_v2(Bucket=self._name, Prefix=prefix, MaxKeys=1).get("Contents"))

    def folders(self, prefix: str) -> Iterator[str]:
        """The names that follow `prefix`, up to a slash."""
        with told(f"could not list {prefix}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._name, Prefix=prefix, Delimiter="/"
            )
            for page in pages:
                for item in page.get("CommonPrefixes", ()):
                    yield item["Prefix"].removeprefix(prefix).removesuffix("/")

    def upload(self, files: Mapping[str, Path]) -> None:
        """Store files under keys."""

        def store(item: tuple[str, Path]) -> None:
            key, path = item
            with told(f"could not store {key}"):
                self._client.upload_file(os.fspath(path), self._name, key, ExtraArgs=headers_of(key))

        at_once(store, files.items())

    def put(self, key: str, content: bytes) -> None:
        """Store a small object."""
        with told(f"could not store {key}"):
            self._client.put_object(Bucket=self._name, Key=key, Body=content, **headers_of(key))

    def read(self, key: str, limit: int) -> bytes | None:
        """The content of an object; None if there is none, or it has more than `limit` bytes."""
        with told(f"could not read {key}"):
            reading = self._get(key, {}, head=False)
            if reading is None:
                return None
            try:
                return bytes(reading.body.read()) if reading.size <= limit else None
            finally:
                reading.body.close()

    def get(self, key: str, asked: Mapping[str, str], *, head: bool) -> Reading | None:
        """Begin to read an object under boto3's conditions `asked` (`Range`, `IfNoneMatch`, …); None: there is none."""
        with told(f"could not read {key}"):
            return self._get(key, asked, head=head)

    def _get(self, key: str, asked: Mapping[str, str], *, head: bool) -> Reading | None:
        from botocore.exceptions import ClientError

        call = self._client.head_object if head else self._client.get_object
        try:
            answer = call(Bucket=self._name, Key=key, **asked)
        except ClientError as error:
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            if error.response.get("Error", {}).get("Code") in _MISSING:
                return None
            if status in (304, 412, 416):
                return Reading(status, 0, "", None, None, None)
            raise
        content_range = answer.get("ContentRange")
        return Reading(
            206 if content_range else 200,
            int(answer["ContentLength"]),
            answer.get("ETag", ""),
            answer.get("LastModified"),
            content_range,
            answer.get("Body"),
        )

    def copy(self, keys: Mapping[str, tuple[str, int]]) -> None:
        """Copy objects within the bucket: new key -> old key and size."""

        def one(item: tuple[str, tuple[str, int]]) -> None:
            target, (source, size) = item
            origin = {"Bucket": self._name, "Key": source}
            with told(f"could not copy {source}"):
                if size < COPY_IN_PARTS:
                    self._client.copy_object(Bucket=self._name, Key=target, CopySource=origin)
                else:
                    self._client.copy(origin, self._name, target, ExtraArgs=headers_of(target))

        at_once(one, keys.items())

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects; one that is not there does no harm."""
        left = list(keys)
        while left:
            batch, left = left[:BATCH], left[BATCH:]
            with told(f"could not remove {batch[0]}"):
                answer = self._client.delete_objects(
                    Bucket=self._name, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
                )
            for error in answer.get("Errors", ()):
                raise StorageError(f"could not remove {error.get('Key')}: {error.get('Message') or error.get('Code')}")


def headers_of(key: str) -> dict[str, str]:
    """What is stored with an object, by its name: Scalelite's rules."""
    headers = {"ContentType": media_type(key)}
    if extension(key) in _ATTACHED:
        headers["ContentDisposition"] = "attachment"
    return headers


def at_once(work: Callable[[Any], None], items: Iterable[Any]) -> None:
    """Do `work` for all items, some at a time; the first failure ends it."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        futures = [threads.submit(work, item) for item in items]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        threads.shutdown(wait=True, cancel_futures=True)
        for future in done:
            future.result()


@contextmanager
def told(doing: str) -> Iterator[None]:
    """Whatever fails is a StorageError that says what was being done."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error, OSError) as error:
        raise StorageError(f"{doing} in S3: {error}") from error
