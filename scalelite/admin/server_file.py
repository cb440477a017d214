"""The YAML file of servers: what `servers:yaml` writes, `servers:sync` and `servers:addAll` read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import attrs
import yaml

from scalelite.admin.table import Failed
from scalelite.admin.text import LONGEST_VALUE, url_fault, value_fault
from scalelite.cluster.operations.sync import Wanted
from scalelite.cluster.records import Server, ServerState

#: Characters of a file, at most: to read it takes the process's time, which is that of all requests as well.
LARGEST_FILE: Final = 2 * 1024 * 1024
_DEEPEST: Final = 20
_ID: Final = re.compile(r"[a-zA-Z0-9_.-]+")
_PARAMETERS: Final = frozenset(
    {"url", "secret", "enabled", "load_multiplier", "tag", "load", "state", "bbb_version", "online"}
)
# YAML 1.1's words, as Ruby reads them.
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_FALSE: Final = frozenset({"no", "false", "off"})
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@attrs.frozen
class Scalar:
    """A value as it is written: `0123` stays what it is, and is no number in another notation."""

    text: str
    plain: bool

    @property
    def none(self) -> bool:
        """Whether it says that there is no value."""
        return self.plain and self.text in _NULLS

    @property
    def false(self) -> bool:
        """Whether it is the boolean; text in quotes never is."""
        return self.plain and self.text.lower() in _FALSE


Node = Scalar | list[Any] | dict[str, Any]


def read(text: str) -> Node:
    """The one document of a YAML text. Raises Failed for what is no YAML, and for aliases and tags."""
    if len(text) > LARGEST_FILE:
        raise Failed(f"The file is longer than {LARGEST_FILE} characters")
    try:
        events = iter(yaml.parse(text, Loader=_Loader))
        for event in events:
            if not isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent):
                return Scalar("", True) if isinstance(event, yaml.StreamEndEvent) else _node(event, events, 0)
    except (yaml.YAMLError, ValueError) as error:
        raise Failed(" ".join(str(error).split())) from None
    return Scalar("", True)


def _node(event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Node:
    if depth > _DEEPEST:
        raise Failed("Invalid YAML document: nested too deeply")
    if isinstance(event, yaml.AliasEvent):
        raise Failed("Invalid YAML document: aliases are not allowed")
    if isinstance(event, yaml.ScalarEvent):
        return Scalar(event.value, event.style is None or event.style == "")
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(_node(event, events, depth + 1))
        return items
    values: dict[str, Any] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        key = _node(event, events, depth + 1)
        if not isinstance(key, Scalar):
            raise Failed("Invalid YAML document: a key is no text")
        values[key.text] = _node(next(events), events, depth + 1)
    return values


def servers_of(text: str, kind: type[Node]) -> Any:
    """What is below `servers:`. Raises Failed if that is no `kind`."""
    document = read(text)
    if not isinstance(document, dict):
        raise Failed("Invalid YAML document")
    servers = document.get("servers")
    if not isinstance(servers, kind):
        raise Failed("Servers parameter not a hash" if kind is dict else "Servers parameter not a list")
    return servers


def wanted_servers(text: str) -> list[Wanted]:
    """The servers that a file wants, in its order. Raises Failed for the first fault in it."""
    return [_wanted(server_id, params) for server_id, params in servers_of(text, dict).items()]


def _wanted(server_id: str, params: Node) -> Wanted:
    def fault(what: str) -> Failed:
        return Failed(f"Server id={server_id} {what}")

    if not _ID.fullmatch(server_id):
        raise fault("contains invalid characters")
    given = {} if isinstance(params, Scalar) and params.none else params
    if not isinstance(given, dict):
        raise fault("has parameters that are not a hash")
    secret = _text(given, "secret")
    if not (secret or "").strip():
        raise fault("has no secret")
    unknown = [name for name in given if name not in _PARAMETERS]
    if unknown:
        raise fault(f"has bad parameters: [{', '.join(_quoted(name) for name in unknown)}]")
    multiplier = _text(given, "load_multiplier")
    try:
        load_multiplier = 1.0 if multiplier is None else float(multiplier)
    except ValueError:
        load_multiplier = 0.0
    if not 0 < load_multiplier < 1e15:
        raise fault(f"has invalid load_multiplier={multiplier}")
    url = _text(given, "url")
    if url is None:
        url = f"https://{server_id}/bigbluebutton/api"
    if url_fault(url) is not None:
        raise fault(f"has invalid url={url}")
    tag = _text(given, "tag") or ""
    for name, value in (("secret", secret or ""), ("tag", tag)):
        if len(value) > LONGEST_VALUE:
            raise fault(f"has a {name} of more than {LONGEST_VALUE} characters")
    enabled = given.get("enabled")
    return Wanted(
        server_id,
        url,
        secret or "",
        enabled=not (isinstance(enabled, Scalar) and enabled.false),
        load_multiplier=load_multiplier,
        tag=tag,
    )


def _text(given: dict[str, Any], name: str) -> str | None:
    """A parameter's text; None if it is absent. Lists and maps are no text, and as wrong as an empty one."""
    value = given.get(name)
    if value is None or (isinstance(value, Scalar) and value.none):
        return None
    return value.text if isinstance(value, Scalar) else ""


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def listed_servers(text: str) -> list[tuple[str, str]]:
    """(URL, secret) of the servers in a file of `servers:addAll`. Raises Failed."""
    found = []
    for item in servers_of(text, list):
        url, secret = (_text(item, name) for name in ("url", "secret")) if isinstance(item, dict) else (None, None)
        if not url or not secret:
            raise Failed("A server of the list has no url or no secret")
        fault = url_fault(url) or value_fault("Secret", secret)
        if fault is not None:
            raise Failed(f"{url}: {fault}")
        found.append((url, secret))
    return found


def dump(servers: Sequence[Server], *, verbose: bool) -> str:
    """The file that makes these servers again, secrets in clear."""
    records = {}
    for server in servers:
        record: dict[str, Any] = {
            "url": server.url,
            "secret": server.secret,
            "load_multiplier": server.load_multiplier,
            "tag": server.tag or "",
            "enabled": server.state is ServerState.ENABLED,
        }
        if verbose:
            record |= {
                "state": server.state.value,
                "load": -1.0 if server.load is None else server.load,
                "bbb_version": server.bbb_version or "",
                "online": server.online,
            }
        records[server.id] = record
    text: str = yaml.dump(
        {"servers": records},
        Dumper=_Dumper,
        explicit_start=True,
        default_flow_style=False,
        sort_keys=False,
        allow_unicode=True,
        width=100_000,
    )
    return text.removesuffix("\n")
