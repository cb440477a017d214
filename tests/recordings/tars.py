"""Makes recordings' tars as a BigBlueButton server does, and others."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.sax.saxutils import escape

RECORD = "0f3c9d-1609459200123"

Member = tuple[str, bytes] | tarfile.TarInfo


def metadata_xml(
    playback_format: str = "presentation",
    record_id: str = RECORD,
    *,
    meeting_id: str = "algebra-1",
    name: str | None = "Algebra",
    meta: Mapping[str, str] | None = None,
    thumbnails: Iterable[str] = (),
    fields: Mapping[str, str | None] | None = None,
    playback: Mapping[str, str | None] | None = None,
    xml: str = "",
) -> bytes:
    """A metadata.xml. In `fields` and `playback` None leaves an element out; `xml` goes into it as it is."""
    top: dict[str, str | None] = {
        "id": record_id,
        "state": "published",
        "published": "true",
        "start_time": "1609459200123",
        "end_time": "1609462800456",
        "participants": "3",
        **(fields or {}),
    }
    below: dict[str, str | None] = {
        "format": playback_format,
        "link": f"https://bbb7.example.com/playback/{playback_format}/2.3/{record_id}",
        "processing_time": "9000",
        "duration": "3599000",
        **(playback or {}),
    }
    metas = {"meetingId": meeting_id, "meetingName": name, "isBreakout": "false", **(meta or {})}
    images = "".join(
        f'<image width="176" height="136" alt="{number}">https://bbb7.example.com{path}?x=1</image>'
        for number, path in enumerate(thumbnails)
    )
    preview = f"<extensions><preview><images>{images}</images></preview></extensions>" if images else ""
    return (
        f'<recording>{_elements(top)}<meeting id="x" externalId="y" name="z" breakout="false"/>'
        f"<meta>{_elements(metas)}</meta><playback>{_elements(below)}{preview}</playback>{xml}</recording>"
    ).encode()


def _elements(values: Mapping[str, str | None]) -> str:
    return "".join(f"<{key}>{escape(value)}</{key}>" for key, value in values.items() if value is not None)


def recording(
    formats: Mapping[str, bytes] | None = None, record_id: str = RECORD, *, text: str = "text"
) -> list[Member]:
    """The members of a recording's tar: each format's metadata.xml and a file that holds `text`."""
    members: list[Member] = []
    for playback_format, document in (formats or {"presentation": metadata_xml(record_id=record_id)}).items():
        root = f"{playback_format}/{record_id}"
        members += [
            (f"{root}/", b""),
            (f"{root}/metadata.xml", document),
            (f"{root}/slides/", b""),
            (f"{root}/slides/1.svg", text.encode()),
        ]
    return members


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """A member that is a link, a device, a pipe."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def tar_bytes(members: Iterable[Member], *, pax: bool = False) -> bytes:
    """An uncompressed tar; names that end in / are folders."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            name, data = member
            info = tarfile.TarInfo(name.rstrip("/") if len(name) > 1 else name)
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(info)
            else:
                info.size, info.mode = len(data), 0o644
                archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def write_tar(folder: Path, members: Iterable[Member], name: str = RECORD) -> Path:
    """Put a tar into a folder, as rsync does: under a hidden name first."""
    folder.mkdir(parents=True, exist_ok=True)
    hidden = folder / f".{name}.tar.Xy12ab"
    hidden.write_bytes(tar_bytes(members))
    return hidden.rename(folder / f"{name}.tar")
