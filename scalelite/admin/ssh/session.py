"""A session: one command, or a shell on a terminal or on a pipe, in front of the table of commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.logger import Logger
from twisted.python.failure import Failure

from scalelite.admin.audit import recorded, target
from scalelite.admin.console import LONGEST_LINE, Console
from scalelite.admin.line import HelpWanted, parse
from scalelite.admin.run import error_line, run
from scalelite.admin.ssh.channel import SessionChannel, Size
from scalelite.admin.ssh.completion import Completer
from scalelite.admin.ssh.console import StreamConsole, TerminalConsole
from scalelite.admin.ssh.editor import History
from scalelite.admin.ssh.keys import AuthorizedKey, Role
from scalelite.admin.ssh.slots import NoneFree, Slots
from scalelite.admin.ssh.stdin import Input
from scalelite.admin.ssh.terminal import Interrupted, Terminal
from scalelite.admin.ssh.words import split_line
from scalelite.admin.table import FAILED, MISUSED, OK, SHOW_SECRETS, Actor, Call, Command, Context, Failed, Pool
from scalelite.settings import Settings
from scalelite.store.errors import StoreError

INTERRUPTED: Final = 130
#: Seconds that the prompt waits for the state of the pool.
PROMPT_TIME: Final = 1.0
#: Characters of a command in the log, at most.
LONGEST_TOLD: Final = 200
_LEAVE: Final = frozenset({"exit", "quit", "logout"})


@attrs.frozen
class House:
    """What commands work with; `table` is all of them, `new_id` makes an id for a new record."""

    settings: Settings
    pool: Pool
    table: Mapping[str, Command]
    new_id: Callable[[], str]


def start_session(house: House, channel: SessionChannel, slots: Slots, command: str | None) -> OperatorSession:
    """Run what a channel asks for: a command, or None for a shell."""
    session = OperatorSession(house, channel, slots)
    session.start(command)
    return session


def permitted(table: Mapping[str, Command], role: Role) -> Mapping[str, Command]:
    """The commands that a role may run."""
    if role is Role.ADMIN:
        return table
    return {name: command for name, command in table.items() if not Call(command).changes and not command.shows_secrets}


def for_role(calls: Sequence[Call], role: Role) -> list[Call]:
    """The calls as a role may make them. Raises Failed for what it may not."""
    if role is Role.ADMIN:
        return list(calls)
    for call in calls:
        if call.changes or call.command.shows_secrets or call.has(SHOW_SECRETS):
            raise Failed(f"{_asked(call)} is not for viewers, and your key is a viewer's")
    # In the spelling of rake, secrets are shown in clear.
    return [attrs.evolve(call, rake=False) for call in calls]


def _asked(call: Call) -> str:
    """A command, with the flag but for which a viewer might run it."""
    for flag in (SHOW_SECRETS, call.command.changes_with):
        if flag is not None and call.has(flag):
            return f"{call.command.name} --{flag.name}"
    return call.command.name


class OperatorSession:
    """One channel's session."""

    _log = Logger()

    def __init__(self, house: House, channel: SessionChannel, slots: Slots) -> None:
        key = channel.transport.key
        assert key is not None
        self._house = house
        self._key: AuthorizedKey = key
        self._address = channel.transport.address
        self._channel = channel
        self._slots = slots
        self._input = Input(channel.used)
        self._terminal: Terminal | None = None
        self._console: Console = StreamConsole(self._input, channel.send, self._send_error)
        if channel.size is not None:
            self._terminal = Terminal(channel.send, channel.size, self.interrupted)
            self._console = TerminalConsole(self._terminal)
        self._life: Deferred[None] | None = None
        self._work: Deferred[int] | None = None
        self._interrupted = False
        self._gone = False

    def _send_error(self, data: bytes) -> None:
        self._channel.send(data, error=True)

    # What happens on the channel

    @property
    def idle(self) -> bool:
        if self._work is None:
            return True
        return self._input.waited_for if self._terminal is None else self._terminal.waited_for

    def received(self, data: bytes) -> None:
        if self._terminal is None:
            self._input.received(data)
        else:
            self._channel.used(len(data))
            self._terminal.received(data)

    def input_ended(self) -> None:
        if self._terminal is None:
            self._input.end()
        else:
            self._terminal.received(b"\x04")

    def resized(self, size: Size) -> None:
        if self._terminal is not None:
            self._terminal.resized(size)

    def interrupted(self) -> None:
        if self._work is not None:
            self._interrupted = True
            self._work.cancel()

    def hung_up(self) -> None:
        self._gone = True
        if self._life is not None:
            self._life.cancel()

    # The session itself

    def start(self, command: str | None) -> None:
        """Begin."""
        self._life = Deferred.fromCoroutine(self._live(command))
        self._life.addErrback(self._broken)

    def _broken(self, failure: Failure) -> None:
        if self._gone and failure.check(CancelledError):
            return
        self._log.failure("an SSH session broke", failure)
        self._channel.exit(FAILED)

    async def _live(self, command: str | None) -> None:
        try:
            await self._slots.take()
        except NoneFree as error:
            self._console.err(f"ERROR: {error.args[0]} sessions are open already (SCALELITE_SSH_MAX_SESSIONS)")
            self._channel.exit(FAILED)
            return
        try:
            if command is not None:
                status, _ = await self._line(command)
            elif self._terminal is not None:
                status = await self._shell(self._terminal)
            else:
                status = await self._script()
        finally:
            self._slots.free()
        self._channel.exit(status)

    async def _shell(self, terminal: Terminal) -> int:
        """Lines from a terminal, until Ctrl-D or `exit`; the status of the last one."""
        terminal.write(
            f"{self._key.name}, {self._key.role} of this pool. "
            "`help` lists the commands, Tab completes them, Ctrl-D ends the session.\n"
        )
        history = History()
        complete = Completer(permitted(self._house.table, self._key.role), self._house.pool)
        status, leaving = OK, False
        while not leaving:
            prompt = await self._prompt()
            terminal.fresh_line()
            try:
                line = await terminal.read_line(prompt, history=history, complete=complete, interruptible=True)
            except Interrupted:
                status = INTERRUPTED
                continue
            if line is None:
                break
            history.add(line)
            status, leaving = await self._line(line, status)
        return status

    async def _prompt(self) -> str:
        reading = Deferred.fromCoroutine(self._house.pool.servers.all())
        try:
            servers = await reading.addTimeout(PROMPT_TIME, self._house.pool.clock)
        except (StoreError, TimeoutError):
            return "scalelite (no store)> "
        return f"scalelite {sum(server.online for server in servers)}/{len(servers)} online> "

    async def _script(self) -> int:
        """Lines from a pipe, until its end or `exit`; the status of the last one."""
        status, leaving = OK, False
        while not leaving:
            try:
                line = await self._input.read_line()
            except Failed as failure:
                self._console.err(error_line(failure))
                return failure.status
            if line is None:
                break
            status, leaving = await self._line(line, status)
        return status

    async def _line(self, line: str, before: int = OK) -> tuple[int, bool]:
        """Run a line: its exit status, and whether it ends the session. `before` is the status of the one before."""
        console = self._console
        if len(line) > LONGEST_LINE:
            console.err(f"ERROR: The line is longer than {LONGEST_LINE} characters")
            return MISUSED, False
        try:
            words = split_line(line)
        except ValueError:
            console.err("ERROR: A quote is not closed, or a backslash ends the line")
            return MISUSED, False
        if not words:
            return before, False
        if len(words) == 1 and words[0] in _LEAVE:
            return before, True
        try:
            calls = for_role(parse(self._house.table, words), self._key.role)
        except HelpWanted as answer:
            console.out(str(answer))
            return OK, False
        except Failed as failure:
            console.err(error_line(failure))
            self._tell(words[0] if words[0] in self._house.table else "a line", failure.status, 0.0)
            return failure.status, False
        began = self._house.pool.clock.seconds()
        status = await self._perform(calls)
        # The others are told by the audit log.
        told = [described(call) for call in calls if not recorded(call)]
        if told:
            self._tell(", ".join(told), status, self._house.pool.clock.seconds() - began)
        return status, False

    async def _perform(self, calls: Sequence[Call]) -> int:
        origin = f"{self._key.fingerprint} from {self._address}"
        context = Context(
            self._house.settings,
            self._house.pool,
            self._console,
            Actor(self._key.name, origin),
            self._house.new_id,
        )
        self._interrupted = False
        self._work = Deferred.fromCoroutine(run(context, calls))
        try:
            status = await self._work
        except CancelledError:
            if self._gone:
                raise
            return INTERRUPTED
        except Exception:  # noqa: BLE001 - a command that breaks must not end the operator's session
            self._log.failure("the command {command} broke", command=", ".join(map(described, calls)))
            self._console.err("ERROR: The command broke; the service's log tells why")
            return FAILED
        finally:
            self._work = None
        return INTERRUPTED if self._interrupted else status

    def _tell(self, what: str, status: int, seconds: float) -> None:
        self._log.info(
            "{name} ({fingerprint}, {address}) runs {command}: status {status} after {seconds:.3f} s",
            name=self._key.name,
            fingerprint=self._key.fingerprint,
            address=self._address,
            command=what,
            status=status,
            seconds=seconds,
        )


def described(call: Call) -> str:
    """A call for the log, with what may be a secret masked."""
    return f"{call.command.name} {target(call)}".rstrip()[:LONGEST_TOLD]
