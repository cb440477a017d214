"""The commands around meetings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from scalelite.admin.console import confirm
from scalelite.admin.progress import Progress
from scalelite.admin.table import JSON, OK, YES, Argument, Call, Command, Context, Failed
from scalelite.admin.tables import drawn
from scalelite.admin.text import json_text, shown

if TYPE_CHECKING:
    from scalelite.bbb.xml import Answer
    from scalelite.cluster.operations.meetings import Ending, Listing
    from scalelite.cluster.records import Meeting, Server

NO_MEETING: Final = "Error: Please input a meetingID!"
CLEAR_WARNING: Final = "WARNING: You are trying to clear active meetings."
METADATA: Final = (
    "bbb-context-name",
    "analytics-callback-url",
    "bbb-recording-tags",
    "bbb-origin-server-common-name",
    "bbb-context-label",
    "bbb-origin",
    "bbb-context",
    "bbb-context-id",
    "bbb-recording-name",
    "bbb-origin-server-name",
    "bbb-recording-description",
    "bbb-origin-tag",
)
_HEADERS: Final = ("MEETING ID", "NAME", "SERVER", "USERS", "CREATED")
_KEYS: Final = ("meeting_id", "name", "server_id", "users", "created")
IDS: Final = Argument("ids", "Meeting ids, as words or joined by `:`; all if absent.", False, many=True)


async def chosen_meetings(context: Context, call: Call) -> list[Meeting]:
    """The meetings that the argument `ids` names. Raises Failed if one is not recorded."""
    from scalelite.cluster.operations.meetings import NoSuchMeeting, find_meetings

    try:
        return await find_meetings(context.pool.meetings, call.get("ids") or ())
    except NoSuchMeeting as error:
        raise Failed(shown(str(error))) from error


async def list_meetings(context: Context, call: Call) -> int:
    """The recorded meetings that their servers know, and where they are."""
    from scalelite.cluster.operations.meetings import by_server

    console, pool = context.console, context.pool
    meetings = await chosen_meetings(context, call)
    held = by_server(meetings)
    servers = {server.id: server for server in await pool.servers.all() if server.id in held}
    asked = await _asked(context, call, list(servers.values()))
    listings = {listing.server.id: listing for listing in asked}
    rows = []
    for meeting in meetings:
        listing = listings.get(meeting.server_id)
        if listing is None:
            console.err(f"WARNING: Meeting id={shown(meeting.id)} is on a server that is gone")
        elif listing.trouble is None and meeting.id in listing.meetings:
            rows.append(_row(meeting, listing))
        elif listing.trouble is None:
            console.err(f"WARNING: Meeting id={shown(meeting.id)} is not known to server {shown(listing.server.id)}")
    for listing in listings.values():
        if listing.trouble is not None:
            count = len(held[listing.server.id])
            console.err(
                f"WARNING: Could not list server {shown(listing.server.id)}, where {count} of the meetings are "
                f"recorded: {shown(listing.trouble)}"
            )
    if call.has(JSON):
        console.out(json_text(rows))
        return OK
    cells = [[shown(str("" if row[key] is None else row[key])) for key in _KEYS] for row in rows]
    table = drawn(console, call, _HEADERS, cells, right=("USERS",))
    if table is not None:
        console.out(table)
    elif rows:
        console.out(
            "\n".join(
                f"\nMeetingID: {shown(row['meeting_id'])}\n\tServer ID: {shown(row['server_id'])}\n"
                f"\tServer Url: {shown(row['server_url'])}"
                for row in rows
            )
        )
    return OK


async def _asked(context: Context, call: Call, servers: Sequence[Server]) -> list[Listing]:
    """What the servers say that they run."""
    from scalelite.cluster.operations.meetings import list_servers

    if not servers:
        return []
    pool, patience = context.pool, context.settings.poller_wait_timeout
    with Progress(context.console, call, "servers asked") as progress:
        return await list_servers(pool.client, pool.clock, patience, servers, progress.at)


def _row(meeting: Meeting, listing: Listing) -> dict[str, Any]:
    element = listing.meetings[meeting.id]
    users = element.findtext("participantCount") or ""
    return {
        "meeting_id": meeting.id,
        "name": element.findtext("meetingName") or "",
        "server_id": listing.server.id,
        "server_url": listing.server.url,
        "tenant_id": meeting.tenant_id,
        "voice_bridge": meeting.voice_bridge or "",
        "running": element.findtext("running") == "true",
        "users": int(users) if users.isascii() and users.isdigit() else None,
        "created": element.findtext("createDate") or "",
    }


async def end(context: Context, call: Call) -> int:
    """End meetings and forget them, once that is agreed to."""
    from scalelite.cluster.operations.meetings import end_meetings

    console, pool = context.console, context.pool
    meetings = await chosen_meetings(context, call)
    refused = await confirm(console, CLEAR_WARNING, agreed=call.has(YES), piped=call.rake)
    if refused:
        return refused
    if not meetings:
        console.err("No meetings to clear")
    with Progress(console, call, "meetings done") as progress:

        def tell(ending: Ending) -> None:
            progress.err(f"Clearing Meeting id={shown(ending.meeting.id)}")
            if ending.reason is not None:
                progress.err(f"WARNING: Could not end meeting id={shown(ending.meeting.id)}: {shown(ending.reason)}")

        left = await end_meetings(
            pool.servers, pool.meetings, lambda: pool.client, pool.clock, context.deadline, meetings, tell, progress.at
        )
    if left:
        what = "1 meeting" if left == 1 else f"{left} meetings"
        raise Failed(f"{what} of {len(meetings)} may still run, and their records stay")
    console.out("OK")
    return OK


async def info(context: Context, call: Call) -> int:
    """What a meeting's server says of it."""
    from scalelite.bbb.client import BackendError
    from scalelite.cluster.operations.asking import Question, ask_all, reason_of

    console, pool = context.console, context.pool
    meeting_id: str = call.get("id")
    found = await pool.meetings.find(meeting_id)
    if found is None:
        raise Failed(f"Couldn't find Meeting with id={shown(meeting_id)}")
    host = found.host
    if host is None:
        raise Failed(f"Meeting id={shown(meeting_id)} is on a server that is gone")
    question = Question(host, "getMeetingInfo", {"meetingID": meeting_id})
    (answer,) = await ask_all(pool.client, pool.clock, context.deadline, [question])
    if isinstance(answer, BackendError) or not answer.success:
        reason = str(answer) if isinstance(answer, BackendError) else reason_of(answer)
        console.err(f"WARNING: Could not get info for meeting id={shown(meeting_id)}: {shown(reason)}")
        return OK
    if call.has(JSON):
        console.out(json_text(_info_as_json(meeting_id, host.id, host.url, answer)))
        return OK

    def text(name: str) -> str:
        return shown(answer.text(name) or "")

    metadata = [f"\t\t{name}: {shown(answer.root.findtext(f'metadata/{name}') or '')}" for name in METADATA]
    lines = [
        "",
        f"Meeting ID: {text('meetingID')}",
        f"\tMeeting Name: {text('meetingName')}",
        f"\tInternal MeetingID: {text('internalMeetingID')}",
        f"\tCreated Date: {text('createDate')}",
        f"\tRecording Enabled: {text('recording')}",
        f"\tServer id: {shown(host.id)}",
        f"\tSerevr url: {shown(host.url)}",
        "\tMetaData:",
        *metadata,
    ]
    console.out("\n".join(lines))
    return OK


def _info_as_json(meeting_id: str, server_id: str, server_url: str, answer: Answer) -> dict[str, Any]:
    metadata = answer.root.find("metadata")
    return {
        "meeting_id": meeting_id,
        "name": answer.text("meetingName") or "",
        "internal_id": answer.text("internalMeetingID") or "",
        "created": answer.text("createDate") or "",
        "recording": answer.text("recording") == "true",
        "server_id": server_id,
        "server_url": server_url,
        "metadata": {} if metadata is None else {str(element.tag): element.text or "" for element in metadata},
    }


async def list_on_servers(context: Context, call: Call) -> int:
    """What each server says that it runs, recorded or not."""
    console, pool = context.console, context.pool
    servers = await pool.servers.all()
    wanted = [server_id for word in call.get("ids") or () for server_id in word.split(":") if server_id]
    known = {server.id for server in servers}
    for server_id in wanted:
        if server_id not in known:
            raise Failed(f"Couldn't find Server with id={shown(server_id)}")
    chosen = [server for server in servers if not wanted or server.id in wanted]
    listings = await _asked(context, call, chosen)
    if call.has(JSON):
        rows = [_listing_as_json(listing) for listing in listings]
        console.out(json_text(rows))
        return OK
    for listing in listings:
        console.out(f"\nServer ID: {shown(listing.server.id)}\nServer Url: {shown(listing.server.url)}")
        if listing.refused:
            console.err(f"\nFailed to get server id={shown(listing.server.id)} status: {shown(listing.trouble or '')}")
        elif listing.trouble is not None:
            console.err(f"\nFailed to get meetings list status: {shown(listing.trouble)}")
        else:
            console.out("MeetingIDs: ")
            console.out("\n".join(f"\t{shown(meeting_id)}" for meeting_id in sorted(listing.meetings)) or "\t")
            if not listing.meetings:
                console.err("\tNo meetings to display")
    return OK


def _listing_as_json(listing: Listing) -> dict[str, Any]:
    return {
        "server_id": listing.server.id,
        "server_url": listing.server.url,
        "meetings": None if listing.trouble is not None else sorted(listing.meetings),
        "error": listing.trouble,
    }


def _list(name: str) -> Command:
    return Command(
        name,
        list_meetings,
        "List the meetings and their servers.\n\nThose are shown that are recorded and that their server knows.",
        f"{name} room-42",
        (IDS,),
        (JSON,),
        changes=False,
    )


COMMANDS = (
    _list("meetings"),
    _list("meetings:list"),
    Command(
        "meetings:info",
        info,
        "Show what a meeting's server says of it.",
        "meetings:info room-42",
        (Argument("id", "The meeting's id."),),
        (JSON,),
        missing=NO_MEETING,
        changes=False,
    ),
    Command(
        "meetings:end",
        end,
        "End meetings, all of them if none is named.\n\n"
        "A meeting whose server does not say that it is over stays recorded; the status is 1 then.",
        "meetings:end room-42 --yes",
        (IDS,),
        (YES,),
        destructive=True,
    ),
    Command(
        "servers:meeting_list",
        list_on_servers,
        "List what each server runs, recorded or not.",
        "servers:meeting_list bbb1.example.com",
        (Argument("ids", "Server ids, as words or joined by `:`; all if absent.", False, many=True),),
        (JSON,),
        changes=False,
    ),
)
