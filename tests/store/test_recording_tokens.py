"""One-time tokens: as Scalelite writes and reads them, spent by the right link only."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor

from scalelite.store.connection import connect_memory
from scalelite.store.errors import StoreError, StoreUnavailable
from scalelite.store.recording_tokens import RecordingTokens
from tests.store.layout import Stores

reactor: Any = _reactor


@pytest.fixture
def tokens(stores: Stores) -> RecordingTokens:
    return RecordingTokens(stores.redis, stores.prefix, 60)


@pytest_twisted.ensureDeferred
async def test_token_is_kept_as_scalelite_keeps_it(stores: Stores, tokens: RecordingTokens) -> None:
    (token,) = await tokens.issue([("r-1", "video")])
    assert len(token) == 64
    assert set(token) <= set("0123456789abcdef")
    value = await stores.call("GET", f"protector_token_{token}")
    assert value == '{"record_id":"r-1","format":"video"}'
    assert 3590 <= await stores.call("TTL", f"protector_token_{token}") <= 3600


@pytest_twisted.ensureDeferred
async def test_token_that_scalelite_wrote_is_good_once(stores: Stores, tokens: RecordingTokens) -> None:
    token = "0123456789abcdef" * 4
    written = json.dumps({"record_id": "r-1", "format": "presentation"})
    await stores.call("SET", f"protector_token_{token}", written, "EX", 60)
    assert await tokens.spend(token, "r-1", "presentation")
    assert not await tokens.spend(token, "r-1", "presentation")


@pytest.mark.parametrize("other", [("r-2", "video"), ("r-1", "presentation"), ("", ""), ("r-1", "video ")])
@pytest_twisted.ensureDeferred
async def test_link_to_something_else_does_not_spend_a_token(tokens: RecordingTokens, other: tuple[str, str]) -> None:
    (token,) = await tokens.issue([("r-1", "video")])
    assert not await tokens.spend(token, *other)
    assert await tokens.spend(token, "r-1", "video")


@pytest_twisted.ensureDeferred
async def test_looking_does_not_spend_a_token(tokens: RecordingTokens) -> None:
    (token,) = await tokens.issue([("r-1", "video")])
    assert await tokens.holds(token, "r-1", "video")
    assert await tokens.holds(token, "r-1", "video")
    assert not await tokens.holds(token, "r-2", "video")
    assert await tokens.spend(token, "r-1", "video")
    assert not await tokens.holds(token, "r-1", "video")


@pytest.mark.parametrize(
    "token", ["", "*", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n", "٠" * 64, "0" * 32 + "\0" * 32]
)
@pytest_twisted.ensureDeferred
async def test_text_that_is_no_token_is_refused(tokens: RecordingTokens, token: str) -> None:
    assert not await tokens.spend(token, "r-1", "video")


@pytest.mark.parametrize("value", ["", "{", "null", "7", "[]", '"r-1"', '{"record_id":"r-1"}', '{"format":"video"}'])
@pytest_twisted.ensureDeferred
async def test_value_that_is_no_token_opens_nothing(stores: Stores, tokens: RecordingTokens, value: str) -> None:
    await stores.call("SET", "protector_token_" + "a" * 64, value, "EX", 60)
    stores.foreign.add("protector_token_" + "a" * 64)
    assert not await tokens.spend("a" * 64, "r-1", "video")


@pytest_twisted.ensureDeferred
async def test_key_of_another_type_opens_nothing(stores: Stores, tokens: RecordingTokens) -> None:
    await stores.put_foreign("protector_token_" + "a" * 64)
    assert not await tokens.spend("a" * 64, "r-1", "video")


@pytest_twisted.ensureDeferred
async def test_many_tokens_come_in_the_order_asked_for_and_all_different(tokens: RecordingTokens) -> None:
    pairs = [(f"r-{i}", "video") for i in range(1200)]
    issued = await tokens.issue(pairs)
    assert len(set(issued)) == 1200
    for i in (0, 499, 500, 999, 1000, 1199):
        assert await tokens.spend(issued[i], *pairs[i])


@pytest_twisted.ensureDeferred
async def test_no_tokens_ask_nothing_of_redis() -> None:
    redis = connect_memory(reactor, timeout=10)
    await redis.close()
    assert await RecordingTokens(redis, "scalelite:", 60).issue([]) == []


@pytest_twisted.ensureDeferred
async def test_tokens_fail_as_a_whole_while_redis_is_away() -> None:
    redis = connect_memory(reactor, timeout=10)
    tokens = RecordingTokens(redis, "scalelite:", 60)
    await redis.close()
    with pytest.raises(StoreUnavailable):
        await tokens.issue([("r-1", "video")] * 700)
    with pytest.raises(StoreError):
        await tokens.spend("0" * 64, "r-1", "video")
