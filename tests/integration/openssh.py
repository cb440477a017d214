"""OpenSSH's own client, and keys for it.

client = OpenSSH(folder, port)
done = await client.run("status", key=client.make_key("ada"))
shell = client.shell(key=...)
await shell.until("online> ")
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import termios
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol

from tests.integration.requirements import require

reactor: Any = _reactor

#: Seconds after which something no longer is believed to happen.
PATIENCE = 40.0


@attrs.frozen
class Done:
    """How the client ended, and what it wrote."""

    status: int
    out: str
    err: str


class OpenSSH:
    """Runs `ssh` with no configuration but its own, against a port of loopback; keys and known hosts in `folder`."""

    def __init__(self, folder: Path, port: int) -> None:
        require("ssh", "ssh-keygen")
        self.folder = folder
        self.port = port
        self.known_hosts = folder / "known_hosts"

    def make_key(self, name: str, kind: str = "ed25519", *more: str) -> Path:
        """A new key pair with `name` as its comment; the path of the private half."""
        path = self.folder / name.replace("/", "-")
        subprocess.run(
            ["ssh-keygen", "-q", "-t", kind, *more, "-N", "", "-C", name, "-f", str(path)], check=True, timeout=PATIENCE
        )
        return path

    def command(self, words: Sequence[str], keys: Sequence[Path], options: Sequence[str]) -> list[str]:
        """The command line of the client."""
        settings = [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "StrictHostKeyChecking=accept-new",
            f"UserKnownHostsFile={self.known_hosts}",
            "LogLevel=ERROR",
            f"ConnectTimeout={PATIENCE:g}",
        ]
        return [
            "ssh",
            *("-F", "none", "-p", str(self.port)),
            # First: of two settings of one option, ssh takes the first.
            *options,
            *(part for setting in settings for part in ("-o", setting)),
            *(part for key in keys for part in ("-i", str(key))),
            "operator@127.0.0.1",
            *words,
        ]

    async def run(
        self, *words: str, key: Path | Sequence[Path], stdin: bytes | None = b"", options: Sequence[str] = ()
    ) -> Done:
        """Run a command, or a shell without a terminal if there are no words. `stdin` None leaves it open."""
        return await self.start(*words, key=key, stdin=stdin, options=options).done.addTimeout(PATIENCE, reactor)

    def start(
        self, *words: str, key: Path | Sequence[Path], stdin: bytes | None = b"", options: Sequence[str] = ()
    ) -> Running:
        """Start a command, as `run` does."""
        keys = [key] if isinstance(key, Path) else key
        return Running(self.command(words, keys, options), stdin)

    def shell(self, *words: str, key: Path, options: Sequence[str] = (), width: int = 80) -> Shell:
        """The client on a terminal of its own."""
        return Shell(self.command(words, [key], options), width)


class Running(ProcessProtocol):
    """A client that runs; `done` fires with what came of it."""

    def __init__(self, command: Sequence[str], stdin: bytes | None, **options: Any) -> None:
        self.done: Deferred[Done] = Deferred()
        self.out = bytearray()
        self.err = bytearray()
        self._stdin = stdin
        self._watchers: list[tuple[Any, Deferred[None]]] = []
        self.process: Any = reactor.spawnProcess(self, command[0], command, env={"PATH": os.environ["PATH"]}, **options)

    def connectionMade(self) -> None:
        if self._stdin is not None:
            self.transport.write(self._stdin)  # type: ignore[union-attr]
            self.transport.closeStdin()  # type: ignore[union-attr]

    def outReceived(self, data: bytes) -> None:
        self.out += data
        self._look()

    def errReceived(self, data: bytes) -> None:
        self.err += data
        self._look()

    def _look(self) -> None:
        for test, found in list(self._watchers):
            if test():
                self._watchers.remove((test, found))
                found.callback(None)

    async def _when(self, test: Any) -> None:
        if not test():
            found: Deferred[None] = Deferred()
            self._watchers.append((test, found))
            try:
                await found.addTimeout(PATIENCE, reactor)
            except Exception as error:
                raise AssertionError(f"it did not come; there is {self.out[-2000:]!r} {self.err[-2000:]!r}") from error

    async def until(self, text: str) -> None:
        """Wait until standard output and error hold this text."""
        await self._when(lambda: text.encode() in self.out + self.err)

    def kill(self) -> None:
        """End the client without warning."""
        with suppress(ProcessExitedAlready):
            self.process.signalProcess("KILL")

    def processEnded(self, reason: Any) -> None:
        status = 0 if reason.check(ProcessDone) else reason.value.exitCode
        if not self.done.called:
            self.done.callback(Done(-1 if status is None else status, self.out.decode(), self.err.decode()))


class Shell(Running):
    """The client on a terminal: `until` waits for text after what was waited for before."""

    def __init__(self, command: Sequence[str], width: int) -> None:
        super().__init__(command, None, usePTY=True)
        self._seen = 0
        self.resize(width)

    def resize(self, width: int, height: int = 24) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self.process.fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def type(self, text: str) -> None:
        """Type this."""
        self.process.write(text.encode())

    async def until(self, text: str) -> str:
        """Wait for this text, and return what came before it, without the marks that move the cursor."""
        await self._when(lambda: text in plain(self.out)[self._seen :])
        came = plain(self.out)[self._seen :].partition(text)[0]
        self._seen += len(came) + len(text)
        return came


def plain(data: bytes | bytearray) -> str:
    """What a terminal gets, without the sequences that move its cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode(errors="replace")).replace("\r", "")
