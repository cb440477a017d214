"""What becomes of recorded meetings: processed for minutes, then published format by format."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scalelite.simulator.faults import Fault
from scalelite.simulator.records import Meeting, Playback, Recording

if TYPE_CHECKING:
    from scalelite.simulator.node import Node

__all__ = ["after_meeting", "invented", "of_meeting", "publish", "resume"]


def of_meeting(node: Node, meeting: Meeting, participants: int) -> Recording:
    """The recording of a meeting, not yet processed."""
    end = node.clock_ms()
    return Recording(
        record_id=meeting.internal_id,
        meeting_id=meeting.meeting_id,
        internal_id=meeting.internal_id,
        name=meeting.name,
        start_time=meeting.start_time or meeting.create_time,
        end_time=end,
        participants=participants,
        metadata={
            "isBreakout": "true" if meeting.is_breakout else "false",
            "meetingName": meeting.name,
            "meetingId": meeting.meeting_id,
            **meeting.metadata,
        },
        is_breakout=meeting.is_breakout,
        parent_id=meeting.parent_id if meeting.is_breakout else "",
        breakouts=tuple(meeting.breakouts),
    )


def invented(node: Node, meeting_id: str, name: str, *, age: int = 7200, length: int = 60) -> Recording:
    """A recording of a meeting that never was; `age` in seconds, `length` in minutes."""
    start = node.clock_ms() - age * 1000
    identity = f"{hashlib.sha1(meeting_id.encode(), usedforsecurity=False).hexdigest()}-{start}"
    return Recording(
        record_id=identity,
        meeting_id=meeting_id,
        internal_id=identity,
        name=name,
        start_time=start,
        end_time=start + length * 60000,
        participants=5,
        metadata={"isBreakout": "false", "meetingName": name, "meetingId": meeting_id},
    )


def after_meeting(node: Node, meeting: Meeting, participants: int) -> None:
    """A meeting has ended: if its record button was pressed, a recording will appear."""
    if not (meeting.record and meeting.recording_marks):
        return
    recording = of_meeting(node, meeting, participants)
    node.recordings[recording.record_id] = recording
    _process(node, recording)


def resume(node: Node) -> None:
    """After a restart: go on with what was being processed."""
    for recording in node.recordings.values():
        if recording.state == "processing":
            _process(node, recording)


def _process(node: Node, recording: Recording) -> None:
    delay = node.random.uniform(node.timings.recording_fastest, node.timings.recording_slowest)
    if rule := node.faults.hit(Fault.RECORDINGS_SLOW, "*"):
        delay += float(rule.options.get("seconds", 3600.0))
    node.timeline.call_later(delay, publish, node, recording)


def publish(node: Node, recording: Recording, formats: Sequence[str] = ("presentation",), size: int = 1048576) -> None:
    """Publish a recording in `formats`; each one is announced by a callback of its own."""
    if recording.state == "deleted":
        return
    recording.state = "published"
    for name in formats:
        recording.playback.append(_playback(node, recording, name, size))
        node.callbacks.recording_ready(recording)
    node.emit_recording("rap-publish-ended", recording)


def _playback(node: Node, recording: Recording, name: str, size: int) -> Playback:
    base = node.public_url
    identity = recording.record_id
    minutes = max(1, round((recording.end_time - recording.start_time) / 60000))
    if name != "presentation":
        return Playback(name, f"{base}/playback/{name}/{identity}/", minutes, size, 9000)
    slides = hashlib.sha1(identity.encode(), usedforsecurity=False).hexdigest()
    folder = f"{base}/presentation/{identity}/presentation/{slides}-{recording.start_time}/thumbnails"
    return Playback(
        name,
        f"{base}/playback/presentation/2.3/{identity}",
        minutes,
        size,
        thumbnails=tuple(f"{folder}/thumb-{slide}.png" for slide in (1, 2, 3)),
    )
