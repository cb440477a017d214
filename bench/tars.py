"""Recordings as BigBlueButton servers send them: tars of 1 MB, each with the files of a short presentation."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

from bench.recordings_data import Recording

SIZE = 1_000_000
#: Files of a presentation, and how long they are; the film takes what is left.
SMALL = {
    "shapes.svg": 60_000,
    "panzooms.xml": 4_000,
    "cursor.xml": 30_000,
    "slides_new.xml": 5_000,
    "presentation_text.json": 8_000,
    "captions.json": 20,
    "polls.json": 20,
    "external_videos.json": 20,
    "deskshare.xml": 100,
    **{f"presentation/d1/slide-{number}.png": 40_000 for number in (1, 2, 3)},
    **{f"presentation/d1/thumbnails/thumb-{number}.png": 5_000 for number in (1, 2, 3)},
}
FILM = "video/webcams.webm"


def metadata_xml(one: Recording) -> bytes:
    """What the server tells of it."""
    link = f"https://bbb1.example.com/playback/presentation/2.3/{one.record_id}"
    images = "".join(
        f'<image width="176" height="136" alt="Slide {number}">https://bbb1.example.com/presentation/{one.record_id}'
        f"/presentation/d1/thumbnails/thumb-{number}.png</image>"
        for number in (1, 2, 3)
    )
    return (
        f"<recording><id>{one.record_id}</id><state>published</state><published>true</published>"
        f"<start_time>{one.began}</start_time><end_time>{one.began + 3_000_000}</end_time>"
        f"<participants>12</participants><meta><meetingId>{one.meeting_id}</meetingId>"
        f"<meetingName>Lecture {one.number}</meetingName><isBreakout>false</isBreakout>"
        "<bbb-origin>Moodle</bbb-origin><bbb-origin-server-name>moodle.example.com</bbb-origin-server-name>"
        f"<course>course-{one.meeting}</course></meta><playback><format>presentation</format><link>{link}</link>"
        "<processing_time>9000</processing_time><duration>3000000</duration>"
        f"<extensions><preview><images>{images}</images></preview></extensions></playback></recording>"
    ).encode()


def make_tars(folder: Path, count: int) -> None:
    """Write so many tars, each of a recording of its own."""
    noise = random.Random(1).randbytes(SIZE)
    for number in range(count):
        one = Recording(number, number, 0)
        files = {"metadata.xml": metadata_xml(one), **{name: noise[:size] for name, size in SMALL.items()}}
        # Each file has a header and is filled up to 512 bytes; an end of 10,240 follows.
        taken = sum(len(content) + 1024 for content in files.values()) + 20_000
        files[FILM] = noise[taken:]
        with tarfile.open(folder / f"{one.record_id}.tar", "w", format=tarfile.GNU_FORMAT) as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(f"presentation/{one.record_id}/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
