"""Reading what an operator types, and showing what is stored."""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

#: What stands for a secret that is not to be shown.
MASK: Final = "*****"
#: Characters of a server's URL, secret or tag, at most.
LONGEST_VALUE: Final = 1_000

_LEADING_NUMBER: Final = re.compile(r"\s*([+-]?(?:[0-9][0-9_]*)?(?:\.[0-9][0-9_]*)?(?:[eE][+-]?[0-9]+)?)")
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_BOOLEANS: Final = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}


def shown(text: str) -> str:
    """Stored text on one line of a terminal: whatever could move its cursor or forge a line is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def json_text(value: Any) -> str:
    """A value as JSON, indented, for a terminal as well: what could move its cursor is escaped as JSON has it."""
    lines = json.dumps(value, indent=2, ensure_ascii=False).split("\n")
    return "\n".join(line if line.isprintable() else "".join(map(_json_character, line)) for line in lines)


def _json_character(character: str) -> str:
    if character.isprintable():
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def width(text: str) -> int:
    """Columns that a terminal needs for `text`."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def read_boolean(text: str) -> bool:
    """A yes or no of the command line. Raises ValueError for anything else."""
    value = _BOOLEANS.get(text.lower())
    if value is None:
        raise ValueError("true or false")
    return value


def read_multiplier(text: str | None) -> float:
    """A load multiplier as Scalelite reads it: the number that the text begins with, 0.0 if there is none."""
    if text is None:
        return 1.0
    found = _LEADING_NUMBER.match(text)
    try:
        number = float(found[1].replace("_", "")) if found else 0.0
    except ValueError:
        return 0.0
    return number if abs(number) < 1e15 else 0.0


def value_fault(name: str, text: str) -> str | None:
    """Why `text` can't be the `name` of a server, such as its secret or tag; None if it can."""
    if not text.isprintable():
        return f"{name} must have no control characters"
    if len(text) > LONGEST_VALUE:
        return f"{name} must have no more than {LONGEST_VALUE} characters"
    return None


def url_fault(url: str) -> str | None:
    """Why `url` can't be the API root of a BBB server; None if it can."""
    if not url.startswith(("http://", "https://")):
        return "Server URL must start with http:// or https://"
    try:
        parts = urlsplit(url)
        usable = _HOST.fullmatch(parts.netloc) is not None and parts.port != 0 and bool(parts.hostname)
        # No label may be empty or longer than 63 characters, else TLS can't name the host.
        (parts.hostname or "").encode("idna")
    except ValueError:
        usable = False
    if not usable:
        return "Server URL must have a host name or an address, and no user, after http:// or https://"
    if parts.query or parts.fragment or not (url.isascii() and url.isprintable()) or " " in url:
        return "Server URL must end with its path: no ?, no #, no blanks or letters beyond ASCII"
    if len(url) > LONGEST_VALUE:
        return f"Server URL must have no more than {LONGEST_VALUE} characters"
    return None


def instant(seconds: float) -> str:
    """A time, in seconds since 1970, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def utc_instant(time: datetime | None) -> str:
    """A time as the database has it; "" for none."""
    return "" if time is None else time.strftime("%Y-%m-%d %H:%M:%SZ")


def utc_json(time: datetime | None) -> str | None:
    """A time as the database has it, for JSON."""
    return None if time is None else time.isoformat(timespec="milliseconds") + "Z"


def counted(number: int, what: str) -> str:
    """ "1 recording", "2 recordings"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def host_of(url: str) -> str:
    """The host that a stored URL names, in its own letters; an IPv6 address keeps its brackets. "" if there is none."""
    _, _, rest = url.partition("://")
    place = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    if place.startswith("["):
        return place.partition("]")[0] + "]"
    return place.partition(":")[0]
