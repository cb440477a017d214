"""Playback over HTTP: who is sent to a player, who gets a file, and what everybody else sees."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import pytest_twisted

from scalelite.recordings.database import Database, DatabaseUnavailable
from tests.api.support import add_tenant, exchange
from tests.balancer import Answer, Balancer
from tests.recordings.playable import add_recording, change_recording

R = "0f3c9d-1609459200123"
TOKEN = "5a" * 32


@attrs.frozen
class Cinema:
    """A balancer with recordings."""

    balancer: Balancer

    @property
    def database(self) -> Database:
        assert self.balancer.parts.archive is not None
        return self.balancer.parts.archive.database

    async def add(self, record_id: str = R, *formats: str, **options: Any) -> None:
        urls = {name: f"/playback/{name}/2.3/{record_id}" for name in formats or ("presentation", "video", "podcast")}
        await self.database.run(lambda connection: add_recording(connection, record_id, urls, **options))

    async def token(self, record_id: str = R, playback_format: str = "presentation") -> str:
        value = json.dumps({"record_id": record_id, "format": playback_format})
        await self.balancer.redis("SET", self.balancer.key(f"protector_token_{TOKEN}"), value, "EX", "60")
        return TOKEN

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        url = f"http://127.0.0.1:{self.balancer.port}{path}"
        return await self.balancer.request(method, url, headers={k.replace("_", "-"): v for k, v in headers.items()})

    async def ticket(self, playback_format: str = "presentation", record_id: str = R) -> str:
        """The cookie for a protected recording, as a browser sends it back."""
        token = await self.token(record_id, playback_format)
        answer = await self.get(f"/recording/{record_id}/{playback_format}?token={token}")
        return answer.headers["set-cookie"].partition(";")[0]


@pytest_twisted.async_yield_fixture()
async def cinema(sqlite_url: str) -> AsyncIterator[Cinema]:
    balancer = await Balancer.start(database_url=sqlite_url, serve_recordings=False, protected_recordings_enabled=True)
    yield Cinema(balancer)
    await balancer.stop()


def is_page(answer: Answer, title: str = "Recording Not Found") -> bool:
    return (
        answer.headers["content-type"] == "text/html; charset=utf-8"
        and f"<h1>{title}</h1>".encode() in answer.body
        and b"Traceback" not in answer.body
    )


@pytest_twisted.ensureDeferred
async def test_link_to_a_recording_leads_to_its_player(cinema: Cinema) -> None:
    await cinema.add()
    answer = await cinema.get(f"/recording/{R}/video", Host="b.example.com", X_Forwarded_Proto="https")
    assert (answer.code, answer.body) == (307, b"")
    assert answer.location == f"https://b.example.com/playback/video/2.3/{R}"
    assert "set-cookie" not in answer.headers
