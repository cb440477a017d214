"""The service that empties the outbox: over both engines, to real front-ends, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qs

import attrs
import jwt
import pytest
import pytest_twisted
from sqlalchemy import Connection
from twisted.internet import defer, reactor
from twisted.internet.task import Clock

from scalelite.bbb.transports import https_policy
from scalelite.cluster.callbacks import Kind, Notice
from scalelite.cluster.records import CallbackURLs
from scalelite.recordings import callback_rows, outbox
from scalelite.recordings.breaker import FAILURES, FIRST_REST
from scalelite.recordings.callback_records import CallbackCopier, CallbackRecords
from scalelite.recordings.database import Database, DatabaseUnavailable
from scalelite.recordings.delivery import Deliverer, SigningSecrets
from scalelite.recordings.hurry import REST, HurriedDatabase
from scalelite.recordings.outbox import CLAIM, OutboxEntry
from scalelite.recordings.outbox_door import OutboxDoor
from scalelite.recordings.outbox_service import INTERVAL, STOP_PATIENCE, OutboxService, Times
from scalelite.recordings.targets import TargetRules, guarded_transport
from scalelite.recordings.times import utc
from scalelite.store.callbacks import CallbackStore
from scalelite.store.connection import Redis, connect_memory
from scalelite.store.notices import NoticeStore
from scalelite.store.tenants import TenantStore
from tests.recordings.receiver import FrontEnd, front_end

T = TypeVar("T")
BASE = 1_700_000_000.0
HOUR, DAY = 3600.0, 86400.0
real: Any = reactor


class Switched:
    """A database that can be switched off; `fails` may name single pieces of work that do not come through."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.off = False
        self.fails: Callable[[Any], bool] = lambda work: False

    async def run(self, work: Callable[[Connection], T], *, deadline: float | None = None) -> T:
        if self.off or self.fails(work):
            raise DatabaseUnavailable("switched off")
        return await self._database.run(work, deadline=deadline)

    async def read(self, work: Callable[[Connection], T], *, deadline: float | None = None) -> T:
        if self.off:
            raise DatabaseUnavailable("switched off")
        return await self._database.read(work, deadline=deadline)


@attrs.define
class Elected:
    leading: bool = True

    def startService(self) -> None:
        """Nothing to start."""

    def stopService(self) -> defer.Deferred[None]:
        self.leading = False
        return defer.succeed(None)


class House:
    """A database, a Redis, and services over them that share a clock."""

    def __init__(self, database: Database, redis: Redis) -> None:
        self.clock = Clock()
        self.database = database
        self.switched: Any = Switched(database)
        self.callbacks = CallbackStore(redis, "x:")
        self.notices = NoticeStore(redis, "x:")
        self.tenants = TenantStore(redis, "x:")
        self.services: list[OutboxService] = []

    def now(self) -> float:
        return BASE + self.clock.seconds()

    def records(self, *, alone: bool = True) -> CallbackRecords:
        return CallbackRecords(HurriedDatabase(self.switched, self.clock), self.callbacks, self.now, alone=alone)

    def door(self) -> OutboxDoor:
        return OutboxDoor(HurriedDatabase(self.switched, self.clock), self.notices, self.now)

    def service(self, election: Any = None, *, alone: bool = True) -> OutboxService:
        """A running service, which looks at once."""
        rules = TargetRules(private=True)
        policy = https_policy(verify=True, ca_file=None)
        made = OutboxService(
            self.switched,
            Deliverer(
                self.clock,
                guarded_transport(reactor, real.nameResolver, rules, policy, 5),
                rules,
                SigningSecrets((b"l" * 64,), None if alone else self.tenants),
                ("SHA256",),
                self.now,
            ),
            self.records(alone=alone),
            CallbackCopier(self.switched, self.callbacks, alone=alone),
            self.notices,
            election or Elected(),
            Times(self.clock, self.now, lambda low, high: 1.0),
        )
        made.startService()
        self.services.append(made)
        return made

    async def pass_by(self, seconds: float) -> None:
        """Let time go by, and whatever then begins come to its end."""
        self.clock.advance(seconds)
        for service in self.services:
            await service.settled()

    async def put(self, *notices: Notice) -> None:
        for notice in notices:
            await self.database.run(partial(outbox.enqueue, notice=notice, now=utc(self.now())))

    async def rows(self) -> list[OutboxEntry]:
        return await self.database.read(outbox.list_outbox)


@pytest_twisted.async_yield_fixture
async def house(database: Database) -> AsyncIterator[House]:
    redis = connect_memory(reactor, timeout=10)
    redis.startService()
    house = House(database, redis)
    yield house
    for service in house.services:
        if service.running:
            await service.stopService()
    await redis.stopService()


def ready(target: FrontEnd, number: int = 1, **changes: Any) -> Notice:
    return attrs.evolve(Notice(Kind.RECORDING_READY, "", f"m{number}", target.url(), record_id=f"r{number}"), **changes)


def told(target: FrontEnd) -> list[str]:
    """The record ids that a front-end was told of."""
    ids = []
    for got in target.received:
        token = parse_qs(got.body.decode())["signed_parameters"][0]
        ids.append(jwt.decode(token, b"l" * 64, algorithms=["HS256"])["record_id"])
    return ids


@pytest_twisted.ensureDeferred
async def test_what_is_in_the_outbox_is_delivered_and_gone(house: House) -> None:
    async with front_end() as target:
        await house.put(ready(target, 1), ready(target, 2))
        house.service()
        await house.pass_by(0)
        assert sorted(told(target)) == ["r1", "r2"]
        assert await house.rows() == []
        await house.put(ready(target, 3))
        await house.pass_by(INTERVAL)
        assert told(target)[2:] == ["r3"]


@pytest_twisted.ensureDeferred
async def test_a_target_that_is_down_for_hours_gets_it_in_the_end(house: House) -> None:
    async with front_end() as target:
        await target.close()
        await house.put(ready(target))
        house.service()
        attempts = []
        for step in (0.0, 1.0, 5.0, 30.0, 120.0, 600.0, 1800.0, HOUR, HOUR, HOUR):
            await house.pass_by(step + INTERVAL)
            (row,) = await house.rows()
            attempts.append(row.attempts)
            assert row.last_error == "ConnectionRefusedError"
        assert attempts == list(range(1, 11))
        target.open()
        await house.pass_by(HOUR + INTERVAL)
        assert told(target) == ["r1"]
        assert await house.rows() == []


@pytest_twisted.ensureDeferred
async def test_after_a_day_it_is_dead_and_an_operator_can_have_it_tried_again(house: House) -> None:
    async with front_end() as target:
        await target.close()
        await house.put(ready(target))
        house.service()
        for _ in range(26):
            await house.pass_by(HOUR + INTERVAL)
        (row,) = await house.rows()
        assert (row.state, row.last_error) == ("dead", "ConnectionRefusedError")
        target.open()
        await house.pass_by(HOUR)
        assert target.received == []
        await house.database.run(partial(outbox.retry, ids=[row.id], now=utc(house.now())))
        await house.pass_by(INTERVAL)
        assert told(target) == ["r1"]


@pytest.mark.parametrize(("status", "state"), [(404, "dead"), (410, "dead"), (500, "waiting"), (302, "waiting")])
@pytest_twisted.ensureDeferred
async def test_a_url_that_is_gone_is_dead_at_once(house: House, status: int, state: str) -> None:
    async with front_end(status) as target:
        await house.put(ready(target))
        house.service()
        await house.pass_by(0)
        (row,) = await house.rows()
        assert (row.state, row.last_error, row.attempts) == (state, f"HTTP {status}", 1)


@pytest_twisted.ensureDeferred
async def test_killed_between_delivery_and_deletion_it_is_delivered_again(house: House) -> None:
    async with front_end() as target:
        await house.put(ready(target))
        house.switched.fails = lambda work: getattr(work, "func", None) is outbox.remove
        first = house.service()
        await house.pass_by(0)
        await first.stopService()
        assert told(target) == ["r1"]
        house.switched.fails = lambda work: False
        house.service()
        await house.pass_by(CLAIM.total_seconds() - 1)
        assert told(target) == ["r1"]
        await house.pass_by(INTERVAL)
        assert told(target) == ["r1", "r1"]
        assert await house.rows() == []


@pytest_twisted.ensureDeferred
async def test_two_instances_that_both_think_they_lead_deliver_each_notice_once(house: House) -> None:
    async with front_end() as one, front_end() as two:
        await house.put(*(ready(target, number) for number in range(20) for target in (one, two)))
        await house.put(*(ready(one, number) for number in range(20, 40)))
        house.service()
        house.service()
        for _ in range(5):
            await house.pass_by(INTERVAL)
        assert sorted(told(one) + told(two)) == sorted(f"r{number}" for number in range(40))
        assert await house.rows() == []


@pytest_twisted.ensureDeferred
async def test_only_the_elected_instance_delivers(house: House) -> None:
    async with front_end() as target:
        await house.put(ready(target))
        election = Elected(leading=False)
        house.service(election)
        await house.pass_by(INTERVAL)
        assert target.received == []
        election.leading = True
        await house.pass_by(INTERVAL)
        assert told(target) == ["r1"]


@pytest_twisted.ensureDeferred
async def test_a_target_that_fails_rests_and_the_others_do_not_notice(house: House) -> None:
    async with front_end(500) as bad, front_end() as good:
        await house.put(*(ready(bad, number) for number in range(30)))
        house.service()
        await house.pass_by(0)
        # As many as were under way at once.
        tried = len(bad.received)
        assert FAILURES <= tried <= FAILURES + 3
        await house.put(*(ready(good, number) for number in range(100, 130)))
        await house.pass_by(INTERVAL)
        assert len(told(good)) == 30
        assert len(bad.received) == tried
        # One probe after the rest.
        await house.pass_by(FIRST_REST + INTERVAL)
        assert len(bad.received) == tried + 1
        bad.statuses = [200]
        await house.pass_by(20 * FIRST_REST + INTERVAL)
        await house.pass_by(HOUR)
        assert await house.rows() == []


@pytest_twisted.ensureDeferred
async def test_what_waited_a_day_for_a_dead_target_is_given_up_after_a_probe(house: House) -> None:
    async with front_end(500) as bad:
        await house.put(*(ready(bad, number) for number in range(30)))
        house.service()
        await house.pass_by(0)
        await house.pass_by(DAY + HOUR)
        rows = await house.rows()
        assert {row.state for row in rows} == {"dead"}
        assert len(rows) == 30


@pytest_twisted.ensureDeferred
async def test_notices_of_a_meeting_keep_their_order_while_the_target_is_down(house: House) -> None:
    async with front_end() as target:
        await target.close()
        for number in (1, 2, 3):
            await house.put(ready(target, number, meeting_id="same"))
        house.service()
        await house.pass_by(0)
        target.open()
        await house.pass_by(HOUR)
        assert told(target) == ["r1", "r2", "r3"]


@pytest_twisted.ensureDeferred
async def test_an_import_finds_the_url_that_redis_kept_while_sql_was_down(house: House) -> None:
    async with front_end() as target:
        house.switched.off = True
        await house.records().merge("m1", "", CallbackURLs(recording_ready=target.url()))
        house.switched.off = False
        await house.database.run(
            lambda c: outbox.enqueue_recording_ready(
                c, meeting_id="m1", tenant_id="", record_id="r1", now=utc(house.now())
            )
        )
        house.service()
        # The first look ran into the rest that followed the failure.
        await house.pass_by(REST + CLAIM.total_seconds())
        await house.pass_by(INTERVAL)
        assert told(target) == ["r1"]
        saved = await house.database.read(lambda c: callback_rows.look_up(c, "m1", "", alone=True))
        assert saved == CallbackURLs(recording_ready=target.url())


@pytest_twisted.ensureDeferred
async def test_a_recording_that_nobody_asked_to_hear_of_leaves_nothing(house: House) -> None:
    await house.records().merge("m1", "", CallbackURLs(analytics="http://fe/"))
    await house.put(Notice(Kind.RECORDING_READY, "", "m1", "", record_id="r"))
    await house.put(Notice(Kind.RECORDING_READY, "", "m2", "", record_id="r"))
    house.service()
    await house.pass_by(0)
    assert await house.rows() == []


@pytest_twisted.ensureDeferred
async def test_notices_taken_while_sql_is_down_are_delivered_once_it_is_back(house: House) -> None:
    async with front_end() as target:
        house.service()
        house.switched.off = True
        door = house.door()
        await door.put(ready(target, 1))
        await door.put(ready(target, 2))
        await house.pass_by(INTERVAL)
        assert target.received == []
        house.switched.off = False
        await house.pass_by(INTERVAL)
        assert sorted(told(target)) == ["r1", "r2"]
        assert await house.notices.waiting(10) == []
        # And straight into SQL again.
        await house.pass_by(REST)
        await door.put(ready(target, 3))
        assert await house.notices.waiting(10) == []
        await house.pass_by(INTERVAL)
        assert told(target)[2:] == ["r3"]


@pytest_twisted.ensureDeferred
async def test_tenants_with_equal_meeting_ids_hear_of_their_own_signed_by_their_own(house: House) -> None:
    async with front_end() as one, front_end() as two:
        await house.tenants.add("t1", "one", "1" * 64)
        await house.tenants.add("t2", "two", "2" * 64)
        records = house.records(alone=False)
        await records.merge("m", "t1", CallbackURLs(recording_ready=one.url()))
        await records.merge("m", "t2", CallbackURLs(recording_ready=two.url()))

        def imports(connection: Connection) -> None:
            for tenant in ("t1", "t2", "t3"):
                outbox.enqueue_recording_ready(
                    connection, meeting_id="m", tenant_id=tenant, record_id=f"of {tenant}", now=utc(house.now())
                )

        await house.database.run(imports)
        house.service(alone=False)
        await house.pass_by(0)
        for target, secret, tenant in ((one, b"1" * 64, "t1"), (two, b"2" * 64, "t2")):
            (got,) = target.received
            claims = jwt.decode(parse_qs(got.body.decode())["signed_parameters"][0], secret, algorithms=["HS256"])
            assert claims == {"meeting_id": "m", "record_id": f"of {tenant}"}
        assert await house.rows() == []


@pytest_twisted.ensureDeferred
async def test_a_recording_without_tenant_is_signed_by_the_load_balancer_though_there_are_tenants(house: House) -> None:
    async with front_end() as target:
        await house.put(ready(target), ready(target, 2, tenant_id="gone"))
        house.service(alone=False)
        await house.pass_by(0)
        assert told(target) == ["r1"]
        (row,) = await house.rows()
        assert (row.state, row.tenant_id) == ("dead", "gone")


@pytest_twisted.ensureDeferred
async def test_a_stop_gives_attempts_under_way_their_time_and_loses_none(house: House) -> None:
    async with front_end(None) as target:
        await house.put(ready(target))
        service = house.service()
        await target.arrived(1)
        stopped = service.stopService()
        house.clock.advance(STOP_PATIENCE - 0.1)
        assert not stopped.called
        house.clock.advance(0.1)
        await stopped
        (row,) = await house.rows()
        assert (row.state, row.attempts) == ("waiting", 1)


@pytest_twisted.ensureDeferred
async def test_the_outbox_is_purged(house: House) -> None:
    await house.put(Notice(Kind.RECORDING_READY, "", "m", "nonsense", record_id="r"))
    await house.records().merge("old", "", CallbackURLs(analytics="http://x/"))
    house.service()
    await house.pass_by(0)
    assert [row.state for row in await house.rows()] == ["dead"]
    await house.pass_by(61 * DAY)
    assert await house.rows() == []
    assert await house.database.read(lambda c: callback_rows.look_up(c, "old", "", alone=True)) == CallbackURLs()
