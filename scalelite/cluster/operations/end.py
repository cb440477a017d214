"""end: the server is asked first; the record goes once the meeting is surely over."""

from __future__ import annotations

from twisted.logger import Logger

from scalelite.bbb import errors
from scalelite.bbb.client import BBBClient
from scalelite.bbb.xml import Answer
from scalelite.cluster.operations.relay import ask
from scalelite.cluster.params import Params
from scalelite.store.errors import StoreError
from scalelite.store.meetings import Found, MeetingStore

_log = Logger()


async def end_meeting(meetings: MeetingStore, client: BBBClient, found: Found, params: Params) -> Answer:
    """End a meeting with the password that the client gave (none is forwarded as a bare name).

    A refusal or a time-out leaves the record: the meeting still runs. Raises BBBError, or StoreError.
    """
    meeting, host = found.meeting, found.host
    if host is None:
        # Its server was removed from the pool: nothing can be ended now. Should it come back, its copy is.
        await meetings.clear(meeting.id, meeting.server_id, may_live=True)
        raise errors.MeetingNotFound
    sent = {"meetingID": meeting.id, "password": params.get("password")}
    answer = await ask(client, host, "end", sent, failure=errors.MEETING_UNREACHABLE)
    if answer.success or answer.text("messageKey") == "notFound":
        try:
            await meetings.drop_ended(meeting)
        except StoreError as error:
            # It is over all the same; the poller takes the record away.
            _log.warn("the record of an ended meeting stays until the next poll: {error}", error=error)
    return answer
