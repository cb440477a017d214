"""Another program's client of the upload protocol (tus) against the balancer."""

from __future__ import annotations

import hashlib
import os
from io import BytesIO
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from scalelite.api.uploads import PATH
from tests.api.support import running
from tests.integration.requirements import require_packages
from tests.recordings.uploading import claims, sign

pytestmark = pytest.mark.integration

CONTENT = os.urandom(2_500_000)


@pytest_twisted.ensureDeferred
async def test_public_client_uploads_in_pieces_and_resumes(sqlite_url: str, tmp_path: Path) -> None:
    require_packages("tusclient")
    from tusclient.client import TusClient

    spool = tmp_path / "spool"
    async with running(database_url=sqlite_url, upload_enabled=True, recording_spool_dir=spool) as balancer:
        await balancer.parts.servers.add("s7", "https://bbb7.example.com/bigbluebutton/api", "of seven")
        token = sign(claims(CONTENT, "rec-1", "s7"), "of seven")
        url = f"http://127.0.0.1:{balancer.port}{PATH}"

        def upload() -> list[int]:
            client = TusClient(url, headers={"Authorization": f"Bearer {token}"})
            first = client.uploader(file_stream=BytesIO(CONTENT), chunk_size=1_000_000)
            first.upload_chunk()
            second = client.uploader(file_stream=BytesIO(CONTENT), chunk_size=1_000_000, url=first.url)
            offsets = [second.offset]
            second.upload()
            return [*offsets, second.get_offset()]

        assert await deferToThread(upload) == [1_000_000, len(CONTENT)]
    received = (spool / "rec-1.tar").read_bytes()
    assert hashlib.sha256(received).hexdigest() == hashlib.sha256(CONTENT).hexdigest()
