"""Client libraries that others wrote, each in a process of its own, against a balancer over two simulated servers."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from tests.balancer import Balancer
from tests.integration.requirements import require, require_packages

pytestmark = pytest.mark.integration

CLIENTS = Path(__file__).parent / "clients"
NODE_PACKAGES = ("bigbluebutton-js@0.2.0", "bbb-promise@1.2.0")
DEADLINE = 60
INSTALL_DEADLINE = 100


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Node's libraries, installed once: below SCALELITE_CLIENT_CACHE if that is set, where later runs find them."""
    require("node", "npm")
    named = os.environ.get("SCALELITE_CLIENT_CACHE")
    folder = Path(named) if named else tmp_path_factory.mktemp("clients")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = " ".join(NODE_PACKAGES)
    done = folder / "installed"
    with (folder / "lock").open("w") as lock:
        # Test processes that run side by side share the folder.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (done.exists() and done.read_text() == wanted):
            _install(folder)
            done.write_text(wanted)
    return folder / "node_modules"


def _install(folder: Path) -> None:
    quickly = ["--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=30000"]
    command = ["npm", "install", *quickly, "--prefix", str(folder), *NODE_PACKAGES]
    subprocess.run(command, check=True, timeout=INSTALL_DEADLINE, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


async def run(command: list[str], *args: str, **environment: str) -> Any:
    """What the client prints; its own complaints if it fails."""
    done = await deferToThread(
        subprocess.run,
        [*command, *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def node_of(balancer: Balancer, page: str) -> str:
    """The id of the server whose page that is."""
    (server_id,) = [i for i, node in balancer.nodes.items() if urlsplit(node.url).netloc == urlsplit(page).netloc]
    return server_id


def living(balancer: Balancer, meeting_id: str) -> list[str]:
    """The ids of the servers where the meeting goes on; one told to end stays in a server's memory for a while."""
    return [i for i in balancer.living_on(meeting_id) if not balancer.nodes[i].meetings[meeting_id].forcibly_ended]


async def take_course(
    balancer: Balancer, command: list[str], name: str, *, tells_running: bool = True, lists: bool = True, **env: str
) -> None:
    """Let a client create, join, look at, list and end two meetings, and check what it and the servers saw."""
    await balancer.add_servers(2)
    course = json.loads(await run(command, balancer.api, "secret", name, "room-1", "room-2", **env))

    servers = [node_of(balancer, seen.pop("page")) for seen in course]
    assert course == [
        {
            "created": meeting_id,
            "running": [False, True] if tells_running else [None, None],
            "name": name,
            "participants": 1,
            "listed": 1 if lists else None,
            "after": "notFound",
        }
        for meeting_id in ("room-1", "room-2")
    ]
    assert sorted(servers) == ["s1", "s2"]
    assert living(balancer, "room-1") == living(balancer, "room-2") == []
    # A room that ended leaves nothing behind.
    assert await balancer.redis("HGETALL", balancer.key("voice_bridges")) == []


@pytest.mark.parametrize(
    ("script", "package", "abilities"),
    [
        ("bbbctl_client.py", "bbbctl", {}),
        ("bbb_client_client.py", "bbb_client", {"tells_running": False}),
        ("bigbluebutton_api_python_client.py", "bigbluebutton_api_python", {}),
        ("sage_bbb_client.py", "sage_bbb", {"lists": False}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_python_client_creates_joins_lists_and_ends_meetings_on_both_servers(
    balancer: Balancer, script: str, package: str, abilities: dict[str, bool]
) -> None:
    require_packages(package)
    await take_course(balancer, [sys.executable, str(CLIENTS / script)], "Übung & Maß + 1", **abilities)


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("bigbluebutton-js.js", "Übung und Maß 1"),  # its parser leaves &amp; as it is
        ("bbb-promise.js", "Übung & Maß 1"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_node_client_creates_joins_lists_and_ends_meetings_on_both_servers(
    balancer: Balancer, script: str, name: str, node_modules: Path
) -> None:
    await take_course(balancer, ["node", str(CLIENTS / script)], name, NODE_PATH=str(node_modules))


@pytest_twisted.ensureDeferred
async def test_client_that_posts_empty_xml_bodies_works_while_nothing_needs_encoding(balancer: Balancer) -> None:
    require_packages("bigbluepy")
    await take_course(balancer, [sys.executable, str(CLIENTS / "bigbluepy_client.py")], "Exercise")


@pytest_twisted.ensureDeferred
async def test_client_that_signs_unencoded_text_is_refused_where_encoding_matters(balancer: Balancer) -> None:
    require_packages("bigbluepy")
    await balancer.add_servers(2)

    answer = await run([sys.executable, str(CLIENTS / "bigbluepy_client.py")], balancer.api, "secret", "Two words")

    assert answer == "checksumError"
    assert balancer.living_on("refused") == []


@pytest_twisted.ensureDeferred
async def test_client_hears_why_the_server_refused_its_parameters(balancer: Balancer) -> None:
    require_packages("bigbluepy")
    await balancer.add_servers(2)

    answer = await run([sys.executable, str(CLIENTS / "bigbluepy_client.py")], balancer.api, "secret", "Exercise")

    assert answer == "validationError"
    assert await balancer.where("refused") is None


@pytest_twisted.ensureDeferred
async def test_command_line_of_bbbctl_manages_meetings(balancer: Balancer) -> None:
    require_packages("bbbctl")
    await balancer.add_servers(2)
    command = [str(Path(sys.executable).with_name("bbbctl")), "--server", balancer.api, "--secret", "secret"]
    command += ["--format", "json", "meeting"]

    await run(command, "create", "room", "Größe")
    listed = json.loads(await run(command, "list"))

    assert (listed["meetingID"], listed["meetingName"]) == ("room", "Größe")
    assert (await run(command, "join", "room", "Ann", "--mod")).startswith(f"{balancer.api}/join?")
    await run(command, "end", "room")
    assert living(balancer, "room") == []


@pytest_twisted.ensureDeferred
async def test_command_line_of_bbb_client_manages_meetings(balancer: Balancer) -> None:
    require_packages("bbb_client")
    await balancer.add_servers(2)
    command = [str(Path(sys.executable).with_name("bbb")), "meetings"]
    access = {"BBB_API_URL": balancer.api, "BBB_API_SECRET": "secret"}

    assert "[OK]" in await run(command, "create", "room", "Größe", "-M", "mp", "-A", "ap", **access)
    assert '"Größe" (meeting ID: room)' in await run(command, "list", **access)
    assert "Participants: 0" in await run(command, "show", "room", **access)
    assert "[OK]" in await run(command, "end", "room", **access)
    assert "does not exist" in await run(command, "show", "room", **access)
    assert living(balancer, "room") == []
