"""Callback URLs and notices in Redis, where there is no database or while it is away."""

from __future__ import annotations

import attrs
import pytest
import pytest_twisted

from scalelite.cluster.callbacks import Kind, Notice
from scalelite.cluster.records import CallbackURLs
from scalelite.store.callbacks import KeptURLs
from scalelite.store.errors import StoreError
from scalelite.store.notices import LONGEST, MOST, NoticeStore
from tests.store.layout import PREFIX, Stores

URLS = CallbackURLs("http://fe/r", "http://fe/a")
NOTICE = Notice(Kind.ANALYTICS, "t1", "m ü", "http://fe/a", '{"n":"ü"}')


@pytest_twisted.ensureDeferred
async def test_urls_are_kept_for_each_meeting_and_tenant(stores: Stores) -> None:
    await stores.callbacks.merge("m1", "t1", URLS)
    await stores.callbacks.merge("m1", "t1", CallbackURLs(analytics="http://fe/new"))
    assert await stores.callbacks.find("m1", "t1") == CallbackURLs("http://fe/r", "http://fe/new")
    assert await stores.callbacks.find("m1", "") == CallbackURLs()
    assert await stores.callbacks.unsaved(10) == []


@pytest_twisted.ensureDeferred
async def test_what_sql_could_not_take_is_listed_until_it_has(stores: Stores) -> None:
    odd = 'm:"1"\n💡'
    await stores.callbacks.merge(odd, "t1", URLS, unsaved_at="1.5")
    await stores.callbacks.merge("m2", "", CallbackURLs(analytics=""), unsaved_at="2.5")
    listed = {kept.meeting_id: kept for kept in await stores.callbacks.unsaved(10)}
    assert listed == {
        odd: KeptURLs(odd, "t1", URLS, "1.5"),
        "m2": KeptURLs("m2", "", CallbackURLs(analytics=""), "2.5"),
    }
    assert len(await stores.callbacks.unsaved(1)) == 1
    # Given once more meanwhile: that is not saved yet.
    await stores.callbacks.merge(odd, "t1", CallbackURLs("http://fe/new"), unsaved_at="3.5")
    for kept in listed.values():
        await stores.callbacks.forget_unsaved(kept)
    (left,) = await stores.callbacks.unsaved(10)
    assert left == KeptURLs(odd, "t1", CallbackURLs("http://fe/new", "http://fe/a"), "3.5")
    await stores.callbacks.forget_unsaved(left)
    assert await stores.callbacks.unsaved(10) == []
    assert await stores.callbacks.find(odd, "t1") == CallbackURLs()


@pytest_twisted.ensureDeferred
async def test_unsaved_urls_that_expired_are_taken_off_the_list(stores: Stores) -> None:
    await stores.callbacks.merge("m1", "", URLS, unsaved_at="1.5")
    await stores.call("DEL", "balancer:callbacks::m1")
    assert await stores.callbacks.unsaved(10) == []
    assert await stores.call("EXISTS", "balancer:unsaved_callbacks") == 0


@pytest_twisted.ensureDeferred
async def test_all_of_it_expires(stores: Stores) -> None:
    await stores.callbacks.merge("m1", "", URLS, unsaved_at="1.5")
    await NoticeStore(stores.redis, PREFIX).put(NOTICE)
    for key in ("callbacks::m1", "unsaved_callbacks", "unsaved_notices"):
        assert await stores.call("TTL", f"balancer:{key}") > 0


@pytest_twisted.ensureDeferred
async def test_notices_wait_in_their_order(stores: Stores) -> None:
    notices = NoticeStore(stores.redis, PREFIX)
    second = attrs.evolve(NOTICE, kind=Kind.RECORDING_READY, record_id="r", payload="")
    await notices.put(NOTICE)
    await notices.put(second)
    waiting = await notices.waiting(10)
    assert [notice for _, notice in waiting] == [NOTICE, second]
    assert len(await notices.waiting(1)) == 1
    await notices.remove(waiting[0][0])
    assert [notice for _, notice in await notices.waiting(10)] == [second]


@pytest_twisted.ensureDeferred
async def test_notices_that_are_too_long_or_too_many_are_refused(stores: Stores) -> None:
    notices = NoticeStore(stores.redis, PREFIX)
    with pytest.raises(StoreError):
        await notices.put(attrs.evolve(NOTICE, payload="x" * LONGEST))
    await stores.call("RPUSH", "balancer:unsaved_notices", *["x"] * (MOST - 1))
    await notices.put(NOTICE)
    with pytest.raises(StoreError):
        await notices.put(NOTICE)


@pytest_twisted.ensureDeferred
async def test_a_notice_that_can_not_be_read_holds_up_nothing(stores: Stores) -> None:
    notices = NoticeStore(stores.redis, PREFIX)
    for text in ("nonsense", "[]", "{}", '{"kind":"unknown"}', '{"kind":"analytics","more":1}'):
        await stores.call("RPUSH", "balancer:unsaved_notices", text)
    await notices.put(NOTICE)
    assert [notice for _, notice in await notices.waiting(10)] == [NOTICE]
    assert await stores.call("LLEN", "balancer:unsaved_notices") == 1
