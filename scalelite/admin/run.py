"""Running calls: one after another, every failure one line and an exit status, every change in the audit log."""

from __future__ import annotations

from collections.abc import Sequence

from scalelite.admin.audit import Recorder
from scalelite.admin.table import OK, Call, Context, Failed
from scalelite.admin.text import shown
from scalelite.store.errors import StoreError


async def run(context: Context, calls: Sequence[Call]) -> int:
    """Run calls until one fails; the exit status of the last one."""
    for call in calls:
        status = await run_one(context, call)
        if status != OK:
            return status
    return OK


async def run_one(context: Context, call: Call) -> int:
    """Run a call; its exit status."""
    recorder = Recorder.of(context, call)
    await recorder.begin()
    try:
        status = await call.command.run(context, call)
    except Failed as failure:
        context.console.err(error_line(failure))
        await recorder.end(str(failure))
        return failure.status
    except StoreError as error:
        context.console.err(f"ERROR: {shown(str(error))}")
        await recorder.end(str(error), by_store=True)
        return 1
    except Exception as error:
        # To import Twisted takes a while, and not every command needs it.
        from twisted.internet.defer import CancelledError

        await recorder.end("broken off" if isinstance(error, CancelledError) else f"broke: {type(error).__name__}")
        raise
    await recorder.end("ok" if status == OK else f"status {status}")
    return status


def error_line(failure: Failed) -> str:
    """What to print of a failure: on one line, with `ERROR: ` in front unless it begins like that already.

    Control characters are escaped: it may quote what was given, or what a server has said.
    """
    text = shown(" ".join(str(failure).splitlines()))
    return text if text.startswith("Error: ") else f"ERROR: {text}"
