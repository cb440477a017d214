"""Client libraries that others wrote list, change, unpublish, publish and delete recordings."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import pytest_twisted

from tests.api.archives import library
from tests.integration.requirements import require_packages
from tests.integration.test_clients import CLIENTS, node_modules, run  # noqa: F401 - node_modules is a fixture

pytestmark = pytest.mark.integration


async def take_course(url: str, folder: Path, command: list[str], client: str, color: str, **env: str) -> None:
    """Let a client take its course, and check what it and the balancer saw."""
    async with library(url, folder) as shelf:
        await shelf.add("rec-1", meeting_id="room 1", name="Übung & Maß", metadata={"color": "red"}, images=2)
        await shelf.add("rec-2", meeting_id="room 2")
        api = shelf.balancer.api
        seen = json.loads(await run(command, client, api, "secret", "room 1", "rec-1", **env))

        name = seen["first"][0]["name"]
        assert name in ("Übung & Maß", "Übung &amp; Maß")  # one of their parsers leaves &amp; as it is
        recording = {
            "id": "rec-1",
            "name": name,
            "state": "published",
            "color": "red",
            "url": f"http://127.0.0.1:{shelf.balancer.port}/playback/presentation/2.3/rec-1",
        }
        assert seen == {
            "first": [recording],
            "recolored": True,
            "unpublished": False,
            "second": [{**recording, "state": "unpublished", "color": color}],
            "published": True,
            "deleted": True,
            "last": [],
        }
        assert await shelf.listed(state="any") == ["rec-2", "rec-1"]
        assert (await shelf.row("rec-1")).state == "deleted"
        assert (shelf.kept("rec-1"), shelf.kept("rec-2")) == ([], ["published/presentation"])


@pytest.mark.parametrize("package", ["bbbctl", "bigbluebutton_api_python"])
@pytest_twisted.ensureDeferred
async def test_python_client_manages_recordings(sqlite_url: str, tmp_path: Path, package: str) -> None:
    require_packages(package)
    await take_course(sqlite_url, tmp_path, [sys.executable, str(CLIENTS / "recordings.py")], package, "grün & blau")


@pytest.mark.parametrize("package", ["bigbluebutton-js", "bbb-promise"])
@pytest_twisted.ensureDeferred
async def test_node_client_manages_recordings(
    sqlite_url: str,
    tmp_path: Path,
    package: str,
    node_modules: Path,  # noqa: F811
) -> None:
    command = ["node", str(CLIENTS / "recordings.js")]
    await take_course(sqlite_url, tmp_path, command, package, "green and blue", NODE_PATH=str(node_modules))


@pytest_twisted.ensureDeferred
async def test_command_line_of_bbbctl_manages_recordings(sqlite_url: str, tmp_path: Path) -> None:
    require_packages("bbbctl")
    async with library(sqlite_url, tmp_path) as shelf:
        await shelf.add("rec-1", meeting_id="room", name="Größe", metadata={"empty": ""})
        api = shelf.balancer.api
        command = [sys.executable, "-m", "bbbctl", "--server", api, "--secret", "secret", "--format", "json", "record"]

        listed = json.loads(await run(command, "list"))
        assert (listed["recordID"], listed["name"], listed["published"]) == ("rec-1", "Größe", True)
        await run(command, "unpublish", "rec-1")
        assert json.loads(await run(command, "info", "rec-1"))["state"] == "unpublished"
        await run(command, "delete", "rec-1")
        assert await run(command, "list") == ""
        assert shelf.kept("rec-1") == []
