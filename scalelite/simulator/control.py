"""The control API, `/_sim/...` in JSON: everything that can be done to a node in process."""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.error import CannotListenError

from scalelite.simulator.answers import Failed
from scalelite.simulator.checksums import parse_query
from scalelite.simulator.faults import GROUPS
from scalelite.simulator.http import Connection, Request, Response
from scalelite.simulator.records import Meeting

if TYPE_CHECKING:
    from scalelite.simulator.listening import Listener
    from scalelite.simulator.node import Node
    from scalelite.simulator.simulator import Simulator

__all__ = ["ControlSite", "handle"]

Arguments = dict[str, Any]


class Refused(Exception):
    """A control request that is not carried out."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host_of(authority: bytes) -> str:
    text = authority.decode("latin-1").rpartition("//")[2]
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


def _authorize(simulator: Simulator, connection: Connection, request: Request) -> None:
    secret = simulator.control_secret
    if secret:
        given = request.headers.get(b"authorization", b"")
        if not hmac.compare_digest(given, b"Bearer " + secret.encode()):
            raise Refused(401, "the control secret is missing or wrong")
        return
    # A page of another site, or a name that was rebound to loopback, must not steer the simulator.
    if not _loopback(connection.peer):
        raise Refused(403, "without a control secret only loopback is served")
    origin = request.headers.get(b"origin")
    if not _loopback(_host_of(request.headers.get(b"host", b""))) or (
        origin is not None and origin.rpartition(b"//")[2] != request.headers.get(b"host")
    ):
        raise Refused(403, "without a control secret other origins are refused")


def _meeting(meeting: Meeting) -> dict[str, Any]:
    shown = attrs.asdict(meeting, filter=lambda field, _value: field.name not in ("users", "fragment"))
    users = [attrs.asdict(user) for user in meeting.users.values()]
    return {**shown, "running": meeting.running, "users": users}


def _find(node: Node, arguments: Arguments) -> str:
    meeting_id = arguments.pop("meeting_id", None)
    if meeting_id not in node.meetings:
        raise Refused(404, "there is no such meeting")
    return str(meeting_id)


def _create(node: Node, arguments: Arguments) -> Any:
    meeting_id = str(arguments.pop("meeting_id", ""))
    return _meeting(node.create(meeting_id, **{key: str(value) for key, value in arguments.items()}))


def _add_users(node: Node, arguments: Arguments) -> Any:
    return [attrs.asdict(user) for user in node.add_users(_find(node, arguments), **arguments)]


def _record(node: Node, arguments: Arguments) -> Any:
    node.press_record(_find(node, arguments))


def _publish(node: Node, arguments: Arguments) -> Any:
    return attrs.asdict(node.publish_recording(str(arguments.pop("meeting_id", "")), **arguments))


def _set_fault(node: Node, arguments: Arguments) -> Any:
    return node.faults.set(**arguments).as_json()


def _requests(node: Node, arguments: Arguments) -> Any:
    action = arguments.get("action")
    entries = [entry for entry in node.requests if action in (None, entry.action)]
    return [{**attrs.asdict(entry), "body": entry.body.decode("utf-8", "replace")} for entry in entries]


def _callbacks(node: Node, _arguments: Arguments) -> Any:
    return [{**attrs.asdict(entry), "body": entry.body.decode("utf-8", "replace")} for entry in node.callbacks.log]


READS: dict[str, Callable[[Node, Arguments], Any]] = {
    "state": lambda node, _arguments: node.describe(),
    "meeting": lambda node, arguments: _meeting(node.meetings[_find(node, arguments)]),
    "requests": _requests,
    "callbacks": _callbacks,
    "recordings": lambda node, _arguments: [attrs.asdict(item) for item in node.recordings.values()],
    "faults": lambda node, _arguments: [rule.as_json() for rule in node.faults.rules],
}
"""Commands that only look, by GET; arguments are the query."""

COMMANDS: dict[str, Callable[[Node, Arguments], Any]] = {
    "create": _create,
    "users/add": _add_users,
    "users/remove": lambda node, arguments: node.remove_users(_find(node, arguments), **arguments),
    "users/admit": lambda node, arguments: len(node.admit_guests(_find(node, arguments))),
    "record": _record,
    "end": lambda node, arguments: node.end(_find(node, arguments), **arguments),
    "vanish": lambda node, arguments: node.vanish(_find(node, arguments)),
    "breakouts": lambda node, arguments: [
        _meeting(room) for room in node.open_breakouts(_find(node, arguments), **arguments)
    ],
    "recordings/publish": _publish,
    "fill": lambda node, arguments: len(node.fill(**arguments)),
    "faults/set": _set_fault,
    "faults/clear": lambda node, arguments: node.faults.clear(**arguments),
    "clock/advance": lambda node, arguments: node.advance(float(arguments["seconds"])),
    "requests/clear": lambda node, _arguments: node.requests.clear(),
    "weekday/start": lambda node, arguments: node.weekday.start(**arguments),
    "weekday/stop": lambda node, _arguments: node.weekday.stop(),
    "restart": lambda node, _arguments: node.restart(),
    "stop": lambda node, _arguments: node.stop(),
    "start": lambda node, _arguments: node.start(),
}
"""Commands that change something, by POST; arguments are a JSON object."""


def handle(simulator: Simulator, node: Node | None, connection: Connection, request: Request) -> None:
    """Carry out a control request. `/_sim/COMMAND` is for the node asked, `/_sim/nodes/PORT/COMMAND` for another."""
    simulator.background(_reply(simulator, node, connection, request))


async def _reply(simulator: Simulator, node: Node | None, connection: Connection, request: Request) -> None:
    try:
        response = await _answer(simulator, node, connection, request)
    except Refused as error:
        response = _json({"error": str(error)}, error.status)
    except Failed as error:
        response = _json({"error": error.message, "messageKey": error.key}, 409)
    except CannotListenError as error:
        response = _json({"error": str(error)}, 409)
    except (KeyError, TypeError, ValueError) as error:
        # Arguments are passed on as they come, so this is how wrong ones show.
        response = _json({"error": f"{type(error).__name__}: {error}"}, 400)
    connection.send(response)


def _json(content: object, status: int = 200) -> Response:
    text = json.dumps(content, ensure_ascii=False, default=str) + "\n"
    return Response(text.encode(), status, "application/json", (("Cache-Control", "no-store"),))


async def _answer(simulator: Simulator, node: Node | None, connection: Connection, request: Request) -> Response:
    _authorize(simulator, connection, request)
    path = request.path.removeprefix("/_sim/").strip("/")
    arguments = _arguments(request)
    if path == "nodes":
        return _json(await _nodes(simulator, request.method, arguments))
    if path == "kinds":
        return _json({group: {kind.value: kind.name for kind in kinds} for group, kinds in GROUPS.items()})
    if path.startswith("nodes/"):
        port, _, path = path.removeprefix("nodes/").partition("/")
        node = simulator.node_at(int(port)) if port.isdigit() else None
        if request.method == "DELETE" and not path and node is not None:
            connection.closing = True
            node.listener.disconnected(connection)
            await simulator.remove_node(node)
            return _json({"ok": True})
    if node is None:
        raise Refused(404, "there is no such node")
    commands = READS if request.method == "GET" else COMMANDS
    command = commands.get(path or "state")
    if command is None:
        other = COMMANDS if commands is READS else READS
        raise Refused(405 if path in other else 404, "there is no such command")
    if path in ("stop", "restart"):
        # The answer has to outlive the port it was asked at.
        connection.closing = True
        node.listener.disconnected(connection)
    outcome = command(node, arguments)
    if isinstance(outcome, Coroutine):
        outcome = await outcome
    return _json({"ok": True} if outcome is None else outcome)


def _arguments(request: Request) -> Arguments:
    if request.method == "GET":
        return dict(parse_query(request.query))
    if not request.body:
        return {}
    arguments = json.loads(request.body)
    if not isinstance(arguments, dict):
        raise Refused(400, "arguments are a JSON object")
    return arguments


async def _nodes(simulator: Simulator, method: str, arguments: Arguments) -> Any:
    if method == "POST":
        return (await simulator.add_node(**arguments)).describe()
    return [{"number": n.number, "port": n.port, "url": n.url, "listening": n.listening} for n in simulator.nodes]


class ControlSite:
    """A site that serves nothing but the control API, for when all nodes are down."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self.listener: Listener | None = None

    def connected(self, connection: Connection) -> None:
        """A peer has connected."""
        if self.listener is not None:
            self.listener.connected(connection)

    def disconnected(self, connection: Connection) -> None:
        """A peer is gone."""
        if self.listener is not None:
            self.listener.disconnected(connection)

    def handle(self, connection: Connection, request: Request) -> None:
        """Carry out a control request."""
        if request.path.startswith("/_sim/"):
            handle(self._simulator, None, connection, request)
        else:
            connection.send(_json({"error": "only /_sim/ is served here"}, 404))
