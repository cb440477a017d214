"""Looking through all records: slices, expired entries, and voice bridges that nobody needs any more."""

from __future__ import annotations

import pytest_twisted

from tests.store.layout import Stores


async def _ids(stores: Stores) -> list[str]:
    return sorted({meeting.id async for meeting in stores.meetings.scan()})


@pytest_twisted.ensureDeferred
async def test_every_meeting_is_seen_however_many_there_are(stores: Stores) -> None:
    await stores.add("s1")
    commands = []
    for number in range(1200):
        key = f"{stores.prefix}meeting:m{number}"
        commands += [("HSET", key, "server_id", "s1"), ("EXPIRE", key, 100)]
        commands.append(("SADD", f"{stores.prefix}meetings", f"m{number}"))
    await stores.redis.many(commands)
    assert await _ids(stores) == sorted(f"m{number}" for number in range(1200))
    assert len(await stores.meetings.on_server("s1")) == 1200


@pytest_twisted.ensureDeferred
async def test_expired_records_are_swept_from_the_list(stores: Stores) -> None:
    await stores.add("s1")
    await stores.create("alive")
    await stores.create("expired")
    await stores.call("DEL", "meeting:expired")
    assert await _ids(stores) == ["alive"]
    assert await stores.members("meetings") == {"alive"}


@pytest_twisted.ensureDeferred
async def test_id_that_is_no_text_does_not_stop_the_scan(stores: Stores) -> None:
    await stores.add("s1")
    await stores.create("m")
    odd = b"\xff\xfe"
    key = b"scalelite:meeting:" + odd
    await stores.redis.call("HSET", key, "server_id", "s1")
    await stores.redis.call("SADD", "scalelite:meetings", odd)
    assert await _ids(stores) == ["m"]
    assert await stores.redis.call("DEL", key) == 1


@pytest_twisted.ensureDeferred
async def test_meetings_of_one_server_come_by_id(stores: Stores) -> None:
    await stores.add("s1", 0)
    await stores.add("s2", 10)
    for meeting_id in ("c", "a", "b", "d"):
        await stores.create(meeting_id)
    on = {s: [meeting.id for meeting in await stores.meetings.on_server(s)] for s in ("s1", "s2", "none")}
    assert on == {"s1": ["b", "c"], "s2": ["a", "d"], "none": []}


@pytest_twisted.ensureDeferred
async def test_number_of_a_meeting_with_a_record_is_never_unused_or_freed(stores: Stores) -> None:
    await stores.add("s1")
    await stores.create("alive", bridges=("1",))
    await stores.call("HSET", "voice_bridges", "2", "gone", "3", "gone")
    assert sorted(await stores.meetings.unused_voice_bridges()) == [("2", "gone"), ("3", "gone")]
    assert not await stores.meetings.free_voice_bridge("1", "alive")
    assert await stores.meetings.free_voice_bridge("2", "gone")
    assert not await stores.meetings.free_voice_bridge("2", "gone")
    assert await stores.hash("voice_bridges") == {"1": "alive", "3": "gone"}


@pytest_twisted.ensureDeferred
async def test_number_taken_by_another_meeting_meanwhile_is_not_freed(stores: Stores) -> None:
    await stores.add("s1")
    await stores.call("HSET", "voice_bridges", "1", "gone")
    await stores.create("m", bridges=("1",))
    assert not await stores.meetings.free_voice_bridge("1", "gone")
    assert await stores.hash("voice_bridges") == {"1": "m"}


@pytest_twisted.ensureDeferred
async def test_unused_numbers_are_found_however_many_there_are(stores: Stores) -> None:
    await stores.redis.call(
        "HSET", f"{stores.prefix}voice_bridges", *[part for n in range(1500) for part in (str(n), f"m{n}")]
    )
    assert len(set(await stores.meetings.unused_voice_bridges())) == 1500
