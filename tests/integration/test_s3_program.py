"""The whole program with its recordings in S3: imported, listed, played, unpublished, deleted."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.processes import Program, eventually
from tests.integration.requirements import require
from tests.recordings.s3_server import S3, environment
from tests.recordings.tars import RECORD, recording, write_tar

pytestmark = pytest.mark.integration

SLIDE = f"presentation/{RECORD}/slides/1.svg"


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's tmp_path, which is too long for redis-cli's UNIX socket.
    require("redis-server")
    made = Path(tempfile.mkdtemp(prefix="sl-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def call(program: Program, action: str, **params: str) -> str:
    return program.get(program.signed(action, **params))[1]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_recording_lives_in_the_bucket_from_import_to_deletion(folder: Path, s3: S3, workers: str) -> None:
    settings = {"S3_RECORDING": "true", "S3_BUCKET_NAME": s3.name, **environment(s3.url)}
    with Program(folder, WEB_CONCURRENCY=workers, RECORDING_IMPORT_POLL_INTERVAL="1", **settings) as program:
        program.ready()
        write_tar(folder / "var" / "bigbluebutton" / "spool", recording(text="a slide"))
        eventually(lambda: RECORD in call(program, "getRecordings", recordID=RECORD))
        assert f"published/{SLIDE}" in s3.names()
        assert program.get(f"/{SLIDE}") == (200, "a slide")
        assert "SUCCESS" in call(program, "publishRecordings", recordID=RECORD, publish="false")
        assert s3.names("published/") == []
        assert f"unpublished/{SLIDE}" in s3.names()
        # Another process may still know it as published for some seconds; its files are gone all the same.
        assert program.get(f"/{SLIDE}")[0] == 404
        assert "SUCCESS" in call(program, "deleteRecordings", recordID=RECORD)
        assert s3.names() == []
        assert not (folder / "var" / "bigbluebutton" / "published").exists()


def test_program_does_not_start_without_a_bucket(folder: Path) -> None:
    with Program(folder, S3_RECORDING="true") as program:
        assert program.wait() == 2
        assert "S3_BUCKET_NAME is unset: S3_RECORDING needs it." in program.text
