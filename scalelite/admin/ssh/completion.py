"""What a line may go on with: commands, their options, and ids of servers, tenants, meetings and recordings."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final, cast

from twisted.internet.defer import Deferred, TimeoutError

from scalelite.admin.ssh.terminal import Completion
from scalelite.admin.table import Argument, Command, Failed, Pool
from scalelite.admin.text import read_boolean
from scalelite.cluster.records import Meeting
from scalelite.store.errors import StoreError

#: Ids that are found, at most, and seconds that the search for them takes.
MOST: Final = 500
PATIENCE: Final = 1.0
BUILT_IN: Final = ("exit", "help")
_IDS: Final = frozenset({"id", "ids"})


class Completer:
    """Completes lines of the shell from the commands of `table`."""

    def __init__(self, table: Mapping[str, Command], pool: Pool) -> None:
        self._table = table
        self._pool = pool

    async def __call__(self, before: str) -> Completion:
        words = before.split()
        word = words.pop() if words and not before[-1].isspace() else ""
        start = before[: len(before) - len(word)]
        found = await self._candidates(words, word)
        return Completion(start, sorted({text for text in found if text.startswith(word)}))

    async def _candidates(self, words: Sequence[str], word: str) -> Sequence[str]:
        if not words:
            return [*self._table, *BUILT_IN]
        if words == ["help"]:
            return list(self._table)
        command = self._table.get(words[0])
        if command is None:
            return ()
        options = {f"--{option.name}": option for option in command.options}
        if words[-1] in options:
            option = options[words[-1]]
            return option.choices or await self._values(command, Argument(option.name, option.help), word)
        if word.startswith("-"):
            flags = [f"--{name}" for flag in command.flags for name in (flag.name, *flag.aliases)]
            return ["--help", *flags, *options]
        given = [
            word for before, word in itertools.pairwise(words) if not word.startswith("--") and before not in options
        ]
        place = len(given)
        if command.arguments and command.arguments[-1].many:
            place = min(place, len(command.arguments) - 1)
        if place >= len(command.arguments):
            return ()
        argument = command.arguments[place]
        found = list(await self._values(command, argument, word))
        head, colon, tail = word.rpartition(":")
        if argument.many and argument.name == "ids" and colon:
            # Several ids joined to one word; but an id may have colons of its own, too.
            found += [f"{head}:{value}" for value in await self._values(command, argument, tail)]
        # In a list, what stands there already is of no more use.
        there = {*given[place:], *head.split(":")} if argument.many else set()
        return [value for value in found if value == word or value.removeprefix(f"{head}:") not in there]

    async def _values(self, command: Command, argument: Argument, word: str) -> Sequence[str]:
        if argument.read is read_boolean:
            return ["true", "false"]
        what = id_of(command, argument)
        if what is None:
            return ()
        try:
            ids = await Deferred.fromCoroutine(self._ids(what, word)).addTimeout(PATIENCE, self._pool.clock)
        except (Failed, StoreError, TimeoutError):
            return ()
        return [shlex.quote(text) for text in ids if text.isprintable()]

    async def _ids(self, what: str, prefix: str) -> list[str]:
        if what == "server":
            return [server.id for server in await self._pool.servers.all()]
        if what == "tenant":
            return [tenant.id for tenant in await self._pool.tenants.all()]
        if what == "recording":
            return await self._recording_ids(prefix)
        return await self._meeting_ids(prefix)

    async def _recording_ids(self, prefix: str) -> list[str]:
        desk = self._pool.recordings
        from scalelite.recordings.overview import ids_beginning_with

        return await desk.database.read(partial(ids_beginning_with, prefix=prefix, limit=MOST))

    async def _meeting_ids(self, prefix: str) -> list[str]:
        ids: list[str] = []
        scan = cast(AsyncGenerator[Meeting], self._pool.meetings.scan())
        async with aclosing(scan) as meetings:
            async for meeting in meetings:
                if meeting.id.startswith(prefix):
                    ids.append(meeting.id)
                    if len(ids) >= MOST:
                        break
        return ids


def id_of(command: Command, argument: Argument) -> str | None:
    """Of what an argument is the id: "server", "tenant", "meeting", "recording", or None if it is no id of these."""
    room = command.name.partition(":")[0]
    for what in ("server", "tenant", "meeting", "recording"):
        if argument.name.startswith(what) or (room == f"{what}s" and argument.name in _IDS):
            return what
    return None
