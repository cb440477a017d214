"""Which answers of servers are fit to be passed on."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from twisted.internet import defer

from scalelite.bbb import xml
from scalelite.bbb.client import BadAnswer, NeverSent, NoAnswer
from scalelite.bbb.errors import InternalError
from scalelite.cluster.operations.relay import ask, relayable
from scalelite.cluster.records import ServerState
from scalelite.store.meetings import Host


def answer(inner: str) -> xml.Answer:
    return xml.parse(f"<response>{inner}</response>".encode())


@pytest.mark.parametrize(
    "inner",
    [
        "<returncode>SUCCESS</returncode>",
        "<returncode>FAILED</returncode><messageKey>k</messageKey><message>m</message><extra/>",
        "<returncode>FAILED</returncode><messageKey/><message/>",
        "<returncode>FAILED</returncode><errors><error key='k' message='m'/></errors>",
        "<returncode>ODD</returncode><messageKey>k</messageKey><message>m</message>",
    ],
)
def test_answers_that_say_why_are_relayed_as_they_are(inner: str) -> None:
    given = answer(inner)
    assert relayable(given, "failure") is given


@pytest.mark.parametrize(
    "inner",
    [
        "<returncode>FAILED</returncode>",
        "<returncode>FAILED</returncode><messageKey>k</messageKey>",
        "<returncode>FAILED</returncode><message>m</message>",
        "<returncode>success</returncode>",
    ],
)
def test_others_are_the_actions_own_error(inner: str) -> None:
    with pytest.raises(InternalError, match="failure") as caught:
        relayable(answer(inner), "failure")
    assert caught.value.message == "failure"


@attrs.define
class Client:
    """Notes how it was called."""

    outcome: Any
    options: dict[str, Any] = attrs.field(factory=dict)

    async def call(self, server: Any, action: str, params: Any, **options: Any) -> xml.Answer:
        self.options = {"action": action, "params": params, **options}
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome  # type: ignore[no-any-return]


def host(*, online: bool) -> Host:
    return Host("s1", "http://x", "s", "", online, ServerState.ENABLED)


@pytest.mark.parametrize("online", [True, False])
def test_a_server_known_to_be_offline_is_asked_in_a_hurry(online: bool) -> None:
    client = Client(answer("<returncode>SUCCESS</returncode>"))
    call = ask(client, host(online=online), "end", {"meetingID": "m"}, failure="f")  # type: ignore[arg-type]
    results: list[Any] = []
    defer.Deferred.fromCoroutine(call).addBoth(results.append)
    assert results == [client.outcome]
    assert client.options["hurried"] is not online


@pytest.mark.parametrize("fault", [NeverSent("secret"), NoAnswer("secret"), BadAnswer("secret")])
def test_trouble_never_shows_its_details_to_clients(fault: Exception) -> None:
    call = ask(Client(fault), host(online=True), "end", {}, failure="Unable.")  # type: ignore[arg-type]
    results: list[Any] = []
    defer.Deferred.fromCoroutine(call).addErrback(lambda failure: results.append(failure.value))
    assert isinstance(results[0], InternalError)
    assert results[0].message == "Unable."
