"""The command `why`: where a meeting is, since when, and how it came there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from scalelite.admin.table import JSON, OK, Argument, Call, Command, Context, Failed
from scalelite.admin.text import json_text, shown, width
from scalelite.cluster.records import Server, ServerState

if TYPE_CHECKING:
    from scalelite.store.inspection import Explanation

NOT_RECORDED = (
    "How it was chosen is not recorded: of the servers that fit the tags asked for, the least loaded one took it. "
    "At this moment:"
)


async def why(context: Context, call: Call) -> int:
    """All that is known of a meeting."""
    meeting_id: str = call.get("meeting_id")
    known = await context.pool.inspection.explain(meeting_id)
    if known.server_id is None and not known.old_copies:
        raise Failed(f"Couldn't find Meeting with id={shown(meeting_id)}")
    servers = {server.id: server for server in await context.pool.servers.all()}
    candidates = sorted(
        (s for s in servers.values() if s.state is ServerState.ENABLED and s.load is not None),
        key=lambda server: (server.load, server.id),
    )
    host = servers.get(known.server_id or "")
    told = await _ask(context, meeting_id, host)
    if call.has(JSON):
        context.console.out(json_text(_as_json(meeting_id, known, told, candidates)))
    else:
        context.console.out("\n".join([*_lines(meeting_id, known, host, told), *_table(candidates, known.server_id)]))
    return OK


async def _ask(context: Context, meeting_id: str, host: Server | None) -> dict[str, str]:
    """What its server says: `created` and `users`, or `trouble`."""
    if host is None:
        return {}
    from scalelite.bbb.client import BackendError
    from scalelite.cluster.operations.asking import Question, ask_all, reason_of

    pool = context.pool
    question = Question(host, "getMeetingInfo", {"meetingID": meeting_id})
    (answer,) = await ask_all(pool.client, pool.clock, context.deadline, [question])
    if isinstance(answer, BackendError):
        return {"trouble": str(answer)}
    if not answer.success:
        return {"trouble": reason_of(answer)}
    return {"created": answer.text("createDate") or "", "users": answer.text("participantCount") or ""}


def _lines(meeting_id: str, known: Explanation, host: Server | None, told: dict[str, str]) -> list[str]:
    lines = [f"Meeting: {shown(meeting_id)}"]
    if known.server_id is None:
        lines.append("Server: none, it is not recorded")
    elif host is None:
        lines.append(f"Server: {shown(known.server_id)}, which does not exist: the next create places it anew")
    else:
        lines.append(f"Server: {shown(host.id)} ({_described(host)})")
    if known.tenant_id:
        lines.append(f"Tenant: {shown(known.tenant_id)}")
    if known.voice_bridge:
        lines.append(f"Number: {shown(known.voice_bridge)}")
    if "created" in told:
        lines.append(f"Since: {shown(told['created'])}, as its server says; {shown(told['users'])} users")
    elif "trouble" in told:
        lines.append(f"Since: unknown, its server does not say: {shown(told['trouble'])}")
    if known.placed is not None:
        lines.append(f"Placed: {_ago(known, known.placed)}; no poll has seen it there since")
    pending = known.pending
    if pending is not None:
        lines.append(
            f"Pending: its create on {shown(pending.server_id)} is not confirmed, tried {_ago(known, pending.since)}"
            + (", and may have been carried out" if pending.uncertain else "")
        )
        if pending.previous:
            lines.append(f"Moved: from {shown(pending.previous)}, where it would be again if that fails")
    if known.ttl is not None:
        lines.append(f"Record: expires in {_span(known.ttl)}, unless a poll sees the meeting alive")
    elif known.server_id is not None:
        lines.append("Record: never expires (see `doctor`)")
    lines += [
        f"Old copy: may still run on {shown(server_id)}, left {_ago(known, since)}; the poller ends it"
        for server_id, since in known.old_copies
    ]
    return lines


def _described(server: Server) -> str:
    parts = [server.state.value, "online" if server.online else "offline"]
    parts.append("load unknown" if server.load is None else f"load {server.load}")
    parts.append(f"tag {shown(server.tag)}" if server.tag else "no tag")
    return ", ".join(parts)


def _table(candidates: list[Server], chosen: str | None) -> list[str]:
    if not candidates:
        return ["No server takes new meetings at this moment"]
    rows = [("SERVER", "LOAD", "TAG")]
    rows += [(("* " if s.id == chosen else "  ") + shown(s.id), str(s.load), shown(s.tag or "")) for s in candidates]
    wide = max(width(row[0]) for row in rows)
    loads = max(len(row[1]) for row in rows)
    lines = [f"  {name}{' ' * (wide - width(name))}  {load.rjust(loads)}  {tag}".rstrip() for name, load, tag in rows]
    return [NOT_RECORDED, *lines]


def _ago(known: Explanation, moment: float) -> str:
    when = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return f"{_span(max(0.0, known.now - moment))} ago ({when})"


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _as_json(meeting_id: str, known: Explanation, told: dict[str, str], candidates: list[Server]) -> dict[str, Any]:
    pending = known.pending
    return {
        "meeting_id": meeting_id,
        "server_id": known.server_id,
        "tenant_id": known.tenant_id,
        "voice_bridge": known.voice_bridge,
        "created": told.get("created"),
        "users": told.get("users"),
        "trouble": told.get("trouble"),
        "placed": known.placed,
        "expires_in": known.ttl,
        "pending": None if pending is None else {"server_id": pending.server_id, "since": pending.since},
        "old_copies": [{"server_id": server_id, "since": since} for server_id, since in known.old_copies],
        "candidates": [{"server_id": s.id, "load": s.load, "tag": s.tag or ""} for s in candidates],
    }


COMMANDS = (
    Command(
        "why",
        why,
        "Explain where a meeting is.\n\nSince when, and how it was chosen: candidates with load and tags, as of now.",
        "why room-42",
        (Argument("meeting_id", "The meeting's id."),),
        (JSON,),
        changes=False,
    ),
)
