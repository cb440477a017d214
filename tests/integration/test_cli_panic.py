"""Panic by the command line, with simulated servers that answer, hang, or are asked while somebody interrupts."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from scalelite.simulator import Fault
from tests.balancer import Balancer
from tests.integration.command_line import PATIENCE, Shell, dump, spelled
from tests.integration.redis_server import RedisServer

pytestmark = pytest.mark.integration


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def shell(tmp_path: Path, redis: RedisServer) -> Shell:
    return Shell(tmp_path, REDIS_URL=redis.url)


async def balancer_on(redis: RedisServer, **overrides: Any) -> Balancer:
    """A whole balancer on the real redis-server, under the keys of production."""
    settings = attrs.evolve(redis.settings(redis.url), namespace="scalelite", configured=True)
    return await Balancer.start(redis=settings, **overrides)


async def hold(balancer: Balancer, count: int) -> None:
    await balancer.add_server("s1")
    await balancer.poll_now()
    for number in range(count):
        assert (await balancer.call("create", meetingID=f"m{number:03}", name="Meeting")).returncode == "SUCCESS"


@pytest.mark.parametrize("spelling", ["plain", "rake"])
@pytest_twisted.ensureDeferred
async def test_panic_ends_every_meeting_at_its_server(shell: Shell, redis: RedisServer, spelling: str) -> None:
    balancer = await balancer_on(redis)
    try:
        await hold(balancer, 3)
        done = await deferToThread(shell.run, *spelled(spelling, "servers:panic", "s1"), "--yes")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == (
            "Panicking server s1...\nClearing Meeting id=m000\nClearing Meeting id=m001\nClearing Meeting id=m002\nOK\n"
        )
        assert all(meeting.forcibly_ended for meeting in balancer.nodes["s1"].meetings.values())
        assert dump(redis)["scalelite:server:s1"]["state"] == "disabled"
        assert await balancer.where("m000") is None
    finally:
        await balancer.stop()


@pytest_twisted.ensureDeferred
async def test_panic_of_a_server_that_hangs_comes_to_an_end_with_200_meetings(shell: Shell, redis: RedisServer) -> None:
    balancer = await balancer_on(redis)
    try:
        await hold(balancer, 200)
        balancer.nodes["s1"].faults.set("end", Fault.HANG_BEFORE_HEADERS)
        run: Callable[..., Any] = shell.run
        done = await deferToThread(run, "servers:panic[s1]", "--yes", RESPONSE_TIMEOUT="1")
        assert done.returncode == 0
        lines = done.stderr.splitlines()
        assert lines[-1] == (
            "WARNING: 200 of 200 meetings may still run on server s1; the poller ends them once it answers"
        )
        assert sum(line.startswith("WARNING: Could not end meeting id=m") for line in lines) == 200
        assert done.stdout.count("Clearing Meeting id=m") == 200
        assert "scalelite:meetings" not in dump(redis)
        balancer.nodes["s1"].faults.clear()
        await balancer.poll_now()
        assert all(meeting.forcibly_ended for meeting in balancer.nodes["s1"].meetings.values())
    finally:
        await balancer.stop()


@pytest_twisted.ensureDeferred
async def test_an_interrupted_panic_stops_at_once_and_forgets_nothing(shell: Shell, redis: RedisServer) -> None:
    balancer = await balancer_on(redis)
    try:
        await hold(balancer, 2)
        balancer.nodes["s1"].faults.set("end", Fault.HANG_BEFORE_HEADERS)

        def interrupt() -> tuple[int, bytes]:
            running = subprocess.Popen(
                [*shell.command, "servers:panic", "s1", "--yes"],
                cwd=shell.folder,
                env=shell.environ | {"RESPONSE_TIMEOUT": "50"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            assert running.stdout is not None
            for _ in range(3):
                running.stdout.readline()
            running.send_signal(signal.SIGINT)
            _, errors = running.communicate(timeout=PATIENCE)
            return running.returncode, errors

        assert await deferToThread(interrupt) == (130, b"")
        assert dump(redis)["scalelite:server:s1"]["state"] == "disabled"
        assert dump(redis)["scalelite:meetings"] == ["m000", "m001"]
    finally:
        await balancer.stop()
