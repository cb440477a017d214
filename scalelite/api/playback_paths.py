"""Paths below a recording, as browsers send them: which of them may become a path of a file."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# A slash in disguise would count as one only for whoever reads the path next.
_HIDDEN_SLASH: Final = re.compile(rb"%2[Ff]|%5[Cc]|\\")
_MAX_PATH: Final = 4096


def file_path(raw: bytes) -> str | None:
    """The decoded path for a raw one that begins with a slash; None if it could lead anywhere else.

    Refused are `.` and `..`, empty segments but the last, backslashes, encoded slashes, control characters, broken
    escapes and what is not UTF-8. Decoded once: what is encoded twice names a file with an escape in its name.
    """
    if len(raw) > _MAX_PATH or _BROKEN_ESCAPE.search(raw) or _HIDDEN_SLASH.search(raw):
        return None
    try:
        path = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return None
    if any(character < " " or character == "\x7f" for character in path):
        return None
    first, *segments, last = path.split("/")
    if first or last in (".", "..") or any(segment in ("", ".", "..") for segment in segments):
        return None
    return path
