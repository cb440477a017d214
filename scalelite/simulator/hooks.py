"""Webhooks, as the optional package bbb-webhooks offers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from scalelite.simulator.answers import Failed, message, success, tag
from scalelite.simulator.http import Response
from scalelite.simulator.records import Meeting, Recording, User

if TYPE_CHECKING:
    from scalelite.simulator.node import Node

__all__ = ["Hook", "Hooks"]


@attrs.frozen
class Hook:
    """A registered receiver; `meeting_id` is the external id, empty for events of all meetings."""

    hook_id: int
    url: str
    meeting_id: str = ""
    events: tuple[str, ...] = ()
    raw: bool = False

    def xml(self) -> str:
        """The hook as hooks/list shows it."""
        meeting = tag("meetingID", self.meeting_id) if self.meeting_id else ""
        return (
            f"<hook>{tag('hookID', self.hook_id)}<callbackURL><![CDATA[{self.url}]]></callbackURL>{meeting}"
            f"{tag('permanentHook', False)}{tag('rawData', self.raw)}</hook>"
        )


class Hooks:
    """The receivers of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._next = 1
        self.registered: dict[int, Hook] = {}

    def forget(self) -> None:
        """Lose all of them."""
        self.registered.clear()

    def create(self, params: dict[str, str]) -> Response:
        """The call hooks/create."""
        url = params.get("callbackURL", "")
        if not url:
            raise Failed("missingParamCallbackURL", "You must specify a callbackURL in the parameters.")
        known = next((hook for hook in self.registered.values() if hook.url == url), None)
        if known is not None:
            text = "There is already a hook for this callback URL."
            return success(tag("hookID", known.hook_id) + message("duplicateWarning", text))
        events = tuple(event for event in params.get("eventID", "").split(",") if event)
        hook = Hook(self._next, url, params.get("meetingID", ""), events, params.get("getRaw") == "true")
        self._next += 1
        self.registered[hook.hook_id] = hook
        return success(tag("hookID", hook.hook_id) + tag("permanentHook", False) + tag("rawData", hook.raw))

    def destroy(self, params: dict[str, str]) -> Response:
        """The call hooks/destroy."""
        identity = params.get("hookID", "")
        if not identity:
            raise Failed("missingParamHookID", "You must specify a hookID in the parameters.")
        if not identity.isdigit() or self.registered.pop(int(identity), None) is None:
            raise Failed("destroyMissingHook", "The hook informed was not found.")
        return success(tag("removed", True))

    def list(self, params: dict[str, str]) -> Response:
        """The call hooks/list."""
        meeting_id = params.get("meetingID", "")
        shown = [hook for hook in self.registered.values() if hook.meeting_id in ("", meeting_id) or not meeting_id]
        return success(f"<hooks>{''.join(hook.xml() for hook in shown)}</hooks>")

    def emit(self, event: str, meeting: Meeting, user: User | None = None) -> None:
        """Send an event to everyone who wants it."""
        attributes: dict[str, Any] = {"meeting": _ids(meeting.internal_id, meeting.meeting_id)}
        if event == "meeting-created":
            attributes["meeting"] |= {"name": meeting.name, "create-time": meeting.create_time}
        if user is not None:
            attributes["user"] = {
                "internal-user-id": user.user_id,
                "external-user-id": user.external_id,
                "name": user.name,
                "role": user.role,
            }
        self._send(event, meeting.meeting_id, attributes)

    def emit_recording(self, event: str, recording: Recording) -> None:
        """Send an event about a recording."""
        attributes = {
            "meeting": _ids(recording.internal_id, recording.meeting_id),
            "record-id": recording.record_id,
        }
        self._send(event, recording.meeting_id, attributes)

    def _send(self, event: str, meeting_id: str, attributes: dict[str, Any]) -> None:
        stamp = int(self._node.timeline.now() * 1000)
        data = {"type": "event", "id": event, "attributes": attributes, "event": {"ts": stamp}}
        for hook in list(self.registered.values()):
            if hook.meeting_id in ("", meeting_id) and (not hook.events or event in hook.events):
                self._node.callbacks.webhook(hook.url, {"data": data})


def _ids(internal: str, external: str) -> dict[str, Any]:
    return {"internal-meeting-id": internal, "external-meeting-id": external}
