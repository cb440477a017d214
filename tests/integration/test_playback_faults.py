"""Playback while PostgreSQL or Redis is down: what is known plays on, and the rest is told in a page."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted

from tests.balancer import Answer, Balancer
from tests.integration.postgres import PostgresServer
from tests.integration.redis_server import RedisServer, eventually
from tests.recordings.playable import add_recording

pytestmark = pytest.mark.integration

TOKEN = "5a" * 32
SETTINGS: dict[str, Any] = {"serve_recordings": False, "protected_recordings_enabled": True, "db_timeout": 2.0}


async def get(balancer: Balancer, path: str) -> Answer:
    return await balancer.request("GET", f"http://127.0.0.1:{balancer.port}{path}")


async def add(balancer: Balancer, record_id: str, **options: Any) -> None:
    archive = balancer.parts.archive
    assert archive is not None
    await archive.database.run(lambda connection: add_recording(connection, record_id, {"video": "/v"}, **options))


def is_apology(answer: Answer) -> bool:
    return answer.code == 503 and b"<h1>Temporarily Unavailable</h1>" in answer.body


@pytest_twisted.ensureDeferred
async def test_known_recordings_play_on_while_postgresql_is_away(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    balancer = await Balancer.start(database_url=postgres_url, **SETTINGS)
    try:
        for record_id in ("known", "unknown"):
            await add(balancer, record_id)
        assert (await get(balancer, "/video/known/a.webm")).code == 200
        postgres_server.stop()
        try:
            for _ in range(3):
                assert (await get(balancer, "/video/known/a.webm")).code == 200
                assert (await get(balancer, "/recording/known/video")).code == 307
            assert is_apology(await get(balancer, "/video/unknown/a.webm"))
            assert is_apology(await get(balancer, "/recording/unknown/video"))
        finally:
            postgres_server.start()

        async def played() -> bool | None:
            return (await get(balancer, "/video/unknown/a.webm")).code == 200 or None

        assert await eventually(played)
    finally:
        await balancer.stop()


@pytest_twisted.ensureDeferred
async def test_open_recordings_play_and_protected_links_wait_while_redis_hangs(sqlite_url: str) -> None:
    with RedisServer() as server:
        settings = {**SETTINGS, "redis_timeout": 0.5}
        balancer = await Balancer.start(redis=server.settings(), database_url=sqlite_url, **settings)
        try:
            await add(balancer, "open")
            await add(balancer, "closed", protected=True)
            value = json.dumps({"record_id": "closed", "format": "video"})
            await balancer.redis("SET", balancer.key(f"protector_token_{TOKEN}"), value, "EX", "600")
            server.pause()
            link = f"/recording/closed/video?token={TOKEN}"
            # A link to something else must not open it, nor cost the token, whenever Redis gets to it.
            assert is_apology(await get(balancer, f"/recording/closed/video?token={'0' * 64}"))
            assert (await get(balancer, "/video/open/a.webm")).code == 200
            assert (await get(balancer, "/recording/open/video")).code == 307
            server.resume()

            async def opened() -> Answer | None:
                answer = await get(balancer, link)
                return None if is_apology(answer) else answer

            assert (await eventually(opened)).code == 307
        finally:
            server.resume()
            await balancer.stop()
