"""The demonstration in a terminal: links that work, and Ctrl-C."""

from __future__ import annotations

import http.client
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.openssh import OpenSSH
from tests.integration.processes import (
    NAMESPACE,
    PATIENCE,
    TWISTD,
    Program,
    alive,
    environment,
    eventually,
    redis,
)

pytestmark = pytest.mark.integration


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's tmp_path, which is too long for redis-cli's UNIX socket.
    made = Path(tempfile.mkdtemp(prefix="sl-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


class Demo(Program):
    """`twistd -n scalelite --demo`, with a free port and nothing else set."""

    def __init__(self, folder: Path, **settings: str) -> None:
        super().__init__(folder, options=["--demo"], **{"LOADBALANCER_SECRET": "", "BIND": "", "PORT": "0", **settings})

    @property
    def links(self) -> list[str]:
        """The printed links: create, and two to join."""
        eventually(lambda: "Ctrl-C ends" in self.text)
        return re.findall(r"http\S+checksum=[0-9a-f]+", self.text)


def fetch(url: str) -> tuple[int, str, str]:
    """Status, Location and body of a URL."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}")
        response = connection.getresponse()
        return response.status, response.getheader("Location", ""), response.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("store", ["redis-server", "memory"])
def test_the_printed_links_work(folder: Path, workers: str, store: str) -> None:
    (folder / "empty").mkdir()
    path = {"PATH": str(folder / "empty")} if store == "memory" else {}
    with Demo(folder, WEB_CONCURRENCY=workers, **path) as demo:
        create, moderator, attendee = demo.links
        status, _, answer = fetch(create)
        assert (status, "<returncode>SUCCESS</returncode>" in answer) == (200, True)
        pages = []
        for link in (moderator, attendee):
            status, location, _ = fetch(link)
            assert status == 302
            status, page, _ = fetch(location)
            assert status in {200, 302}
            if page:
                status, _, answer = fetch(page)
                assert status == 200
            pages.append(answer)
        assert ["Moderator" in pages[0], "Attendee" in pages[1]] == [True, True]
        assert demo.stop() == 0


def test_the_printed_commands_work(folder: Path) -> None:
    # `ssh` itself would use the keys of whoever runs the tests.
    client = OpenSSH(folder, 0)
    key = client.make_key("ada")
    with Demo(folder, SCALELITE_SSH_DISABLED="false", HOME=str(folder)) as demo:
        assert demo.links
        lines = [line.strip() for line in demo.text.splitlines()]
        (status,) = [line for line in lines if line.endswith(" status") and not line.startswith("ssh")]
        (authorise,) = [line for line in lines if line.startswith("cat ")]
        (over_ssh,) = [line for line in lines if line.startswith("ssh ") and line.endswith(" status")]
        shown = subprocess.run(
            status, shell=True, check=True, capture_output=True, text=True, cwd=folder, env=environment()
        )
        assert (shown.stdout.count("online"), shown.stderr) == (3, "")
        (folder / ".ssh").mkdir()
        shutil.copy(f"{key}.pub", folder / ".ssh" / "id_ed25519.pub")
        subprocess.run(authorise, shell=True, check=True, cwd=folder, env={**environment(), "HOME": str(folder)})
        client.port = int(over_ssh.split()[2])
        again = subprocess.run(
            client.command(["status"], [key], ()), check=True, capture_output=True, text=True, timeout=PATIENCE
        )
        assert again.stdout == shown.stdout


def test_a_terminal_gets_readable_lines_and_ctrl_c_ends_everything(folder: Path) -> None:
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *TWISTD, "-n", "scalelite", "--demo"],
        cwd=folder,
        env=environment(WEB_CONCURRENCY="2", TERM="xterm", PORT="0"),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    seen = b""
    try:
        while b"Ctrl-C ends" not in seen:
            seen += os.read(main, 65536)
        children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        os.write(main, b"\x03")
        assert process.wait(timeout=PATIENCE) == 0
        eventually(lambda: not any(alive(pid) for pid in children))
        while True:
            try:
                seen += os.read(main, 65536)
            except OSError:
                break
    finally:
        os.close(main)
        if process.poll() is None:
            process.kill()
            process.wait()
    lines = seen.decode().replace("\r", "").splitlines()
    assert any(re.fullmatch(r"\d\d:\d\d:\d\d INFO     server demo-1 is online", line) for line in lines)
    assert any(line.endswith("stopping: received SIGINT") for line in lines)
    assert not [line for line in lines if "Traceback" in line or "at once" in line]


def members(folder: Path) -> set[str]:
    """The servers in the pool of the embedded store."""
    store = folder / "var" / "redis" / "redis.sock"
    return set(eventually(lambda: redis(store, "SMEMBERS", f"{NAMESPACE}:servers") or "\n", ConnectionError).split())


def test_a_demo_that_was_killed_is_followed_by_one_that_works(folder: Path) -> None:
    with Demo(folder) as demo:
        assert demo.links
        assert members(folder) == {"demo-1", "demo-2", "demo-3"}
        redis(folder / "var" / "redis" / "redis.sock", "SADD", f"{NAMESPACE}:servers", "mine")
        children = demo.children
        demo.process.kill()
        demo.wait()
        eventually(lambda: not any(alive(pid) for pid in children))
    with Demo(folder) as demo:
        create = demo.links[0]
        assert "<returncode>SUCCESS</returncode>" in fetch(create)[2]
        demo.signal(signal.SIGTERM)
        assert demo.wait() == 0
    with Program(folder) as program:
        program.ready()
        assert members(folder) == {"mine"}


def test_a_taken_port_is_passed_by(folder: Path) -> None:
    with socket.socket() as other:
        # Whoever has the usual port, it is taken.
        try:
            other.bind(("127.0.0.1", 3000))
            other.listen()
        except OSError:
            pass
        with Demo(folder, PORT="") as demo:
            assert urlsplit(demo.links[0]).port not in {None, 3000}


@pytest.mark.parametrize(
    ("twistd", "settings", "told"),
    [
        (["-n"], {"SCALELITE_ENV": "production"}, "not for production"),
        ([], {}, "needs twistd -n"),
    ],
)
def test_it_is_refused_in_production_and_as_a_daemon(
    folder: Path, twistd: list[str], settings: dict[str, str], told: str
) -> None:
    with Program(folder, options=["--demo"], twistd=twistd, **settings) as program:
        assert program.wait() == 2
        assert told in program.text
        assert len(program.text.splitlines()) == 1
