"""How faults break connections, delays and answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import attrs

from scalelite.simulator import lifecycle, spoiling
from scalelite.simulator.checksums import parse_query
from scalelite.simulator.faults import Fault, FaultRule
from scalelite.simulator.http import Connection, Request, Response, head_of

if TYPE_CHECKING:
    from scalelite.simulator.edge import Edge
    from scalelite.simulator.node import Node

__all__ = ["on_connect", "serve"]


def on_connect(node: Node, connection: Connection) -> None:
    """Faults of every call strike as soon as the peer connects."""
    if node.faults.hit(Fault.BLACKHOLE, "*", exact=True):
        connection.stop_reading()
    elif node.faults.hit(Fault.RESET, "*", exact=True):
        connection.abort()


def serve(edge: Edge, connection: Connection, request: Request, name: str | None) -> None:
    """Answer a request of a node that has faults."""
    node = edge.node
    endpoint = "page" if name is None else (name or "index")
    faults = node.faults

    def note(fault: Fault) -> None:
        edge.log(request, name, parse_query(request.query), f"fault:{fault}")

    if faults.hit(Fault.BLACKHOLE, endpoint):
        note(Fault.BLACKHOLE)
        connection.stop_reading()
        return
    if faults.hit(Fault.RESET, endpoint):
        note(Fault.RESET)
        connection.abort()
        return
    if connection.served > 1 and faults.hit(Fault.CLOSE_ON_REUSE, endpoint):
        note(Fault.CLOSE_ON_REUSE)
        connection.finish(close=True)
        return
    if faults.hit(Fault.RESTART, endpoint):
        note(Fault.RESTART)
        node.forget()
        node.listener.reset_connections()
        return
    _before(node, endpoint)
    wait = node.delay + _delay(node, endpoint)
    if rule := faults.hit(Fault.HANG_BEFORE_HEADERS, endpoint):
        _replace(edge, request, name, rule, Response())
        return
    for fault, make in spoiling.REPLACEMENTS.items():
        if rule := faults.hit(fault, endpoint):
            response = _replace(edge, request, name, rule, make(node, request, rule))
            _after(node, connection, wait, partial(connection.send, response))
            return
    answer = edge.answer(request, name)
    if endpoint == "create":
        _duplicate(node, request)
        if faults.hit(Fault.CREATE_ANSWER_LOST, endpoint):
            _after(node, connection, wait, connection.abort)
            return
    for fault, spoil in spoiling.SPOILERS.items():
        if rule := faults.hit(fault, endpoint):
            answer = spoil(answer, rule)
    sender = _sender(node, connection, endpoint, answer)
    _after(node, connection, wait, sender)


def _replace(edge: Edge, request: Request, name: str | None, rule: FaultRule, response: Response) -> Response:
    if rule.options.get("processed"):
        edge.answer(request, name)
    else:
        edge.log(request, name, parse_query(request.query), f"fault:{rule.kind}")
    return response


def _after(node: Node, connection: Connection, wait: float, action: Callable[[], object]) -> None:
    if wait > 0:
        connection.later(node.simulator.clock, wait, action)
    else:
        action()


def _before(node: Node, endpoint: str) -> None:
    faults = node.faults
    if rule := faults.hit(Fault.SILENT_END, endpoint):
        wanted = rule.options.get("meeting_id")
        for meeting in list(node.meetings.values()):
            if wanted in (None, meeting.meeting_id):
                lifecycle.vanish(node, meeting)
    if rule := faults.hit(Fault.LOAD_MEETINGS, endpoint):
        node.fill(int(rule.options.get("meetings", 500)), int(rule.options.get("users", 20)), prefix="load")
    if rule := faults.hit(Fault.LOAD_RECORDINGS, endpoint):
        node.fill_recordings(int(rule.options.get("recordings", 3000)))
    if rule := faults.hit(Fault.LONG_NAMES, endpoint):
        meetings, users = int(rule.options.get("meetings", 5)), int(rule.options.get("users", 2))
        node.fill(meetings, users, prefix="long", names=256)
    if rule := faults.hit(Fault.LOAD_BREAKOUTS, endpoint):
        parent = node.fill(1, 1, prefix="parent")[0]
        node.open_breakouts(parent.meeting_id, int(rule.options.get("rooms", 100)), users=1)


def _delay(node: Node, endpoint: str) -> float:
    faults = node.faults
    wait = 0.0
    if rule := faults.hit(Fault.DELAY, endpoint):
        wait += float(rule.options.get("seconds", 1.0))
    if rule := faults.hit(Fault.JITTER, endpoint):
        wait += node.random.uniform(float(rule.options.get("lowest", 0.0)), float(rule.options.get("highest", 1.0)))
    if rule := faults.hit(Fault.SLOW_ONE_IN, endpoint):
        wait += float(rule.options.get("seconds", 30.0))
    if endpoint == "create":
        # Creates are carried out one after the other: one that takes long holds up those behind it.
        now = node.simulator.clock.seconds()
        wait += max(0.0, node.create_free_at - now)
        if rule := faults.hit(Fault.CREATE_SLOW, endpoint):
            wait += float(rule.options.get("seconds", 15.0))
            node.create_free_at = now + wait
    return wait


def _duplicate(node: Node, request: Request) -> None:
    others = [other for other in node.simulator.nodes if other is not node]
    if others and node.faults.hit(Fault.DUPLICATE_MEETING, "create"):
        params = parse_query(request.query)
        meeting = node.meetings.get(params.get("meetingID", ""))
        other = node.random.choice(others)
        if meeting is not None and meeting.meeting_id not in other.meetings:
            given = {key: value for key, value in meeting.params.items() if key != "meetingID"}
            other.create(meeting.meeting_id, **given)


def _sender(node: Node, connection: Connection, endpoint: str, answer: Response) -> Callable[[], object]:
    for fault, send in _SENDERS.items():
        if rule := node.faults.hit(fault, endpoint):
            return lambda: send(node, connection, answer, rule)
    return lambda: connection.send(answer)


def _hang_after_headers(_node: Node, connection: Connection, answer: Response, _rule: FaultRule) -> None:
    connection.write(head_of(answer, length=max(1, len(answer.body))))


def _drip(node: Node, connection: Connection, answer: Response, rule: FaultRule) -> None:
    interval = float(rule.options.get("interval", 1.0))
    connection.write(head_of(answer, length=len(answer.body)))

    def drop(position: int) -> None:
        if position >= len(answer.body):
            connection.finish()
            return
        connection.write(answer.body[position : position + 1])
        connection.later(node.simulator.clock, interval, drop, position + 1)

    drop(0)


def _content_length_long(_node: Node, connection: Connection, answer: Response, rule: FaultRule) -> None:
    length = len(answer.body) + int(rule.options.get("extra", 100))
    connection.write(head_of(answer, length=length) + answer.body)
    connection.finish(close=True)


def _content_length_short(_node: Node, connection: Connection, answer: Response, _rule: FaultRule) -> None:
    connection.write(head_of(answer, length=len(answer.body) // 2) + answer.body)
    connection.finish(close=True)


def _endless_chunked(node: Node, connection: Connection, answer: Response, rule: FaultRule) -> None:
    interval = float(rule.options.get("interval", 0.1))
    filler = b" " * int(rule.options.get("chunk", 1024))
    endless = attrs.evolve(answer, headers=(*answer.headers, ("Transfer-Encoding", "chunked")))
    first = answer.body.removesuffix(b"</response>")
    connection.write(head_of(endless) + _chunk(first))

    def more() -> None:
        connection.write(_chunk(filler))
        connection.later(node.simulator.clock, interval, more)

    more()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


_SENDERS: dict[Fault, Callable[[Node, Connection, Response, FaultRule], None]] = {
    Fault.HANG_AFTER_HEADERS: _hang_after_headers,
    Fault.DRIP: _drip,
    Fault.CONTENT_LENGTH_LONG: _content_length_long,
    Fault.CONTENT_LENGTH_SHORT: _content_length_short,
    Fault.ENDLESS_CHUNKED: _endless_chunked,
}
