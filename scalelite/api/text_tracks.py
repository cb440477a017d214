"""The BBB API's actions on text tracks, which Scalelite lacks, and the links to tracks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

import orjson

from scalelite.api.admission import Admission, Call
from scalelite.api.bigbluebutton import GET, GET_POST, POST, ROOT
from scalelite.api.bodies import Accepts, uploaded_file
from scalelite.api.hosts import url_prefix
from scalelite.api.replies import NO_CACHE, Reply, error_reply
from scalelite.api.routing import Routes
from scalelite.api.site import Request
from scalelite.bbb import query
from scalelite.bbb.errors import BBBError, MissingRecordID, RecordingsNotFound
from scalelite.recordings.selection import blank
from scalelite.recordings.storage import StorageError
from scalelite.recordings.webvtt import NotCaptions, to_webvtt

if TYPE_CHECKING:
    # Where there are no recordings, SQLAlchemy need not be imported.
    from scalelite.recordings.text_tracks import TextTracks

LINKS: Final = "/bigbluebutton/textTrack/"
_JSON: Final = b"application/json"


class TextTracksAPI:
    """getRecordingTextTracks and putRecordingTextTrack: their answers are JSON."""

    def __init__(self, admission: Admission, tracks: TextTracks) -> None:
        self._admission = admission
        self._tracks = tracks

    def register(self, routes: Routes) -> None:
        """Add the routes."""
        admitted = self._admission.admitted
        routes.add(
            f"{ROOT}/getRecordingTextTracks",
            GET_POST,
            admitted("getRecordingTextTracks", Accepts.FORM, self.get_tracks),
        )
        routes.add(
            f"{ROOT}/putRecordingTextTrack", POST, admitted("putRecordingTextTrack", Accepts.FORM, self.put_track)
        )
        routes.add_below(LINKS, GET, self.follow)

    async def get_tracks(self, request: Request, call: Call) -> Reply:
        """The tracks of a recording, with links that work once. Errors are JSON for who accepts JSON."""
        try:
            record_id = _record_id(call)
            try:
                links = await self._tracks.list(record_id, call.strict_tenant_id)
            except RecordingsNotFound:
                raise BBBError("noRecordings", f"No recording found for {record_id}") from None
        except BBBError as error:
            accepted = request.requestHeaders.getRawHeaders(b"Accept") or ()
            if any(_JSON in value for value in accepted):
                return _failure(error)
            raise
        prefix = url_prefix(request)
        tracks = [
            {
                "href": f"{prefix}{LINKS}{quote(record_id, '')}/{link.track.name}?token={link.token}",
                "kind": link.track.kind,
                "label": link.track.label,
                "lang": link.track.lang,
                "source": link.track.source,
            }
            for link in links
        ]
        return _answer({"returncode": "SUCCESS", "tracks": tracks})

    async def put_track(self, request: Request, call: Call) -> Reply:
        """Add a track: WebVTT, or SubRip, which becomes WebVTT."""
        try:
            record_id = await self._put(request, call)
        except BBBError as error:
            request.note = error.message_key
            return _failure(error)
        return _answer(
            {
                "messageKey": "upload_text_track_success",
                "message": "Text track uploaded successfully",
                "recordId": record_id,
                "returncode": "SUCCESS",
            }
        )

    async def _put(self, request: Request, call: Call) -> str:
        from scalelite.recordings.text_tracks import KINDS, MAX_LABEL, TooManyTracks, Track, language

        params = call.params
        record_id = _record_id(call)
        kind = params.get("kind") or ""
        if kind not in KINDS:
            raise BBBError("invalidKind", "Invalid kind parameter, expected='subtitles|captions'")
        lang = language(params.get("lang") or "")
        if lang is None:
            raise BBBError("invalidLang", "Malformed lang param")
        label = params.get("label")
        content = uploaded_file(request, "file")
        if not content:
            raise BBBError("empty_uploaded_text_track", "Empty uploaded text track.")
        track = Track(kind, lang, lang if blank(label) else (label or "").strip()[:MAX_LABEL])
        try:
            await self._tracks.put(record_id, call.strict_tenant_id, track, to_webvtt(content))
        except RecordingsNotFound:
            raise BBBError("noRecordings", f"No recording found for {record_id}") from None
        except NotCaptions as error:
            raise BBBError("upload_text_track_failed", f"Text track upload failed: {error}.") from None
        except TooManyTracks:
            raise BBBError("upload_text_track_failed", "Text track upload failed: there are too many.") from None
        except StorageError as error:
            request.note = str(error)
            raise BBBError("upload_text_track_failed", "Text track upload failed.") from error
        return record_id

    async def follow(self, request: Request) -> Reply:
        """The track that a link leads to, once."""
        record_id, _, name = unquote(request.plain_path().decode("ascii", "replace").removeprefix(LINKS)).partition("/")
        token = query.parse(request.raw_query).get("token") or ""
        content = await self._tracks.follow(token, record_id, name, spend=request.method != b"HEAD")
        if content is None:
            return error_reply(RecordingsNotFound(), 404)
        return Reply(content.encode(), content_type=b"text/vtt; charset=utf-8", headers=NO_CACHE)


def _record_id(call: Call) -> str:
    record_id = call.params.get("recordID")
    if record_id is None or blank(record_id):
        raise MissingRecordID
    return record_id


def _answer(response: dict[str, Any]) -> Reply:
    return Reply(
        orjson.dumps({"response": response}), content_type=b"application/json; charset=utf-8", headers=NO_CACHE
    )


def _failure(error: BBBError) -> Reply:
    return _answer({"messageKey": error.message_key, "message": error.message, "returncode": "FAILED"})
