"""Moves files of recordings that are unpublished out of the published folders, where an import may have left them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from sqlalchemy import Connection

from scalelite.recordings.changes import safe_part
from scalelite.recordings.desk import RecordingDesk
from scalelite.recordings.storage import Storage, StorageError
from scalelite.recordings.upkeep import formats_if_unpublished, unpublished_after

SLICE: Final = 500


async def move_unpublished(
    desk: RecordingDesk, fault: Callable[[str, str], object], count: Callable[[int], object]
) -> None:
    """Scalelite: recordings:update. Of recordings with nothing on the unpublished side, all formats go there.

    `fault` is told record ids and what went wrong; `count`, how many recordings were looked at. Raises StoreError.
    """
    after = looked_at = 0
    while rows := await desk.database.read(partial(unpublished_after, after=after, size=SLICE)):
        for row_id, record_id in await desk.in_thread(_misplaced, desk.storage, rows):
            problems: list[str] = []
            try:
                await desk.files.run(
                    record_id,
                    partial(_move, desk.storage, row_id, record_id, problems),
                    partial(desk.changed, record_id),
                )
            except StorageError as error:
                problems.append(str(error))
            for problem in problems:
                fault(record_id, problem)
        after, looked_at = rows[-1][0], looked_at + len(rows)
        count(looked_at)


def _misplaced(storage: Storage, rows: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    return [
        (row_id, record_id)
        for row_id, record_id in rows
        if safe_part(record_id) and all(published for _, published in storage.kept(record_id))
    ]


def _move(storage: Storage, row_id: int, record_id: str, problems: list[str], connection: Connection) -> None:
    names = formats_if_unpublished(connection, row_id)
    kept = storage.kept(record_id)
    if any(not published for _, published in kept):
        # Somebody was faster.
        return
    for name in names:
        if not safe_part(name):
            problems.append(f"{name!r} can't be the name of a folder")
            continue
        try:
            storage.publish(name, record_id, published=False)
        except StorageError as error:
            problems.append(str(error))
