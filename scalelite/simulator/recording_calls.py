"""The calls about recordings and their text tracks (BBB API: recording)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

from scalelite.simulator import lifecycle
from scalelite.simulator.answers import Failed, escape, json_answer, message, success, tag
from scalelite.simulator.call import Call
from scalelite.simulator.http import Response
from scalelite.simulator.records import Playback, Recording

if TYPE_CHECKING:
    from scalelite.simulator.node import Node

__all__ = [
    "delete_recordings",
    "get_recording_text_tracks",
    "get_recordings",
    "publish_recordings",
    "put_recording_text_track",
    "update_recordings",
]

_KEPT = ("isBreakout", "meetingName", "meetingId")
_LANGUAGE = re.compile(r"[a-zA-Z]{2,3}(-[a-zA-Z0-9]{2,8})*\Z")
MAX_LIMIT = 100


def _listed(value: str) -> list[str]:
    return [item.strip() for item in value.split(",") if item.strip()]


def _like(pattern: str, value: str | None) -> bool:
    if value is None:
        return False
    return re.fullmatch(".*".join(map(re.escape, pattern.split("%"))), value, re.DOTALL) is not None


def _matches(recording: Recording, params: dict[str, str]) -> bool:
    states = _listed(params.get("state", "")) or ["published", "unpublished"]
    if "any" not in states and recording.state not in states:
        return False
    meeting_ids = _listed(params.get("meetingID", ""))
    if meeting_ids and recording.meeting_id not in meeting_ids:
        return False
    record_ids = _listed(params.get("recordID", ""))
    if record_ids and not any(recording.record_id.startswith(prefix) for prefix in record_ids):
        return False
    wanted = ((key[5:], value) for key, value in params.items() if key.startswith("meta_"))
    return all(_like(value, recording.metadata.get(key.lower(), recording.metadata.get(key))) for key, value in wanted)


def get_recordings(node: Node, call: Call) -> Response:
    """The recordings that match, newest first."""
    params = call.params
    filtered = any(params.get(key) for key in ("meetingID", "recordID")) or any(
        key.startswith("meta_") for key in params
    )
    if not filtered and not node.options.allow_fetch_all_recordings:
        text = "It is not allowed to retrieve all recordings at once."
        return success(message("noRecordings", text), cached=True)
    found = [recording for recording in node.recordings.values() if _matches(recording, params)]
    found.sort(key=lambda recording: recording.start_time, reverse=True)
    total = len(found)
    page = ""
    if "offset" in params or "limit" in params:
        offset, limit = _number(params, "offset", 0, 0), _number(params, "limit", MAX_LIMIT, 1)
        limit = min(limit, MAX_LIMIT)
        found = found[offset : offset + limit]
        page = _pagination(node, offset, limit, total)
    if not found:
        text = "There are no recordings for the meeting(s)."
        return success(f"<recordings></recordings>{message('noRecordings', text)}{page}", cached=True)
    return success(f"<recordings>{''.join(map(_recording, found))}</recordings>{page}", cached=True)


def _number(params: dict[str, str], name: str, default: int, lowest: int) -> int:
    value = params.get(name, "")
    if value and not re.fullmatch(r"-?[0-9]+", value):
        raise Failed("validationError", f"{name} must be an integer")
    return max(lowest, int(value)) if value else default


def _pagination(node: Node, offset: int, limit: int, total: int) -> str:
    if node.profile.pagination == "total":
        return tag("totalElements", total)
    pageable = f"<pageable>{tag('offset', offset)}{tag('limit', limit)}</pageable>"
    empty = tag("empty", offset >= total)
    return f"<pagination>{pageable}{tag('totalElements', total)}{empty}</pagination>"


def _format(playback: Playback) -> str:
    preview = ""
    if playback.thumbnails:
        images = "".join(
            f'<image width="176" height="136" alt="Slide {number}">{escape(url)}</image>'
            for number, url in enumerate(playback.thumbnails, 1)
        )
        preview = f"<preview><images>{images}</images></preview>"
    return (
        f"<format>{tag('type', playback.type)}{tag('url', playback.url)}"
        f"{tag('processingTime', playback.processing_time)}{tag('length', playback.length)}"
        f"{tag('size', playback.size)}{preview}</format>"
    )


def _recording(recording: Recording) -> str:
    breakout = rooms = ""
    if recording.is_breakout:
        breakout = f"<breakout>{tag('parentId', recording.parent_id)}</breakout>"
    if recording.breakouts:
        rooms = "".join(tag("breakoutRoom", room) for room in recording.breakouts)
        rooms = f"<breakoutRooms>{rooms}</breakoutRooms>"
    return (
        f"<recording>{tag('recordID', recording.record_id)}{tag('meetingID', recording.meeting_id)}"
        f"{tag('internalMeetingID', recording.internal_id)}{tag('name', recording.name)}"
        f"{tag('isBreakout', recording.is_breakout)}{tag('published', recording.state == 'published')}"
        f"{tag('state', recording.state)}{tag('startTime', recording.start_time)}"
        f"{tag('endTime', recording.end_time)}{tag('participants', recording.participants)}"
        f"{tag('rawSize', recording.raw_size)}{breakout}{rooms}"
        f"<metadata>{''.join(tag(key, value) for key, value in recording.metadata.items())}</metadata>"
        f"<playback>{''.join(map(_format, recording.playback))}</playback></recording>"
    )


def _chosen(node: Node, call: Call) -> Iterable[Recording]:
    record_ids = _listed(call.params.get("recordID", ""))
    if not record_ids:
        raise Failed("missingParamRecordID", "You must specify a recordID.")
    found = [node.recordings[identity] for identity in record_ids if identity in node.recordings]
    found = [recording for recording in found if recording.state != "deleted"]
    if not found:
        raise Failed("notFound", "We could not find recordings")
    return found


def publish_recordings(node: Node, call: Call) -> Response:
    """Publish or unpublish recordings."""
    publish = call.params.get("publish", "")
    chosen = _chosen(node, call) if call.params.get("recordID") else ()
    if not chosen:
        raise Failed("missingParamRecordID", "You must specify a recordID.")
    if not publish:
        raise Failed("missingParamPublish", "You must specify a publish value true or false.")
    if publish not in ("true", "false"):
        raise Failed("validationError", "publish must be true or false")
    for recording in chosen:
        recording.state = "published" if publish == "true" else "unpublished"
        node.emit_recording("rap-published" if publish == "true" else "rap-unpublished", recording)
    return success(tag("published", publish == "true"))


def delete_recordings(node: Node, call: Call) -> Response:
    """Delete recordings; with state=deleted they are still shown."""
    for recording in _chosen(node, call):
        recording.state = "deleted"
        node.emit_recording("rap-deleted", recording)
    return success(tag("deleted", True))


def update_recordings(node: Node, call: Call) -> Response:
    """Change metadata of recordings; an empty value deletes the key."""
    for recording in _chosen(node, call):
        for key, value in call.params.items():
            if not key.startswith("meta_") or key[5:] in _KEPT:
                continue
            if value:
                recording.metadata[key[5:].lower()] = value
            else:
                recording.metadata.pop(key[5:].lower(), None)
    return success(tag("updated", True))


def _track_failure(key: str, text: str, call: Call) -> Response:
    if call.wants_json or call.name == "putRecordingTextTrack":
        content = {"messageKey": key, "message": text, "returncode": "FAILED"}
        return json_answer(content, verdict=key)
    raise Failed(key, text)


def get_recording_text_tracks(node: Node, call: Call) -> Response:
    """The text tracks of a recording, with links that work once."""
    identity = call.params.get("recordID", "")
    if not identity:
        return _track_failure("missingParamRecordID", "You must specify a recordID.", call)
    recording = node.recordings.get(identity)
    if recording is None:
        return _track_failure("noRecordings", f"No recording found for {identity}", call)
    tracks = []
    for track in recording.tracks:
        token = lifecycle.token(node, 32)
        name = quote(f"{track['kind']}_{track['lang']}.vtt")
        href = f"{node.public_url}/bigbluebutton/textTrack/{token}/{identity}/{name}"
        tracks.append({"href": href, **track})
    return json_answer({"returncode": "SUCCESS", "tracks": tracks})


def put_recording_text_track(node: Node, call: Call) -> Response:
    """Add a text track to a recording."""
    params = call.params
    identity, kind, language = (params.get(name, "") for name in ("recordID", "kind", "lang"))
    recording = node.recordings.get(identity)
    upload = call.files.get("file")
    if not identity:
        return _track_failure("missingParamRecordID", "You must specify a recordID.", call)
    if recording is None:
        return _track_failure("noRecordings", f"No recording found for {identity}", call)
    if kind not in ("subtitles", "captions"):
        return _track_failure("invalidKind", "Invalid kind parameter, expected='subtitles|captions'", call)
    if not _LANGUAGE.match(language):
        return _track_failure("invalidLang", "Malformed lang param", call)
    if upload is None or not upload.content:
        return _track_failure("empty_uploaded_text_track", "Empty uploaded text track.", call)
    label = params.get("label") or language
    recording.tracks = [track for track in recording.tracks if (track["kind"], track["lang"]) != (kind, language)]
    recording.tracks.append({"kind": kind, "label": label, "lang": language, "source": "upload"})
    return json_answer(
        {
            "messageKey": "upload_text_track_success",
            "message": "Text track uploaded successfully",
            "recordId": identity,
            "returncode": "SUCCESS",
        }
    )
