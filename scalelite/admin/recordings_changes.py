"""The commands that publish, protect and delete recordings, and those that change all of them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from scalelite.admin.console import confirm
from scalelite.admin.progress import Progress
from scalelite.admin.recordings import NO_RECORDING, RECORD_IDS, desk_of, ids_of
from scalelite.admin.table import FAILED, OK, YES, Argument, Call, Command, Context, Failed
from scalelite.admin.text import counted, shown

if TYPE_CHECKING:
    from scalelite.recordings.desk import RecordingDesk

#: Recordings of one statement.
AT_ONCE: Final = 500
#: Recordings that are linked to a tenant in one transaction.
SLICE: Final = 10_000
NO_TENANT: Final = "No tenant ID was provided"

Change = Callable[[str], Coroutine[Any, Any, None]]


async def _chosen(desk: RecordingDesk, call: Call) -> dict[str, str | None]:
    """The states of the recordings that were named. Raises Failed if one is not there."""
    from scalelite.recordings.overview import states_of

    ids = ids_of(call)
    if not ids:
        raise Failed(NO_RECORDING)
    states: dict[str, str | None] = {}
    for start in range(0, len(ids), AT_ONCE):
        states |= await desk.database.read(partial(states_of, record_ids=ids[start : start + AT_ONCE]))
    for record_id in ids:
        if record_id not in states:
            raise Failed(f"Couldn't find Recording with id={shown(record_id)}")
    return {record_id: states[record_id] for record_id in ids}


def publish(*, published: bool) -> Callable[[Context, Call], Coroutine[Any, Any, int]]:
    """Publish recordings, or unpublish them."""

    async def run(context: Context, call: Call) -> int:
        desk = await desk_of(context)
        states = await _chosen(desk, call)
        for record_id, state in states.items():
            if state not in ("published", "unpublished"):
                raise Failed(
                    f"Recording id={shown(record_id)} is {shown(state or 'without state')}: nothing was changed"
                )
        what = "published" if published else "unpublished"

        async def change(record_id: str) -> None:
            await desk.changes.publish([record_id], published=published, tenant_id=None)

        return await _one_by_one(context, call, list(states), what, change)

    return run


async def delete(context: Context, call: Call) -> int:
    """Delete recordings, once that is agreed to."""
    desk = await desk_of(context)
    ids = list(await _chosen(desk, call))
    which = f"recording {shown(ids[0])}" if len(ids) == 1 else counted(len(ids), "recording")
    question = f"WARNING: You are trying to delete {which} with all files."
    refused = await confirm(context.console, question, agreed=call.has(YES), piped=call.rake)
    if refused:
        return refused

    async def change(record_id: str) -> None:
        await desk.changes.delete([record_id], tenant_id=None)

    return await _one_by_one(context, call, ids, "deleted", change)


async def _one_by_one(context: Context, call: Call, ids: list[str], what: str, change: Change) -> int:
    from scalelite.bbb.errors import BBBError

    failed = 0
    with Progress(context.console, call, f"recordings {what}") as progress:
        for number, record_id in enumerate(ids, 1):
            try:
                await change(record_id)
            except BBBError as error:
                failed += 1
                progress.err(
                    f"WARNING: Recording id={shown(record_id)} is not {what}: {error.__cause__ or error.message}"
                )
            progress.at(number, len(ids))
    if failed:
        raise Failed(f"{failed} of {counted(len(ids), 'recording')} could not be {what}")
    context.console.out("OK")
    return OK


def protect(*, protected: bool) -> Callable[[Context, Call], Coroutine[Any, Any, int]]:
    """Protect recordings, or let anybody see them who has the link."""

    async def run(context: Context, call: Call) -> int:
        from scalelite.recordings.selection import MetadataChanges

        desk = await desk_of(context)
        states = await _chosen(desk, call)
        for record_id, state in states.items():
            if state == "deleted":
                raise Failed(f"Recording id={shown(record_id)} is deleted: nothing was changed")
        ids = list(states)
        with Progress(context.console, call, "recordings changed") as progress:
            for start in range(0, len(ids), AT_ONCE):
                some = ids[start : start + AT_ONCE]
                done = await desk.changes.update(some, MetadataChanges(), protect=protected, tenant_id=None)
                if not done:
                    raise Failed("A recording was removed meanwhile: look at them, and try again")
                progress.at(start + len(some), len(ids))
        if protected and not context.settings.protected_recordings_enabled:
            context.console.err(
                "WARNING: PROTECTED_RECORDINGS_ENABLED is not true: only the links are protected, not the files"
            )
        context.console.out("OK")
        return OK

    return run


async def update(context: Context, call: Call) -> int:
    """Move the files of unpublished recordings out of the published folders."""
    from scalelite.recordings.unpublishing import move_unpublished
    from scalelite.recordings.upkeep import count_unpublished

    desk = await desk_of(context)
    total = await desk.database.read(count_unpublished)
    with Progress(context.console, call, "recordings looked at") as progress:
        await move_unpublished(
            desk,
            lambda record_id, reason: progress.err(f"Failed to move recording {shown(record_id)}: {shown(reason)}"),
            lambda done: progress.at(min(done, total), total),
        )
    return OK


async def add_to_tenant(context: Context, call: Call) -> int:
    """Give all recordings that have no tenant to one."""
    from scalelite.recordings.upkeep import count_recordings, ids_after, link_to_tenant

    console = context.console
    tenant_id: str | None = call.get("tenant_id")
    if not tenant_id:
        console.err(NO_TENANT)
        return FAILED
    desk = await desk_of(context)
    if not call.rake and await context.pool.tenants.get(tenant_id) is None:
        console.err(f"WARNING: There is no tenant with id={shown(tenant_id)}")
    total = await desk.database.read(count_recordings)
    after = done = 0
    with Progress(console, call, "recordings looked at") as progress:
        while True:
            until, count = await desk.database.read(partial(ids_after, after=after, size=SLICE))
            if not count:
                break
            await desk.database.run(partial(link_to_tenant, tenant_id=tenant_id, after=after, until=until))
            after, done = until, done + count
            progress.at(min(done, total), total)
    console.out(f"All existing recordings have been successfully linked to tenant {tenant_id}")
    return OK


COMMANDS = (
    Command(
        "recordings:publish",
        publish(published=True),
        "Publish recordings.\n\nImports that come later leave them so.",
        "recordings:publish 0f3c9d-1609459200123",
        (RECORD_IDS,),
        missing=NO_RECORDING,
    ),
    Command(
        "recordings:unpublish",
        publish(published=False),
        "Unpublish recordings: nobody can play them.\n\nImports that come later leave them so.",
        "recordings:unpublish 0f3c9d-1609459200123",
        (RECORD_IDS,),
        missing=NO_RECORDING,
    ),
    Command(
        "recordings:delete",
        delete,
        "Delete recordings with their files.\n\n"
        "Their ids stay known, so that a tar that comes once more brings nothing back.",
        "recordings:delete 0f3c9d-1609459200123 --yes",
        (RECORD_IDS,),
        (YES,),
        missing=NO_RECORDING,
        destructive=True,
    ),
    Command(
        "recordings:protect",
        protect(protected=True),
        "Protect recordings: links to them are good once.",
        "recordings:protect 0f3c9d-1609459200123",
        (RECORD_IDS,),
        missing=NO_RECORDING,
    ),
    Command(
        "recordings:unprotect",
        protect(protected=False),
        "Let everybody play recordings who has the link.",
        "recordings:unprotect 0f3c9d-1609459200123",
        (RECORD_IDS,),
        missing=NO_RECORDING,
    ),
    Command(
        "recordings:update",
        update,
        "Move files of unpublished recordings out of reach.\n\n"
        "Of each unpublished recording that has all its files on the published side, they go to the other one. What "
        "can't be moved is told on standard error, and the status is 0 all the same.",
        "recordings:update",
    ),
    Command(
        "recordings:addToTenant",
        add_to_tenant,
        "Give recordings without a tenant to one.\n\nAll of them, deleted ones too. It may be repeated.",
        "recordings:addToTenant 0b7c2c1e-6f34-4b2a-9a0c-0c8f6a6f1c11",
        (Argument("tenant_id", "The tenant's id.", False),),
    ),
)
