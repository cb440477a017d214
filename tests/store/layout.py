"""Scalelite's Redis layout as a check, and the stores over one connection with short ways to look and to prepare."""

from __future__ import annotations

import json
import re
from typing import Any
from zlib import crc32

from scalelite.cluster.placement import parse_tags
from scalelite.cluster.records import Meeting, ServerState
from scalelite.cluster.statistics import PollLimits, ServerStatistics
from scalelite.store.callbacks import CallbackStore
from scalelite.store.connection import Redis
from scalelite.store.leases import LeaseStore
from scalelite.store.meetings import MeetingStore, NewMeeting, Placement, Reservation
from scalelite.store.servers import PollOutcome, ServerStore
from scalelite.store.tenants import TenantStore

PREFIX = "scalelite:"
TTL = 86400
GRACE = 60.0
ENABLED, CORDONED, DISABLED = ServerState

SERVER_FIELDS = {
    "url", "secret", "tag", "online", "load_multiplier", "state", "meetings", "users", "largest_meeting", "videos",
    "bbb_version", "enabled",
}  # fmt: skip
MEETING_FIELDS = {"server_id", "moderator_pw", "voice_bridge", "tenant_id"}
_TOKEN_KEY = re.compile("protector_token_[0-9a-f]{64}")
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?\Z")


class Stores:
    """`servers`, `meetings`, `tenants`, `callbacks` and `leases` over one Redis; a new meeting counts 15."""

    def __init__(self, redis: Redis, prefix: str, *, ttl: int = TTL, new_meeting_load: float = 15) -> None:
        self.redis = redis
        self.prefix = prefix
        self.limits = PollLimits(meeting_ttl=ttl, new_meeting_load=new_meeting_load, pending_grace=GRACE)
        self.servers = ServerStore(redis, prefix)
        self.meetings = MeetingStore(redis, prefix, ttl=ttl, new_meeting_load=new_meeting_load)
        self.tenants = TenantStore(redis, prefix)
        self.callbacks = CallbackStore(redis, prefix)
        self.leases = LeaseStore(redis, prefix)
        self.foreign: set[str] = set()

    async def call(self, command: str, key: str, *args: Any) -> Any:
        """One command on a key, given without the prefix."""
        return await self.redis.call(command, self.prefix + key, *args)

    async def hash(self, key: str) -> dict[str, str]:
        """A hash as Scalelite reads it."""
        flat = await self.call("HGETALL", key)
        return dict(zip(flat[::2], flat[1::2], strict=True))

    async def scores(self, key: str) -> dict[str, float]:
        """A sorted set."""
        flat = await self.call("ZRANGE", key, 0, -1, "WITHSCORES")
        return {member: float(score) for member, score in zip(flat[::2], flat[1::2], strict=True)}

    async def members(self, key: str) -> set[str]:
        """A set."""
        return set(await self.call("SMEMBERS", key))

    async def put_foreign(self, key: str) -> None:
        """Let a key hold what neither Scalelite nor this program ever put there."""
        await self.call("DEL", key)
        await self.call("RPUSH", key, "foreign")
        self.foreign.add(key)

    async def time(self) -> float:
        """Redis' clock."""
        return await self.leases.now()

    async def add(
        self, server_id: str, load: float | None = 0, *, state: ServerState = ENABLED, multiplier: float = 1.0,
        tag: str = "",
    ) -> None:  # fmt: skip
        """A server in that state; online with that load unless the load is None."""
        await self.servers.add(server_id, f"https://{server_id}/api", f"secret of {server_id}", multiplier, tag)
        await self.servers.set_state(server_id, ENABLED)
        if load is not None:
            await self.poll(server_id, load=int(load))
            if state is not DISABLED:
                await self.call("ZADD", "server_load", load, server_id)
        await self.servers.set_state(server_id, state)

    async def poll(
        self, server_id: str, *ids: str, load: int = 0, asked: float | None = None, users: int = 0,
        limits: PollLimits | None = None,
    ) -> PollOutcome:  # fmt: skip
        """A good poll, asked for now (or at `asked`), that lists meetings by `ids`."""
        found = ServerStatistics(load=load, users=users, meetings=len(ids), meeting_ids=ids)
        asked = await self.time() if asked is None else asked
        return await self.servers.record_poll(server_id, asked, found, limits or self.limits)

    async def fail(self, server_id: str, times: int = 1, limits: PollLimits | None = None) -> PollOutcome:
        """So many polls without an answer."""
        for _ in range(times):
            outcome = await self.servers.record_poll(server_id, await self.time(), None, limits or self.limits)
        return outcome

    async def reserve(
        self, meeting_id: str, *, tenant: str = "", tags: str | None = None, bridges: tuple[str, ...] | None = None,
        password: str = "pw", verdict: str = "", excluded: tuple[str, ...] = (),
    ) -> Reservation:  # fmt: skip
        """The first half of a create call."""
        numbers = (f"1{crc32(meeting_id.encode()):010}",) if bridges is None else bridges
        new = NewMeeting(meeting_id, tenant, password, parse_tags(tags), numbers)
        return await self.meetings.reserve(new, verdict, excluded)

    async def place(self, meeting_id: str, **options: Any) -> Meeting:
        """Reserve a meeting that is expected to be new."""
        reservation = await self.reserve(meeting_id, **options)
        assert reservation.placement is Placement.NEW
        assert reservation.meeting is not None
        return reservation.meeting

    async def create(self, meeting_id: str, **options: Any) -> Meeting:
        """Place a meeting and confirm it."""
        meeting = await self.place(meeting_id, **options)
        assert await self.meetings.confirm(meeting)
        return meeting

    async def where(self, meeting_id: str) -> str | None:
        """The server that holds a meeting's record."""
        found = await self.meetings.find(meeting_id)
        return found.meeting.server_id if found else None


async def check_layout(stores: Stores) -> list[str]:
    """What Scalelite could not read back, or would stumble over."""
    problems = []
    for full in await stores.redis.call("KEYS", "*"):
        key = full.removeprefix(stores.prefix)
        if not full.startswith(stores.prefix):
            problems.append(f"{full!r} is outside the namespace")
        elif key not in stores.foreign:
            problems += await _check(stores, key)
    return problems


async def _check(stores: Stores, key: str) -> list[str]:
    kind = await stores.call("TYPE", key)
    name, colon, _ = key.partition(":")
    if name == "balancer" and colon:
        return [] if await stores.call("TTL", key) > 0 else [f"{key} never goes away"]
    if key in ("servers", "server_enabled", "meetings", "tenants") or (name == "tenant_settings" and colon):
        return [] if kind == "set" else [f"{key} is a {kind}"]
    if key in ("server_load", "cordoned_server_load"):
        return [] if kind == "zset" else [f"{key} is a {kind}"]
    if _TOKEN_KEY.fullmatch(key):
        return await _check_token(stores, key, kind)
    if kind != "hash":
        return [f"{key} is a {kind}"]
    fields = await stores.hash(key)
    if name == "server" and colon:
        return _check_server(key, fields)
    if name == "meeting" and colon:
        unknown = [f"{key} has the fields {sorted(fields)}"] if set(fields) - MEETING_FIELDS else []
        return unknown if await stores.call("TTL", key) > 0 else [*unknown, f"{key} never expires"]
    if key == "voice_bridges" or (name in ("tenant", "tenant_name", "tenant_setting") and colon):
        return []
    if set(fields) <= {"healthy_counter", "unhealthy_counter"} and all(value.isdigit() for value in fields.values()):
        return []
    return [f"{key} is not in the layout: {fields}"]


async def _check_token(stores: Stores, key: str, kind: str) -> list[str]:
    if kind != "string" or await stores.call("TTL", key) <= 0:
        return [f"{key} is a {kind} or never expires"]
    value = json.loads(await stores.call("GET", key))
    return [] if set(value) == {"record_id", "format"} else [f"{key} holds {value}"]


def _check_server(key: str, fields: dict[str, str]) -> list[str]:
    problems = [f"{key} has an unknown field {name}" for name in set(fields) - SERVER_FIELDS]
    if fields.get("online") not in ("true", "false", None):
        problems.append(f"{key} is online={fields['online']}")
    if fields.get("state", "enabled") not in ("enabled", "cordoned", "disabled") and key not in ("server:odd",):
        problems.append(f"{key} is state={fields['state']}")
    if not _DECIMAL.match(fields.get("load_multiplier", "1.0")):
        problems.append(f"{key} has load_multiplier={fields['load_multiplier']}")
    for name in ("meetings", "users", "largest_meeting", "videos"):
        if not fields.get(name, "0").isdigit():
            problems.append(f"{key} has {name}={fields[name]}")
    return problems
