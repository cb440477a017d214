"""A client as the settings want it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor

from scalelite.bbb.client import BadAnswer, NoAnswer
from scalelite.bbb.pooled import pooled_client
from scalelite.settings import Settings
from scalelite.simulator import Fault, Simulator

reactor: Any = _reactor


@pytest.mark.parametrize("by_treq", [False, True], ids=["agent", "treq"])
@pytest.mark.parametrize(
    ("settings", "fault", "expected"),
    [
        ({"response_timeout": 0.1}, Fault.HANG_BEFORE_HEADERS, (NoAnswer, "no whole answer within 0.1 s")),
        ({"max_answer_size": 10}, None, (BadAnswer, "at most 10")),
        ({"outgoing_algorithm": "SHA512"}, None, None),
    ],
    ids=["deadline", "size", "algorithm"],
)
@pytest_twisted.ensureDeferred
async def test_calls_are_bounded_and_signed_as_the_settings_say(
    settings: dict[str, Any], fault: Fault | None, expected: tuple[type[Exception], str] | None, by_treq: bool
) -> None:
    simulator = Simulator(reactor, seed=1)
    node = await simulator.add_node(secret="s")
    if fault is not None:
        node.faults.set("*", fault)
    client, pool = pooled_client(reactor, Settings.for_tests(**settings), by_treq=by_treq)
    try:
        if expected is None:
            assert (await client.call(node, "getMeetings", {})).success
        else:
            with pytest.raises(expected[0], match=expected[1]):
                await client.call(node, "getMeetings", {})
    finally:
        await pool.closeCachedConnections()
        await simulator.stop()


def test_an_unreadable_certificate_file_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no-such"):
        pooled_client(reactor, Settings.for_tests(bbb_ca_file=tmp_path / "no-such.pem"))
