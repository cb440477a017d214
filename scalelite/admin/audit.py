"""The audit log: every changing command is recorded, whichever door it came by, and `audit` shows them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

import attrs

from scalelite.admin.table import JSON, OK, Actor, Argument, Call, Command, Context
from scalelite.admin.text import MASK, json_text, shown
from scalelite.cluster.audit import Entry
from scalelite.store.errors import StoreError

if TYPE_CHECKING:
    from twisted.logger import Logger

    from scalelite.store.audit import AuditStore

#: Characters of a target, and of a result, at most.
_LONGEST: Final = 200
#: Entries that are shown at once, at most.
_MOST: Final = 1_000

PUBLIC: Final = frozenset({"id", "ids", "tenant_id", "meeting_id", "url", "load_multiplier", "tag", "name", "param"})
"""Arguments that are never a secret; further ones say so themselves. The others are masked."""


def _log() -> Logger:
    # To import Twisted takes a while, and not every command needs it.
    from twisted.logger import Logger

    return Logger(__name__)


class Recorder:
    """Records one change; nothing where there is no `audit`. A log that can't be written holds nobody up."""

    def __init__(self, audit: AuditStore | None, actor: Actor, command: str, target: str) -> None:
        self._audit = audit
        self._number: int | None = None
        self._entry = Entry(actor.name, actor.origin, command, _cut(target))

    @classmethod
    def of(cls, context: Context, call: Call) -> Self:
        """For a call of a command, which may change something or not."""
        return cls(context.pool.audit if recorded(call) else None, context.actor, call.command.name, target(call))

    async def begin(self) -> None:
        """Record that it is about to be done."""
        if self._audit is not None:
            try:
                self._number = await self._audit.begin(self._entry)
            except StoreError as error:
                # Most often the command fails for the same reason, and says so; else there is another try at its end.
                _log().debug("the audit log could not be written: {error}", error=str(error))

    async def end(self, result: str, *, by_store: bool = False) -> None:
        """Record how it ended, and tell it to the process's log. `by_store`: it is the store's failure."""
        if self._audit is None:
            return
        entry = attrs.evolve(self._entry, result=_cut(shown(" ".join(result.split()))))
        _log().info(
            "{actor} ({origin}): {command} {target}: {result}",
            actor=entry.actor,
            origin=entry.origin,
            command=entry.command,
            target=entry.target,
            result=entry.result,
        )
        if by_store and self._number is None:
            return
        try:
            if self._number is None:
                self._number = await self._audit.begin(entry)
            else:
                await self._audit.finish(self._number, entry)
        except StoreError as error:
            _log().error("the audit log could not be written: {error}", error=str(error))


def recorded(call: Call) -> bool:
    """Whether a call goes into the audit log, and by that into the process's log."""
    return call.changes and call.command.needs_pool


def target(call: Call) -> str:
    """What a command was given, in one line; secrets, and what might be one, are masked."""
    words = []
    for argument in call.command.arguments:
        value = call.get(argument.name)
        if value is None:
            continue
        words += _words(argument, value)
    words += [f"--{name}={shown(str(value))}" for name, value in call.options.items()]
    return " ".join([*words, *(f"--{flag}" for flag in sorted(call.flags))])


def _words(argument: Argument, value: Any) -> list[str]:
    if not (argument.public or argument.name in PUBLIC):
        return [MASK]
    texts = [str(one) for one in value] if isinstance(value, tuple) else [str(value)]
    return [shown(text) or "''" for text in texts]


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


async def show_audit(context: Context, call: Call) -> int:
    """The last entries, the newest at the end."""
    entries = await context.pool.audit.last(call.get("count") or 50)
    if call.has(JSON):
        rows = [
            {"time": _time(entry), **{k: v for k, v in attrs.asdict(entry).items() if k != "time"}} for entry in entries
        ]
        context.console.out(json_text(rows))
    elif entries:
        context.console.out("\n".join(_line(entry) for entry in entries))
    else:
        context.console.err("Nothing was changed yet")
    return OK


def _line(entry: Entry) -> str:
    command = f"{entry.command} {entry.target}".rstrip()
    return f"{_time(entry)}  {shown(entry.actor)} ({shown(entry.origin)})  {shown(command)}: {shown(entry.result)}"


def _time(entry: Entry) -> str:
    return datetime.fromtimestamp(entry.time, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def read_count(text: str) -> int:
    """How many entries. Raises ValueError."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _MOST):
        raise ValueError(f"a whole number from 1 to {_MOST}")
    return int(text)


COMMANDS = (
    Command(
        "audit",
        show_audit,
        "Show who changed what.\n\nThe newest is at the end. Secrets are masked; the last 10,000 commands are kept.",
        "audit 20",
        (Argument("count", "How many; 50 if absent.", False, read_count),),
        (JSON,),
        changes=False,
    ),
)
