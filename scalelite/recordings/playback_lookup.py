"""What a player's requests need to know of a recording, kept for some seconds: a video is asked for in many ranges."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

import attrs
from sqlalchemy import Connection, and_, select
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from scalelite.recordings.database import Database
from scalelite.recordings.tables import playback_formats, recording_metadata, recordings
from scalelite.store.errors import StoreError, StoreUnavailable

#: Recordings that may be looked up in the database at one time; the next one fails at once.
MAX_FLIGHTS: Final = 1000
#: Seconds that a recording found is kept, and one not found.
FOUND: Final = 5.0
MISSING: Final = 1.0
#: Seconds that what was found stands in while the database fails.
STALE: Final = 300.0
#: Seconds to wait for the database where there is something to stand in.
PATIENCE: Final = 2.0


@attrs.frozen
class Playable:
    """A format of a published recording: `url` is path and query of its player, None if the database has none."""

    url: str | None
    protected: bool


@attrs.frozen
class _Recording:
    protected: bool
    tenant_id: str | None
    urls: Mapping[str, str | None]


@attrs.define
class _Entry:
    recording: _Recording | None
    read_at: float
    until: float


@attrs.define
class _Flight:
    waiting: list[Deferred[_Recording | None]]


class PlaybackLookup:
    """Finds published recordings. `size`: how many are kept; `deadline`: seconds that a look-up may take.

    What another process changes is seen FOUND seconds later at most, or MISSING for what was not there.
    """

    _log = Logger()

    def __init__(self, database: Database, clock: IReactorTime, *, deadline: float, size: int = 4096) -> None:
        self._database = database
        self._clock = clock
        self._deadline = deadline
        self._size = size
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._flights: dict[str, _Flight] = {}

    async def find(self, record_id: str, playback_format: str, tenant_id: str | None) -> Playable | None:
        """That format of that recording, if it is published and, unless the tenant is None, that tenant's.

        Raises StoreError if the database fails and nothing stands in.
        """
        recording = await self._recording(record_id)
        if recording is None or playback_format not in recording.urls:
            return None
        if tenant_id is not None and recording.tenant_id != tenant_id:
            return None
        return Playable(recording.urls[playback_format], recording.protected)

    def invalidate(self, record_id: str) -> None:
        """Forget a recording: it has been changed. What is being read just now is not kept either."""
        self._entries.pop(record_id, None)
        self._flights.pop(record_id, None)

    async def _recording(self, record_id: str) -> _Recording | None:
        now = self._clock.seconds()
        entry = self._entries.get(record_id)
        if entry is not None and now < entry.until:
            self._entries.move_to_end(record_id)
            return entry.recording
        waiter = self._wait_for(record_id)
        stands_in = entry is not None and entry.recording is not None and now - entry.read_at < STALE
        try:
            return await waiter.addTimeout(PATIENCE if stands_in else self._deadline, self._clock)
        except (StoreError, TimeoutError) as error:
            if entry is None or not stands_in or self._entries.get(record_id) is not entry:
                if isinstance(error, StoreError):
                    raise
                raise StoreUnavailable(f"the database did not answer within {self._deadline:g} s") from error
            self._log.warn("a recording is played by what was known of it: {error}", error=error)
            entry.until = self._clock.seconds() + FOUND
            return entry.recording

    def _wait_for(self, record_id: str) -> Deferred[_Recording | None]:
        """What the database says; equal questions share one look-up."""
        waiter: Deferred[_Recording | None] = Deferred()
        flight = self._flights.get(record_id)
        if flight is not None:
            flight.waiting.append(waiter)
            return waiter
        if len(self._flights) >= MAX_FLIGHTS:
            raise StoreUnavailable("too many recordings are being looked up")
        flight = self._flights[record_id] = _Flight([waiter])
        reading = Deferred.fromCoroutine(self._database.run(lambda connection: _read(connection, record_id)))
        reading.addBoth(self._land, record_id, flight)
        return waiter

    def _land(self, result: object, record_id: str, flight: _Flight) -> None:
        if self._flights.get(record_id) is flight:
            del self._flights[record_id]
            if result is None or isinstance(result, _Recording):
                self._keep(record_id, result)
        for waiter in flight.waiting:
            waiter.callback(result)  # type: ignore[arg-type]  # a Failure goes to each waiter's errback

    def _keep(self, record_id: str, recording: _Recording | None) -> None:
        now = self._clock.seconds()
        self._entries[record_id] = _Entry(recording, now, now + (MISSING if recording is None else FOUND))
        self._entries.move_to_end(record_id)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)


def _read(connection: Connection, record_id: str) -> _Recording | None:
    tenant = and_(recording_metadata.c.recording_id == recordings.c.id, recording_metadata.c.key == "tenant-id")
    rows = connection.execute(
        select(
            recordings.c.published,
            recordings.c.protected,
            recording_metadata.c.value,
            playback_formats.c.format,
            playback_formats.c.url,
        )
        .join_from(recordings, playback_formats, playback_formats.c.recording_id == recordings.c.id)
        .outerjoin(recording_metadata, tenant)
        .where(recordings.c.record_id == record_id)
    ).all()
    if not rows or not rows[0].published:
        return None
    first = rows[0]
    return _Recording(bool(first.protected), first.value, {row.format: row.url for row in rows})
