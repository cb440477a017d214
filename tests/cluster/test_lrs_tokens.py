"""Tokens for the learning-record payload: a token endpoint in trouble costs few creates their time."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import defer
from twisted.internet.task import Clock

from scalelite.cluster.operations.lrs import REST, LRSPayloads
from scalelite.cluster.records import Tenant

TENANT = Tenant("t1", "one", (), lrs_endpoint="https://lrs.example", kc_token_url="https://kc.example/token")


def payloads(clock: Clock, *, hangs: bool) -> tuple[LRSPayloads, list[bytes]]:
    asked: list[bytes] = []

    def transport(method: bytes, url: bytes, headers: object, body: object) -> Any:
        asked.append(url)
        return defer.Deferred() if hangs else defer.fail(ConnectionRefusedError())

    return LRSPayloads(clock, transport, lambda body: body, lambda count: b"r" * count, 5.0), asked


@pytest_twisted.ensureDeferred
async def test_a_token_endpoint_that_hangs_holds_up_one_create_and_no_longer_than_its_time() -> None:
    clock = Clock()
    made, asked = payloads(clock, hangs=True)
    first = defer.Deferred.fromCoroutine(made.payload(TENANT, "secret"))
    clock.advance(4.9)
    assert not first.called
    clock.advance(0.1)
    assert await first is None
    assert await made.payload(TENANT, "secret") is None
    assert len(asked) == 1


@pytest_twisted.ensureDeferred
async def test_an_endpoint_that_failed_is_asked_again_after_a_rest_and_others_at_once() -> None:
    clock = Clock()
    made, asked = payloads(clock, hangs=False)
    for tenant in (TENANT, TENANT, attrs.evolve(TENANT, kc_token_url="https://other.example/token")):
        assert await made.payload(tenant, "secret") is None
    assert asked == [b"https://kc.example/token", b"https://other.example/token"]
    clock.advance(REST)
    await made.payload(TENANT, "secret")
    assert len(asked) == 3


@pytest.mark.parametrize("endpoint", [None, "", "  "])
@pytest_twisted.ensureDeferred
async def test_without_an_endpoint_there_is_no_payload(endpoint: str | None) -> None:
    made, asked = payloads(Clock(), hangs=False)
    assert await made.payload(attrs.evolve(TENANT, lrs_endpoint=endpoint), "secret") is None
    assert asked == []
