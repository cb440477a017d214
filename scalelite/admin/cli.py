"""The command line: `scalelite COMMAND ...`, in a process of its own beside the service, on the same settings."""

from __future__ import annotations

import os
import pwd
import sys
import uuid
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from scalelite.admin.commands import TABLE
from scalelite.admin.console import LocalConsole
from scalelite.admin.line import HelpWanted, parse
from scalelite.admin.run import error_line, run
from scalelite.admin.table import FAILED, MISUSED, OK, Actor, Call, Context, Failed, Pool
from scalelite.settings import Settings, SettingsError, load_settings

INTERRUPTED = 130


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line `words`, by default the process's own; the exit status.

    Called by the name of `rake`, all words are in its spelling.
    """
    if words is None:
        words = sys.argv[1:]
        if Path(sys.argv[0]).name == "rake":
            words = ["rake", *words]
    for stream in (sys.stdout, sys.stderr):
        # Stored text need not be printable in the terminal's encoding.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    console = LocalConsole(sys.stdin, sys.stdout, sys.stderr)
    try:
        return _run(console, words)
    except BrokenPipeError:
        # Whoever read our output has had enough; the interpreter must not stumble over it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _run(console: LocalConsole, words: Sequence[str]) -> int:
    if words and words[0] == "--version":
        from importlib.metadata import version

        console.out(f"scalelite {version('scalelite')}")
        return OK
    try:
        calls = parse(TABLE, words)
        needed = any(call.command.needs_settings for call in calls)
        settings = load_settings(os.environ, root=Path()) if needed else Settings()
    except HelpWanted as answer:
        console.out(str(answer))
        return OK
    except Failed as failure:
        console.err(error_line(failure))
        return failure.status
    except SettingsError as error:
        for problem in error.problems:
            console.err(f"ERROR: {problem}")
        return MISUSED
    if any(call.command.needs_pool for call in calls):
        return drive(lambda reactor: _with_pool(reactor, console, settings, calls))
    return _at_once(run(_context(console, settings, _NoPool()), calls))


async def _with_pool(reactor: Any, console: LocalConsole, settings: Settings, calls: Sequence[Call]) -> int:
    from scalelite.admin.pool import OwnPool
    from scalelite.store.errors import StoreError

    try:
        pool = OwnPool(reactor, settings)
    except (Failed, StoreError) as failure:
        console.err(f"ERROR: {failure}")
        return FAILED
    try:
        status = await run(_context(console, settings, pool), calls)
        if pool.started_store:
            console.err(
                f"WARNING: No service runs on {settings.data_dir}: its store was started for this command alone"
            )
        return status
    finally:
        await pool.close()


def _context(console: LocalConsole, settings: Settings, pool: Pool) -> Context:
    return Context(settings, pool, console, Actor(_user(), "command line"), lambda: str(uuid.uuid4()), own_process=True)


def _user() -> str:
    """The login name of whoever runs this process."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


class _NoPool:
    """For commands that need none: whatever is asked of it is a mistake in the table."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the command is entered as one that needs no {name}")


def _at_once(work: Coroutine[Any, Any, int]) -> int:
    """The result of a coroutine that waits for nothing, without a reactor."""
    try:
        work.send(None)
    except StopIteration as done:
        status: int = done.value
        return status
    raise RuntimeError("the command waits, and is entered as one that does not")


def drive(work: Callable[[Any], Coroutine[Any, Any, int]]) -> int:
    """Run the reactor until `work` is done; its result. Interrupted, the process ends at once."""
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from scalelite.admin.logs import log_to

    log_to(sys.stderr)
    reactor: Any = installed
    outcome: list[int | Failure] = []

    def begin() -> None:
        Deferred.fromCoroutine(work(reactor)).addBoth(end)

    def end(result: int | Failure) -> None:
        outcome.append(result)
        reactor.stop()

    def interrupt() -> None:
        if not outcome:
            # What was under way stays as it is: to unwind it would be to go on.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(INTERRUPTED)

    reactor.callWhenRunning(begin)
    reactor.addSystemEventTrigger("before", "shutdown", interrupt)
    reactor.run()
    result = outcome[0]
    if isinstance(result, Failure):
        result.raiseException()
    return result


if __name__ == "__main__":
    sys.exit(main())
