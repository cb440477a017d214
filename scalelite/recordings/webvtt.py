"""Text tracks as clients send them, made into WebVTT: that itself, checked, or SubRip (SRT)."""

from __future__ import annotations

import re
from typing import Final

#: Bytes of a track; hours of dense captions are some hundred thousand.
MAX_TRACK: Final = 1024 * 1024

_VTT_TIMING: Final = re.compile(
    r"(?:(\d{2,}):)?([0-5]\d):([0-5]\d)\.(\d{3})[ \t]+-->[ \t]+(?:(\d{2,}):)?([0-5]\d):([0-5]\d)\.(\d{3})(?:[ \t].*)?"
)
_SRT_TIMING: Final = re.compile(
    r"[ \t]*(\d{1,3}):(\d{1,2}):(\d{1,2})[,.](\d{1,3})[ \t]*-->[ \t]*(\d{1,3}):(\d{1,2}):(\d{1,2})[,.](\d{1,3})"
    r"(?:[ \t].*)?"
)
_KEPT_TAG: Final = re.compile(r"</?[biu]>", re.IGNORECASE)
_TAG_OR_OVERRIDE: Final = re.compile(r"</?[A-Za-z][^<>\n]*>|\{\\[^{}\n]*\}")
_AMPERSAND: Final = re.compile(r"&(?!(?:amp|lt|gt|nbsp|lrm|rlm|#\d+|#x[0-9A-Fa-f]+);)")


class NotCaptions(Exception):
    """What was sent is neither WebVTT nor SubRip; the text says why."""


def to_webvtt(content: bytes) -> str:
    """The track as WebVTT with line feeds. Raises NotCaptions."""
    if len(content) > MAX_TRACK:
        raise NotCaptions("it is too large")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NotCaptions("it is not UTF-8") from None
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
    if text.startswith("WEBVTT"):
        _check(text)
        return text if text.endswith("\n") else text + "\n"
    return _from_subrip(text)


def _check(text: str) -> None:
    """Raises NotCaptions unless a player would show every cue."""
    lines = text.split("\n")
    if lines[0][6:7] not in ("", " ", "\t"):
        raise NotCaptions("its first line is not WEBVTT")
    if len(lines) > 1 and lines[1] and "-->" in lines[1]:
        raise NotCaptions("there is no empty line after WEBVTT")
    cues = 0
    for number, line in enumerate(lines[1:], 2):
        if "-->" not in line:
            continue
        timing = _VTT_TIMING.fullmatch(line.rstrip(" \t"))
        if timing is None:
            raise NotCaptions(f"line {number} is no timing")
        if _milliseconds(*timing.groups()[:4]) >= _milliseconds(*timing.groups()[4:]):
            raise NotCaptions(f"in line {number}, a cue ends before it begins")
        cues += 1
    if not cues:
        raise NotCaptions("there are no cues in it")


def _from_subrip(text: str) -> str:
    cues: list[str] = []
    for block in re.split(r"\n[ \t]*\n+", text.strip("\n")):
        lines = block.strip("\n").split("\n")
        if not block.strip():
            continue
        if lines[0].strip().isdigit() and len(lines) > 1:
            del lines[0]
        timing = _SRT_TIMING.fullmatch(lines[0])
        if timing is None:
            if cues and not any("-->" in line for line in lines):
                # An empty line within a cue: WebVTT knows none.
                cues[-1] += "".join(f"{_cue_text(line)}\n" for line in lines)
                continue
            raise NotCaptions(f"neither WebVTT nor SubRip: no timing at {lines[0][:40]!r}")
        fields = [int(field) for field in timing.groups()]
        # The fraction is one of a second, however few digits it has.
        fields[3], fields[7] = (int(timing[at].ljust(3, "0")) for at in (4, 8))
        begin, end = _milliseconds(*map(str, fields[:4])), _milliseconds(*map(str, fields[4:]))
        if begin < end:
            body = "".join(f"{_cue_text(line)}\n" for line in lines[1:])
            cues.append(f"{_time(begin)} --> {_time(end)}\n{body}")
    if not cues:
        raise NotCaptions("neither WebVTT nor SubRip: there are no cues in it")
    return "WEBVTT\n\n" + "\n".join(cues)


def _cue_text(line: str) -> str:
    """A line of SubRip's text: bold, italic and underlined stay, other tags go, and nothing else is markup."""
    plain = _TAG_OR_OVERRIDE.sub(lambda found: found[0].lower() if _KEPT_TAG.fullmatch(found[0]) else "", line)
    pieces = re.split(r"(</?[biu]>)", _AMPERSAND.sub("&amp;", plain))
    return "".join(
        piece if at % 2 else piece.replace("<", "&lt;").replace(">", "&gt;") for at, piece in enumerate(pieces)
    )


def _milliseconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> int:
    return ((int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(fraction)


def _time(milliseconds: int) -> str:
    seconds, fraction = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:03}"
