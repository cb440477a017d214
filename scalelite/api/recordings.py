"""The BBB API's actions on recordings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import attrs

from scalelite.api.admission import Admission, Call
from scalelite.api.bigbluebutton import GET, GET_POST, ROOT
from scalelite.api.bodies import Accepts
from scalelite.api.hosts import url_prefix
from scalelite.api.replies import Reply, StreamedReply
from scalelite.api.routing import Routes
from scalelite.api.site import Request
from scalelite.api.text_tracks import TextTracksAPI
from scalelite.bbb import errors, xml
from scalelite.recordings import selection

if TYPE_CHECKING:
    # Where there are no recordings, SQLAlchemy need not be imported.
    from scalelite.recordings.changes import RecordingChanges
    from scalelite.recordings.listing import RecordingLister

# What Rails takes for no.
_NO: Final = frozenset(("0", "f", "F", "false", "FALSE", "off", "OFF"))


@attrs.frozen
class RecordingRules:
    """Settings that these actions look at."""

    filter_required: bool = False
    all_meta: bool = False


class RecordingsAPI:
    """getRecordings, publishRecordings, updateRecordings, deleteRecordings, and those of `tracks`."""

    def __init__(
        self,
        admission: Admission,
        lister: RecordingLister,
        changes: RecordingChanges,
        tracks: TextTracksAPI,
        rules: RecordingRules,
    ) -> None:
        self._admission = admission
        self._tracks = tracks
        self._lister = lister
        self._changes = changes
        self._rules = rules

    def register(self, routes: Routes) -> None:
        """Add the routes."""
        admitted = self._admission.admitted
        for name, methods, action in (
            ("getRecordings", GET_POST, self.get_recordings),
            ("publishRecordings", GET, self.publish_recordings),
            ("updateRecordings", GET_POST, self.update_recordings),
            ("deleteRecordings", GET, self.delete_recordings),
        ):
            routes.add(f"{ROOT}/{name}", methods, admitted(name, Accepts.FORM, action))
        self._tracks.register(routes)

    async def get_recordings(self, request: Request, call: Call) -> Reply | StreamedReply:
        """The recordings that match, newest first."""
        params = call.params
        if (
            self._rules.filter_required
            and selection.blank(params.get("meetingID"))
            and selection.blank(params.get("recordID"))
        ):
            raise errors.MissingFilter
        selected = selection.selection(params, call.strict_tenant_id, all_meta=self._rules.all_meta)
        answer = await self._lister.list(selected, selection.page(params), url_prefix(request))
        return Reply(answer) if isinstance(answer, bytes) else StreamedReply(answer)

    async def publish_recordings(self, request: Request, call: Call) -> Reply:
        """Publish or unpublish."""
        record_ids = _record_ids(call)
        publish = call.params.get("publish")
        if publish is None or selection.blank(publish):
            raise errors.MissingPublish
        published = publish.lower() == "true"
        await self._changes.publish(record_ids, published=published, tenant_id=call.strict_tenant_id)
        return _done("published", published)

    async def update_recordings(self, request: Request, call: Call) -> Reply:
        """Change metadata and protection."""
        record_ids = _record_ids(call)
        protect = call.params.get("protect")
        updated = await self._changes.update(
            record_ids,
            selection.metadata_changes(call.params, selection.RESERVED_KEYS if call.tenant is not None else ()),
            protect=None if protect is None or selection.blank(protect) else protect not in _NO,
            tenant_id=call.strict_tenant_id,
        )
        return _done("updated", updated)

    async def delete_recordings(self, request: Request, call: Call) -> Reply:
        """Delete files and metadata."""
        await self._changes.delete(_record_ids(call), tenant_id=call.strict_tenant_id)
        return _done("deleted", True)


def register_disabled(admission: Admission, routes: Routes) -> None:
    """Add the routes for where there are no recordings."""
    not_found = admission.fixed(xml.render_error(errors.RecordingsNotFound()))
    routes.add(f"{ROOT}/getRecordings", GET_POST, admission.fixed(xml.NO_RECORDINGS))
    routes.add(f"{ROOT}/updateRecordings", GET_POST, not_found)
    routes.add(f"{ROOT}/publishRecordings", GET, not_found)
    routes.add(f"{ROOT}/deleteRecordings", GET, not_found)


def _record_ids(call: Call) -> Sequence[str]:
    """The required recordID: exact ids here. Raises MissingRecordID."""
    value = call.params.get("recordID")
    if selection.blank(value):
        raise errors.MissingRecordID
    return selection.items(value)


def _done(name: str, value: bool) -> Reply:
    text = "true" if value else "false"
    return Reply(f"<response>\n  <returncode>SUCCESS</returncode>\n  <{name}>{text}</{name}>\n</response>\n".encode())
