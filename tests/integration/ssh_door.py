"""A balancer in this process with its SSH server, and commands that show what a session can do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from scalelite.admin.commands import TABLE
from scalelite.admin.ssh.service import SSHService
from scalelite.admin.ssh.session import House
from scalelite.admin.table import Argument, Call, Command, Context, Flag
from scalelite.composition import RunningPool
from tests.balancer import Balancer
from tests.integration.openssh import OpenSSH


@attrs.define
class Door:
    """`client` has the key `ada`, an admin's, and `vic`, a viewer's. `hold` is what the command test:wait waits for."""

    balancer: Balancer
    service: SSHService
    client: OpenSSH
    keys: Path
    ada: Path
    vic: Path
    hold: Deferred[None] = attrs.field(factory=Deferred)
    cancelled: list[str] = attrs.field(factory=list)
    logged: list[str] = attrs.field(factory=list)

    @classmethod
    async def open(cls, folder: Path, **settings: Any) -> Door:
        keys = folder / "authorized_keys"
        balancer = await Balancer.start(ssh_port=0, ssh_authorized_keys=keys, data_dir=folder / "var", **settings)
        client = OpenSSH(folder, 0)
        ada, vic = client.make_key("ada@laptop"), client.make_key("vic")
        keys.write_text(f'{public(ada)}\nrole="viewer" {public(vic)}\n')
        commands: dict[str, Command] = {}
        new_ids = (f"new-{i}" for i in range(10**6))
        house = House(balancer.settings, RunningPool(balancer.parts), commands, lambda: next(new_ids))
        service = SSHService(balancer.parts.reactor, house, keys)
        service.startService()
        client.port = service.address.port
        door = cls(balancer, service, client, keys, ada, vic)
        commands.update(TABLE)
        commands.update({command.name: command for command in door._commands()})
        globalLogPublisher.addObserver(door._observe)
        return door

    async def close(self) -> None:
        globalLogPublisher.removeObserver(self._observe)
        await self.service.stopService()
        await self.balancer.stop()

    def _observe(self, event: LogEvent) -> None:
        if event.get("log_namespace", "").startswith("scalelite."):
            self.logged.append(f"{event['log_level'].name} {formatEvent(event)}")

    def authorise(self, *lines: str) -> None:
        """Let the file with the keys hold these lines and no others."""
        self.keys.write_text("\n".join(lines) + "\n")

    def look(self) -> None:
        """What the server does every few seconds, often enough for all its effects."""
        self.service.gate.look()
        self.service.gate.look()

    def _commands(self) -> Sequence[Command]:
        def command(name: str, run: Callable[[Context, Call], Any], *arguments: str, **more: Any) -> Command:
            return Command(name, run, "For tests.", name, tuple(Argument(a, a) for a in arguments), **more)

        async def wait(context: Context, call: Call) -> int:
            context.console.out("waiting")
            # One for each session: to cancel what several wait for would end the one that came first.
            waiter: Deferred[None] = Deferred()
            self.hold.addCallback(waiter.callback)
            try:
                await waiter
            except CancelledError:
                self.cancelled.append(context.actor.name)
                raise
            context.console.out("done")
            return 0

        async def ask(context: Context, call: Call) -> int:
            answer = await context.console.ask("Sure?")
            context.console.out(f"the answer is {answer!r}, a terminal: {context.console.is_terminal}")
            return 3

        async def secret(context: Context, call: Call) -> int:
            context.console.out(f"{len(await context.console.read_secret('Secret: ') or '')} characters")
            return 0

        async def both(context: Context, call: Call) -> int:
            context.console.out("to standard output: å")
            context.console.err("to standard error")
            return 41

        async def flood(context: Context, call: Call) -> int:
            for number in range(int(call.get("count"))):
                context.console.out(f"{number:07} " + "x" * 91)
            return 0

        async def swallow(context: Context, call: Call) -> int:
            count = total = 0
            while (line := await context.console.read_secret("")) is not None:
                count, total = count + 1, total + len(line)
            context.console.out(f"{count} lines, {total} characters")
            return 0

        async def width(context: Context, call: Call) -> int:
            console: Any = context.console
            context.console.out(f"{console.width} columns")
            return 0

        async def broken(context: Context, call: Call) -> int:
            raise RuntimeError("as a test wants it")

        async def who(context: Context, call: Call) -> int:
            context.console.out(f"{context.actor.name} | {context.actor.origin}")
            return 0

        return (
            command("test:wait", wait, changes=False),
            command("test:ask", ask),
            command("test:secret", secret),
            command("test:both", both, changes=False),
            command("test:flood", flood, "count"),
            command("test:swallow", swallow),
            command("test:width", width),
            command("test:broken", broken),
            command("test:who", who, "id", "password", flags=(Flag("show-secrets", "Show secrets."),)),
            command("test:leaky", who, changes=False, shows_secrets=True),
        )


def public(key: Path) -> str:
    """The line of a key's public half."""
    return key.with_name(key.name + ".pub").read_text().strip()
