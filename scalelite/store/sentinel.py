"""Finding the master through Redis Sentinel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IStreamClientEndpoint

from scalelite.store.endpoints import Login, host_endpoint
from scalelite.store.errors import StoreUnavailable

if TYPE_CHECKING:
    from scalelite.settings.redis import RedisSettings

#: Seconds that one Sentinel has to answer, before the next one is asked.
PATIENCE = 1.0


class Asker(Protocol):
    """A connection that takes single commands."""

    def ask(self, *args: str) -> Deferred[Any]:
        """Send one command."""

    def fall(self, reason: BaseException) -> None:
        """Drop the connection."""


def sentinel_locator(
    reactor: Any,
    settings: RedisSettings,
    timeout: float,
    dial: Callable[[IStreamClientEndpoint, Login], Awaitable[Asker]],
) -> Callable[[], Awaitable[IStreamClientEndpoint]]:
    """A locator that asks the Sentinels in turn, the last one that answered first.

    Raises StoreUnavailable when none of them knows the master.
    """
    sentinels = list(settings.sentinels)
    login = Login(password=settings.sentinel_password)
    name = settings.sentinel_name or ""
    patience = min(PATIENCE, timeout)

    async def ask(host: str, port: int) -> Any:
        wire = await dial(host_endpoint(reactor, settings, host, port, patience), login)
        try:
            return await wire.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
        finally:
            wire.fall(StoreUnavailable("asked and answered"))

    def late(_result: object, seconds: float) -> None:
        raise StoreUnavailable(f"no answer within {seconds:g} s")

    async def locate() -> IStreamClientEndpoint:
        troubles = []
        for place in list(sentinels):
            try:
                answer = await Deferred.fromCoroutine(ask(*place)).addTimeout(patience, reactor, late)
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever ails this one, another may know
                troubles.append(f"{place[0]}:{place[1]}: {error}")
                continue
            if answer is None:
                troubles.append(f"{place[0]}:{place[1]} knows no master named {name}")
                continue
            sentinels.remove(place)
            sentinels.insert(0, place)
            return host_endpoint(reactor, settings, answer[0], int(answer[1]), timeout)
        raise StoreUnavailable("no Sentinel names a master: " + "; ".join(troubles))

    return locate
