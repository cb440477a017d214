"""Calls whose cost is measured: their paths, and the meetings that they need."""

from __future__ import annotations

import http.client
from collections.abc import Sequence

from bench.load import asked_of, signed, taken_apart
from bench.processes import BenchError


def create(meeting_id: str) -> str:
    """The path of a create call as a front-end makes it."""
    return signed(
        "create",
        name="A room for the benchmark",
        meetingID=meeting_id,
        attendeePW="ap",
        moderatorPW="mp",
        record="true",
        allowStartStopRecording="true",
        autoStartRecording="false",
        welcome="Welcome to the room!",
        logoutURL="https://front-end.example.com/rooms/1",
    )


def join(meeting_id: str) -> str:
    """The path of a join call as a front-end makes it."""
    return signed(
        "join", fullName="Ada Lovelace", meetingID=meeting_id, password="mp", userID="user-1", redirect="true"
    )


def running(meeting_id: str) -> str:
    """The path of an isMeetingRunning call."""
    return signed("isMeetingRunning", meetingID=meeting_id)


def names(prefix: str, count: int) -> list[str]:
    """Meeting ids of the length that front-ends make."""
    return [f"{prefix}-{number:06}".ljust(40, "x") for number in range(count)]


def make_meetings(port: int, meeting_ids: Sequence[str], host: str = "") -> None:
    """Create the meetings through the balancer, as the tenant of `host`. Raises BenchError if one is refused."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for meeting_id in meeting_ids:
        path, headers = taken_apart(asked_of(host, create(meeting_id)))
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse().read()
        if b"<returncode>SUCCESS" not in answer:
            raise BenchError(f"a meeting was not created: {answer!r}")
    connection.close()


def check(port: int, path: str, status: int, text: bytes) -> None:
    """Make sure that what is going to be measured is what is meant. Raises BenchError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    only_path, headers = taken_apart(path)
    connection.request("GET", only_path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    shown = body + (response.getheader("Location") or "").encode()
    connection.close()
    if response.status != status or text not in shown:
        raise BenchError(f"{path} answers {response.status}: {shown!r}")


def recordings(host: str, **filters: str) -> str:
    """A getRecordings call of the tenant of `host`."""
    return asked_of(host, signed("getRecordings", **filters))
