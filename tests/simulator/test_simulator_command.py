"""`python -m scalelite.simulator` as the demo and the benchmarks start it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from scalelite.simulator.checksums import digest


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    command = [sys.executable, "-m", "scalelite.simulator", "--print-ports", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nodes_are_served_until_a_signal_ends_them_cleanly(number: signal.Signals) -> None:
    arguments = ("--port", "0", "--port", "0", "--secret", "s3", "--meetings", "2", "--attendees", "3")
    with running(*arguments, "--control-port", "0") as (process, report):
        ports = report["ports"]
        assert isinstance(ports, list)
        assert len(set(ports)) == 2
        for port in ports:
            checksum = digest("getMeetings", b"", "s3", "sha256")
            listed = get(f"http://127.0.0.1:{port}/bigbluebutton/api/getMeetings?checksum={checksum}")
            assert (listed.count(b"<meeting>"), listed.count(b"<attendee>")) == (2, 6)
        nodes = json.loads(get(f"http://127.0.0.1:{report['control']}/_sim/nodes"))
        assert [node["port"] for node in nodes] == ports
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
        assert (process.returncode, errors) == (0, "")


def test_a_taken_port_is_told_and_ends_the_program() -> None:
    with running("--port", "0") as (_, report):
        ports = report["ports"]
        assert isinstance(ports, list)
        command = [sys.executable, "-m", "scalelite.simulator", "--port", str(ports[0])]
        second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert second.returncode == 1
        assert f"{ports[0]}" in second.stderr
        assert "Traceback" not in second.stderr


@pytest.mark.parametrize("ranges", ["9001", "9100-9001", "a-b", "1-9000"])
def test_a_wrong_range_of_ports_is_refused(ranges: str) -> None:
    command = [sys.executable, "-m", "scalelite.simulator", "--ports", ranges]
    assert subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 2
