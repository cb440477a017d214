"""The SSH server as a part of the whole program, started by twistd, beside its workers."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.openssh import PATIENCE, OpenSSH
from tests.integration.processes import Program
from tests.integration.redis_server import RedisServer
from tests.integration.ssh_door import public

pytestmark = pytest.mark.integration

#: On a free port; other tests' programs have no SSH.
SSH = {"SCALELITE_SSH_DISABLED": "false", "SCALELITE_SSH_PORT": "0"}
PRODUCTION = {"SCALELITE_ENV": "production", "SECRET_KEY_BASE": "secret"} | SSH


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's tmp_path, which is too long for the store's UNIX socket.
    made = Path(tempfile.mkdtemp(prefix="sl-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def client(folder: Path) -> OpenSSH:
    return OpenSSH(folder, 0)


def run(client: OpenSSH, program: Program, key: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command over SSH."""
    client.port = int(program.logged("^SSH server on ")["port"])
    command = client.command(words, [key], ())
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)


@pytest.mark.parametrize("workers", ["0", "2"], ids=["one process", "two workers"])
def test_commands_work_on_the_running_pool(folder: Path, client: OpenSSH, workers: str) -> None:
    ada = client.make_key("ada")
    (folder / "keys").write_text(public(ada) + "\n")
    settings = SSH | {"SCALELITE_SSH_AUTHORIZED_KEYS": "keys", "WEB_CONCURRENCY": workers}
    with Program(folder, **settings) as program:
        program.ready()
        added = run(client, program, ada, "servers:add", "https://a.example.com/bigbluebutton/api", "hunter2-and-more")
        assert (added.returncode, added.stdout[:7]) == (0, "OK\nid: ")
        listed = run(client, program, ada, "servers")
        assert "url: https://a.example.com/bigbluebutton/api" in listed.stdout
        assert [event["message"] for event in program.events if "SSH server on" in event["message"]] != []
        assert sum("SSH server on" in event["message"] for event in program.events) == 1
        assert "hunter2" not in program.text
        assert program.stop() == 0
    assert (folder / "var" / "ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600


def test_in_development_a_key_can_be_given_without_a_restart(folder: Path, client: OpenSSH) -> None:
    ada = client.make_key("ada")
    with Program(folder, **SSH) as program:
        program.ready()
        assert run(client, program, ada, "status").returncode == 255
        (folder / "var" / "ssh_authorized_keys").write_text(public(ada) + "\n")
        assert run(client, program, ada, "status").returncode == 0
        assert [event for event in program.events if event["level"] in {"error", "critical"}] == []


def test_in_production_there_is_no_ssh_until_keys_are_named(folder: Path, client: OpenSSH) -> None:
    ada = client.make_key("ada")
    with RedisServer() as redis:
        settings = PRODUCTION | {"REDIS_URL": f"{redis.url}/0", "RAILS_LOG_TO_STDOUT": "true"}
        with Program(folder, **settings) as program:
            program.ready()
            assert program.stop() == 0
            assert "SSH" not in program.text
        (folder / "keys").write_text(public(ada) + "\n")
        with Program(folder, **settings, SCALELITE_SSH_AUTHORIZED_KEYS="keys") as program:
            program.ready()
            assert run(client, program, ada, "status").returncode == 0


def test_it_can_be_switched_off(folder: Path) -> None:
    with Program(folder, SCALELITE_SSH_DISABLED="true", SCALELITE_SSH_AUTHORIZED_KEYS="keys") as program:
        program.ready()
        assert program.stop() == 0
        assert "SSH server" not in program.text


def test_a_port_in_use_costs_ssh_and_nothing_else(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        settings = SSH | {"SCALELITE_SSH_PORT": port, "SCALELITE_SSH_AUTHORIZED_KEYS": "keys"}
        with Program(folder, **settings) as program:
            program.ready()
            event = program.logged("NO SSH server")
            assert event["level"] == "error"
            assert f"127.0.0.1:{port}" in event["message"]
            assert "in use" in event["message"]
            assert program.stop() == 0
