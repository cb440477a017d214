"""Finding the master through Redis Sentinel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IStreamClientEndpoint

from scalelite.store.endpoints import Login, host_endpoint
from scalelite.store.errors import StoreUnavailable

if TYPE_CHECKING:
    from scalelite.settings.redis import RedisSettings

#: Seconds that one Sentinel has to answer, before the next one is asked.
PATIENCE: Final = 1.0


class Asker(Protocol):
    """A connection that takes single commands."""

    def ask(self, *args: str) -> Deferred[Any]:
        """Send one command."""

    def fall(self, reason: BaseException) -> None:
        """Drop the connection."""


class Sentinels:
    """Knows where the master is: asks the Sentinels in turn, the one that answered last first.

    `dial` opens a connection and logs in.
    """

    def __init__(
        self,
        reactor: Any,
        settings: RedisSettings,
        timeout: float,
        dial: Callable[[IStreamClientEndpoint, Login], Awaitable[Asker]],
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._timeout = timeout
        self._patience = min(PATIENCE, timeout)
        self._dial = dial
        self._places = list(settings.sentinels)
        self._login = Login(password=settings.sentinel_password)
        self._name = settings.sentinel_name or ""
        self._master: tuple[str, int] | None = None

    async def locate(self) -> IStreamClientEndpoint:
        """The master's endpoint. Raises StoreUnavailable when no Sentinel knows it."""
        self._master = await self._ask()
        return host_endpoint(self._reactor, self._settings, *self._master, self._timeout)

    async def moved(self) -> bool:
        """Whether the master is elsewhere than `locate` said; False where no Sentinel can be asked."""
        try:
            return await self._ask() != self._master
        except StoreUnavailable:
            return False

    async def _ask(self) -> tuple[str, int]:
        troubles = []
        for place in list(self._places):
            asking = Deferred.fromCoroutine(self._ask_one(*place))
            try:
                answer = await asking.addTimeout(self._patience, self._reactor, _late)
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever ails this one, another may know
                troubles.append(f"{place[0]}:{place[1]}: {error}")
                continue
            if answer is None:
                troubles.append(f"{place[0]}:{place[1]} knows no master named {self._name}")
                continue
            self._places.remove(place)
            self._places.insert(0, place)
            return str(answer[0]), int(answer[1])
        raise StoreUnavailable("no Sentinel names a master: " + "; ".join(troubles))

    async def _ask_one(self, host: str, port: int) -> Any:
        endpoint = host_endpoint(self._reactor, self._settings, host, port, self._patience)
        wire = await self._dial(endpoint, self._login)
        try:
            return await wire.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
        finally:
            wire.fall(StoreUnavailable("this Sentinel has been asked"))


def _late(_result: object, seconds: float) -> None:
    raise StoreUnavailable(f"no answer within {seconds:g} s")
