"""OpenSSH: its client, which times what it is asked to do, and a server with the defaults it was built with."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from bench.processes import LOAD_CORE, SERVER_CORE, STARTING, BenchError, Process, environment, free_port, pinned

SSHD = "/usr/sbin/sshd"
#: Where sshd wants an empty folder if root runs it; Debian's unit makes it.
PRIVSEP = Path("/run/sshd")


def make_key(path: Path) -> None:
    """A new key pair of Ed25519, `path` and `path.pub`."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, env=environment(), check=True, capture_output=True)


class Client:
    """`ssh` with a key of its own and no configuration, against ports of this machine; its files are in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._key = folder / "id"
        self._known_hosts = folder / "known_hosts"
        make_key(self._key)

    @property
    def public(self) -> str:
        """The line for a file of authorized keys."""
        return self._key.with_suffix(".pub").read_text()

    def command(self, port: int, *words: str) -> list[str]:
        """The command line that runs `words` at that port, or a shell without words."""
        options = (
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "StrictHostKeyChecking=accept-new",
            f"UserKnownHostsFile={self._known_hosts}",
            "LogLevel=ERROR",
        )
        user = pwd.getpwuid(os.getuid()).pw_name
        settings = [part for option in options for part in ("-o", option)]
        return [
            "ssh",
            "-T",
            "-F",
            "none",
            *settings,
            "-i",
            str(self._key),
            "-p",
            str(port),
            f"{user}@127.0.0.1",
            *words,
        ]

    def run(self, port: int, *words: str, lines: str = "") -> tuple[float, str]:
        """Run `words`, or a shell that gets `lines`: seconds, and what was printed. Raises BenchError."""
        command = pinned(LOAD_CORE, self.command(port, *words))
        started = time.monotonic()
        done = subprocess.run(command, input=lines, capture_output=True, text=True, env=environment(), check=False)
        seconds = time.monotonic() - started
        if done.returncode:
            raise BenchError(f"ssh {' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
        return seconds, done.stdout


class Sshd(Process):
    """OpenSSH's server for one client, with a host key of the same kind as the balancer's and all else by default."""

    def __init__(self, client: Client) -> None:
        self.port = free_port()
        self._configuration = tempfile.TemporaryDirectory(prefix="bench-sshd-")
        folder = Path(self._configuration.name)
        make_key(folder / "host_key")
        (folder / "home").mkdir()
        (folder / "authorized_keys").write_text(client.public)
        (folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{self.port}\n"
            f"HostKey {folder / 'host_key'}\n"
            f"AuthorizedKeysFile {folder / 'authorized_keys'}\n"
            "PidFile none\n"
            # Not for time: the folder of temporary files is anybody's to write to.
            "StrictModes no\n"
            # What the shell of this machine's user does at its start is no part of the comparison.
            f"SetEnv HOME={folder / 'home'}\n"
        )
        if os.getuid() == 0:
            PRIVSEP.mkdir(mode=0o755, exist_ok=True)
        super().__init__([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], SERVER_CORE, environment())
        wait_for_greeting(self, self.port)

    def stop(self) -> None:
        super().stop()
        self._configuration.cleanup()


def wait_for_greeting(process: Process, port: int) -> None:
    """Wait until an SSH server greets there. Raises BenchError."""
    limit = time.monotonic() + STARTING
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
                if link.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        if process.popen.poll() is not None or time.monotonic() > limit:
            raise BenchError(f"no SSH server came up: {process.output}")
        time.sleep(0.01)
