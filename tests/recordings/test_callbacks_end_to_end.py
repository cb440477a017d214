"""From create to the front-end: a whole balancer with a database, simulated servers, and a real front-end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import jwt
import orjson
import pytest_twisted
from sqlalchemy import select
from twisted.internet.task import deferLater

from scalelite.composition import notice_services
from scalelite.recordings import outbox
from scalelite.recordings.outbox_service import OutboxService
from scalelite.recordings.tables import callback_data
from scalelite.recordings.times import utc
from scalelite.store.callbacks import CallbackStore
from tests.api.support import add_tenant, reactor, the_call
from tests.api.test_meeting_ended import Network, gone
from tests.balancer import Balancer
from tests.recordings.receiver import FrontEnd, front_end

ANALYTICS = "meta_analytics-callback-url"
READY = "meta_bbb-recording-ready-url"
END = "meta_endCallbackUrl"
ONE, TWO = "1" * 64, "2" * 64


@pytest_twisted.async_yield_fixture
async def house(empty_database_url: str) -> AsyncIterator[Balancer]:
    """A balancer for two tenants at lb.example, with one server and the database in turn."""
    balancer = await Balancer.start(url_host="lb.example", multitenancy_enabled=True, database_url=empty_database_url)
    balancer.sim._agent = Network(balancer)
    await add_tenant(balancer, "one", secrets=ONE)
    await add_tenant(balancer, "two", secrets=TWO)
    await balancer.add_servers(1, secret="s" * 64)
    yield balancer
    await balancer.stop()


@pytest_twisted.async_yield_fixture
async def service(house: Balancer) -> AsyncIterator[OutboxService]:
    """What delivers, elected."""
    (made,) = notice_services(house.parts)
    assert isinstance(made, OutboxService)
    made.startService()
    yield made
    await made.stopService()


async def create(balancer: Balancer, tenant: str, secret: str, meeting_id: str, **params: str) -> None:
    url = balancer.url("create", secret=secret, meetingID=meeting_id, name="Meeting", **params)
    answer = await balancer.request("GET", url, headers={"Host": f"{tenant}.lb.example"})
    assert answer.returncode == "SUCCESS"


async def delivered(service: OutboxService, target: FrontEnd, count: int) -> None:
    """Let the service look until so much has arrived, and it has noted that."""
    while len(target.received) < count:
        service.look()
        await service.settled()
        await deferLater(reactor, 0.01)
    await service.settled()


async def rows(balancer: Balancer) -> list[Any]:
    assert balancer.parts.archive is not None
    return await balancer.parts.archive.database.read(outbox.list_outbox)


@pytest_twisted.ensureDeferred
async def test_analytics_and_the_end_of_a_meeting(house: Balancer, service: OutboxService) -> None:
    async with front_end() as target:
        await create(
            house, "one", ONE, "m1", record="true",
            **{ANALYTICS: target.url("/analytics?course=5"), END: target.url("/ended")},
        )  # fmt: skip
        node = house.nodes["s1"]
        node.add_users("m1", 2)
        node.end("m1", at_once=True)
        await gone(house, "m1")
        await delivered(service, target, 1)
        assert target.received[0].uri == "/ended?recordingmarks=false&meetingID=m1"
        node.timeline.advance(node.timings.analytics_lag)
        await delivered(service, target, 2)
        report = target.received[1]
        assert report.uri == "/analytics?course=5"
        body = orjson.loads(report.body)
        assert (body["meeting_id"], body["customer"], len(body["data"]["attendees"])) == ("m1", "one", 2)
        assert set(body) == {"version", "meeting_id", "internal_meeting_id", "data", "customer"}
        jwt.decode(report.headers["authorization"].removeprefix("Bearer "), ONE, algorithms=["HS512"])
        assert await rows(house) == []


@pytest_twisted.ensureDeferred
async def test_recordings_of_equal_meeting_ids_are_told_to_their_own_tenants(
    house: Balancer, service: OutboxService
) -> None:
    async with front_end() as one, front_end() as two:
        await create(house, "one", ONE, "m1", **{READY: one.url("/ready?x=1")})
        ending = house.url("end", secret=ONE, meetingID="m1")
        assert (await house.request("GET", ending, headers={"Host": "one.lb.example"})).returncode == "SUCCESS"
        house.nodes["s1"].vanish("m1")
        await create(house, "two", TWO, "m1", **{READY: two.url("/ready")})
        assert house.parts.archive is not None
        database = house.parts.archive.database
        for tenant in ("one", "two"):
            await database.run(
                partial(
                    outbox.enqueue_recording_ready,
                    meeting_id="m1", tenant_id=f"id-of-{tenant}", record_id=f"of-{tenant}", now=utc(0),
                )
            )  # fmt: skip
        for target, secret, record in ((one, ONE, "of-one"), (two, TWO, "of-two")):
            await delivered(service, target, 1)
            (got,) = target.received
            token = parse_qs(got.body.decode())["signed_parameters"][0]
            assert jwt.decode(token, secret, algorithms=["HS256"]) == {"meeting_id": "m1", "record_id": record}
        assert await rows(house) == []
        kept = await database.read(lambda c: c.execute(select(callback_data.c.callback_attributes)).scalars().all())
        assert kept == [f"---\n:recording_ready_url: {two.url('/ready')}\n"]


@pytest_twisted.ensureDeferred
async def test_a_report_is_kept_though_the_front_end_is_down(house: Balancer, service: OutboxService) -> None:
    async with front_end() as target:
        await target.close()
        await create(house, "one", ONE, "m1", record="true", **{ANALYTICS: target.url("/analytics")})
        node = house.nodes["s1"]
        node.end("m1", at_once=True)
        node.timeline.advance(node.timings.analytics_lag)
        while not [row for row in await rows(house) if row.attempts]:
            service.look()
            await service.settled()
        (row,) = await rows(house)
        assert (row.kind, row.tenant_id, row.state) == ("analytics", "id-of-one", "waiting")
        assert [attempt.outcome for attempt in node.callbacks.log] == ["204"]
        target.open()
        assert house.parts.archive is not None
        await house.parts.archive.database.run(partial(outbox.retry, ids=[row.id], now=utc(0)))
        await delivered(service, target, 1)


@pytest_twisted.ensureDeferred
async def test_a_create_succeeds_while_the_database_is_held(house: Balancer) -> None:
    assert house.parts.archive is not None
    house.parts.archive.database.hold("its tables are being made")
    await create(house, "one", ONE, "m1", **{READY: "http://fe.example/"})
    assert READY not in the_call(house, "create").query
    (kept,) = await CallbackStore(house.parts.redis, house.settings.redis.prefix).unsaved(5)
    assert (kept.meeting_id, kept.tenant_id, kept.urls.recording_ready) == ("m1", "id-of-one", "http://fe.example/")
    house.parts.archive.database.release()
