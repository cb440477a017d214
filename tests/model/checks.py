"""What must hold after every step, and what must hold once all is quiet."""

from __future__ import annotations

from typing import Any

from tests.model.world import TTL, World, alive
from tests.store.layout import Stores, check_layout

SERVER_FIELDS = frozenset(
    (
        "url", "secret", "tag", "load_multiplier", "online", "state",
        "meetings", "users", "largest_meeting", "videos", "bbb_version",
    )
)  # fmt: skip
MEETING_FIELDS = frozenset(("server_id", "moderator_pw", "voice_bridge", "tenant_id"))
COUNTERS = frozenset(("healthy_counter", "unhealthy_counter"))


class Store:
    """A snapshot of the store, read as Scalelite would."""

    def __init__(self, snapshot: dict[str, Any]) -> None:
        self.raw = snapshot

    def _below(self, prefix: str) -> dict[str, Any]:
        return {key.removeprefix(prefix): value for key, value in self.raw.items() if key.startswith(prefix)}

    @property
    def servers(self) -> dict[str, dict[str, str]]:
        return self._below("server:")

    @property
    def meetings(self) -> dict[str, dict[str, str]]:
        return self._below("meeting:")

    @property
    def pending(self) -> dict[str, dict[str, str]]:
        return self._below("balancer:pending:")

    @property
    def old_copies(self) -> dict[str, set[str]]:
        """Ids of the meetings that a server may have a copy of which does not count, by server."""
        held = self._below("balancer:old_copies:")
        return {
            server_id: {
                meeting_id for meeting_id in copies if self.meetings.get(meeting_id, {}).get("server_id") != server_id
            }
            for server_id, copies in held.items()
        }

    @property
    def ending(self) -> dict[str, dict[str, float]]:
        """Until when a call that ends a copy may be on its way, by meeting and server."""
        held = self._below("balancer:ending:")
        return {key: {server_id: float(over) for server_id, over in ends.items()} for key, ends in held.items()}

    @property
    def loads(self) -> dict[str, float]:
        return {server_id: float(load) for server_id, load in self.raw.get("server_load", {}).items()}

    @property
    def cordoned_loads(self) -> dict[str, float]:
        return {server_id: float(load) for server_id, load in self.raw.get("cordoned_server_load", {}).items()}

    @property
    def bridges(self) -> dict[str, str]:
        return dict(self.raw.get("voice_bridges", {}))

    def takes_joins(self, server_id: str) -> bool:
        server = self.servers.get(server_id, {})
        return server.get("online") == "true" and server.get("state") in ("enabled", "cordoned")


async def check(world: World) -> Store:
    """What must hold after every step."""
    store = Store(await world.snapshot())
    _layout(store)
    _loads(store)
    _bridges(store)
    _nothing_in_the_way(world, store)
    _nothing_doubled(world, store)
    _nothing_ended(world, store)
    await _nothing_lost(world, store)
    world.forgiven.clear()
    return store


def _layout(store: Store) -> None:
    for server_id, server in store.servers.items():
        assert server.keys() <= SERVER_FIELDS, f"fields of server {server_id} unknown to Scalelite: {server}"
        assert set(store.raw.get(server_id, {})) <= COUNTERS
        assert server["state"] in ("enabled", "cordoned", "disabled")
    assert set(store.servers) == store.raw.get("servers", set())
    for meeting_id, meeting in store.meetings.items():
        assert meeting.keys() <= MEETING_FIELDS, f"fields of meeting {meeting_id} unknown to Scalelite: {meeting}"
        assert meeting_id in store.raw["meetings"], f"{meeting_id} is recorded, and not in the list of meetings"


def _loads(store: Store) -> None:
    enabled = {server_id for server_id, server in store.servers.items() if server["state"] == "enabled"}
    cordoned = {server_id for server_id, server in store.servers.items() if server["state"] == "cordoned"}
    online = {server_id for server_id, server in store.servers.items() if server["online"] == "true"}
    assert set(store.loads) <= enabled & online, f"servers that must take no meetings: {store.loads}"
    assert set(store.cordoned_loads) <= cordoned & online
    assert store.raw.get("server_enabled", set()) == enabled
    for loads in (store.loads, store.cordoned_loads):
        assert all(load >= 0 for load in loads.values()), f"a load below zero: {loads}"


def _bridges(store: Store) -> None:
    numbers = [meeting["voice_bridge"] for meeting in store.meetings.values() if meeting.get("voice_bridge")]
    assert len(numbers) == len(set(numbers)), f"two meetings have one number: {store.meetings}"
    for meeting_id, meeting in store.meetings.items():
        assert not meeting["voice_bridge"] or store.bridges.get(meeting["voice_bridge"]) == meeting_id, (
            f"the number of {meeting_id} is not its own: {store.bridges}"
        )


def _nothing_in_the_way(world: World, store: Store) -> None:
    """No meeting is recorded where a call that ends it may be on its way."""
    for meeting_id, ends in store.ending.items():
        holder = store.meetings.get(meeting_id, {}).get("server_id", "")
        assert ends.get(holder, 0) <= world.now(), f"{meeting_id} is recorded on {holder}, where it is being ended"


def _nothing_doubled(world: World, store: Store) -> None:
    """No meeting lives on two servers that users can be sent to or that are listed."""
    for meeting_id in {meeting_id for node in world.nodes.values() for meeting_id in node.meetings}:
        living = [
            server_id
            for server_id in world.copies(meeting_id)
            if store.takes_joins(server_id) and meeting_id not in store.old_copies.get(server_id, ())
        ]
        assert len(living) <= 1, f"{meeting_id} lives on {living}, recorded: {store.meetings.get(meeting_id)}"


def _nothing_ended(world: World, store: Store) -> None:
    """The balancer ended no meeting that a client was told of, unless it lives where clients are sent now."""
    for meeting_id, told in list(world.told.items()):
        if told.alive:
            continue
        del world.told[meeting_id]
        if told.copy.forcibly_ended and meeting_id not in world.forgiven:
            holder = store.meetings.get(meeting_id, {}).get("server_id", "")
            assert holder in world.copies(meeting_id), f"{meeting_id} on {told.server_id} was ended by the balancer"


async def _nothing_lost(world: World, store: Store) -> None:
    """Users get to each meeting that a client was told of, as long as its server may have them."""
    last_good = world.house.poll.poller.last_good
    for meeting_id in list(world.told):
        told = world.told[meeting_id]
        if world.now() - max(told.at, last_good.get(told.server_id, 0)) > TTL - 60:
            del world.told[meeting_id]
            continue
        if meeting_id in store.pending:
            # A create that nobody answered may have moved it. Where it is then, it stays.
            world.in_doubt.add(meeting_id)
            continue
        if meeting_id in world.in_doubt:
            world.in_doubt.remove(meeting_id)
            told = await world.look_again(meeting_id)
        if store.takes_joins(told.server_id):
            where = await world.redirect(meeting_id)
            assert where == told.server_id, (
                f"{meeting_id} lives on {told.server_id}, users are sent to {where}; "
                f"recorded: {store.meetings.get(meeting_id)}"
            )


async def check_listing(world: World) -> None:
    """What must hold of getMeetings at any time."""
    listed = await world.listed()
    if listed is not None:
        assert len(listed) == len(set(listed)), f"listed twice: {listed}"


async def check_quiet(world: World) -> None:
    """What must hold once all is quiet, for which this waits."""
    await world.settle(check)
    store = await check(world)
    living = {
        (meeting_id, server_id)
        for server_id, node in world.nodes.items()
        for meeting_id, copy in node.meetings.items()
        if alive(copy)
    }
    # What is kept of a server that was removed by force stays for the next create, or until it expires.
    recorded = {
        (meeting_id, meeting["server_id"])
        for meeting_id, meeting in store.meetings.items()
        if meeting["server_id"] in world.nodes
    }
    assert recorded == living, f"recorded {recorded}, living {living}"
    assert store.raw.get("meetings", set()) == set(store.meetings)
    pending = {key: create for key, create in store.pending.items() if create["server_id"] in world.nodes}
    assert not pending, f"still pending: {pending}"
    old_copies = {key: copies for key, copies in store.old_copies.items() if copies and key in world.nodes}
    assert not old_copies, f"old copies left: {old_copies}"
    numbers = {meeting["voice_bridge"]: key for key, meeting in store.meetings.items() if meeting["voice_bridge"]}
    assert store.bridges == numbers
    for server_id, server in store.servers.items():
        assert server["online"] == "true"
        assert (server_id in store.loads) == (server["state"] == "enabled")
        assert (server_id in store.cordoned_loads) == (server["state"] == "cordoned")
    for server_id, load in {**store.loads, **store.cordoned_loads}.items():
        expected = expected_load(world, server_id) * float(store.servers[server_id]["load_multiplier"])
        assert load == expected, f"the load of {server_id} is {load}, and not {expected}"
    parts = world.house.parts
    assert await check_layout(Stores(parts.redis, world.house.key(""))) == []
    listed = await world.listed()
    assert sorted(listed or ()) == sorted(key for key, server_id in living if store.takes_joins(server_id))


def expected_load(world: World, server_id: str) -> int:
    """What a poll counts: users and moderators, for a young meeting at least 15 (the settings' defaults)."""
    load = 0
    for meeting in world.nodes[server_id].meetings.values():
        count = len(meeting.participants) + sum(user.moderator for user in meeting.participants)
        young = meeting.create_time > (world.now() - 15 * 60) * 1000
        load += max(count, 15) if young else count
    return load
