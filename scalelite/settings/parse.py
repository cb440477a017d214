"""From the text of a variable to its value: one `Kind` per type, each able to say what it accepts."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Generic, TypeVar

import attrs

T = TypeVar("T")

#: The digests a checksum may be made with, weakest first.
ALGORITHMS = ("SHA1", "SHA256", "SHA384", "SHA512")

_FALSE_WORDS = frozenset({"false", "no", "off", "0"})
_LOG_LEVELS = {
    "debug": "debug",
    "info": "info",
    "warn": "warn",
    "warning": "warn",
    "error": "error",
    "fatal": "critical",
    "critical": "critical",
    "unknown": "critical",
}
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")


class Malformed(ValueError):
    """A value that cannot be read. Its text gives the reason and never the value, which may be a secret."""


@attrs.frozen
class Kind(Generic[T]):
    """A type of value: what its right form is, in words, and how to read it.

    `read` gets non-empty, trimmed text and raises `Malformed` with the reason, or with nothing where
    the form says it all.
    """

    form: str
    read: Callable[[str], T]
    #: What stands between the items of a list.
    joiner: str = ","


def whole(low: int, high: int) -> Kind[int]:
    """Whole numbers from `low` to `high`, both included; ASCII digits only."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not low <= (number := int(text)) <= high:
            raise Malformed
        return number

    return Kind(f"whole number, {low} to {high}", read)


def decimal(low: float, high: float) -> Kind[float]:
    """Decimal numbers from `low` to `high`, both included; neither exponents nor infinities."""

    def read(text: str) -> float:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?", text):
            raise Malformed
        if not low <= (number := float(text)) <= high:
            raise Malformed
        return number

    return Kind(f"number, {low:g} to {high:g}", read)


def _read_boolean(text: str) -> bool:
    word = text.lower()
    if word == "true":
        return True
    if word in _FALSE_WORDS:
        return False
    # Scalelite takes every other word for false, also "yes": silently on or off would both be a trap.
    raise Malformed


def _read_algorithms(text: str) -> tuple[str, ...]:
    listed = {item.strip().upper() for item in text.split(":")} - {""}
    if not listed or not listed <= set(ALGORITHMS):
        raise Malformed
    return tuple(name for name in ALGORITHMS if name in listed)


def _read_parameters(text: str) -> Mapping[str, str]:
    parameters: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = item.partition("=")
        if not equals:
            raise Malformed(f"the item {shown(item)} has no '='")
        if not name.strip():
            raise Malformed("an item has no name before its '='")
        parameters[name.strip()] = value
    return MappingProxyType(parameters)


def _read_names(text: str) -> frozenset[str]:
    return frozenset(filter(None, (part.strip() for part in text.split(","))))


def _read_formats(text: str) -> tuple[str, ...]:
    formats = tuple(dict.fromkeys(filter(None, (part.strip() for part in text.split(":")))))
    if not formats or not all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in formats):
        raise Malformed
    return formats


def _read_host(text: str) -> str:
    if "://" in text or "/" in text:
        raise Malformed("it looks like a URL")
    bracketed = re.fullmatch(r"\[[0-9A-Fa-f:.]+\]", text)
    if bracketed or (len(text) <= 253 and _HOST_NAME.fullmatch(text)):
        return text.lower()
    raise Malformed("a port is not part of it" if re.fullmatch(r".+:[0-9]+", text) else "")


def _read_environment(text: str) -> str:
    if text.lower() not in {"development", "test", "production"}:
        raise Malformed
    return text.lower()


def _read_log_level(text: str) -> str:
    if text.lower() not in _LOG_LEVELS:
        raise Malformed
    return _LOG_LEVELS[text.lower()]


def one_of(*choices: str) -> Callable[[str], str]:
    """A reader of one of these words, in any letter case."""

    def read(text: str) -> str:
        if text.lower() not in choices:
            raise Malformed
        return text.lower()

    return read


def switched_on(text: str) -> bool:
    """Every text but a word for no."""
    return text.lower() not in _FALSE_WORDS


def _read_web_url(text: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?", text):
        raise Malformed
    return text.rstrip("/")


def _read_rsa_key(text: str) -> str:
    # The library takes a while to import.
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(base64.b64decode(text), password=None)
    except (ValueError, TypeError):
        raise Malformed from None
    if not isinstance(key, RSAPrivateKey):
        raise Malformed("it is a key of another kind")
    return text


def _read_file(text: str) -> Path:
    return Path(text)


boolean: Kind[bool] = Kind("`true` or `false`", _read_boolean)
text_value: Kind[str] = Kind("text", str)
secret_value: Kind[str] = Kind("secret text", str)
secret_values: Kind[str] = Kind("secret texts, joined by `:`", str, ":")
web_url: Kind[str] = Kind("URL with `http` or `https`, without query", _read_web_url)
rsa_key: Kind[str] = Kind("private RSA key without password: PEM, in base64", _read_rsa_key)
path_value: Kind[Path] = Kind("path", _read_file)
readable_file: Kind[Path] = Kind("path of a readable file", _read_file)
host_name: Kind[str] = Kind("host name, without scheme and port", _read_host)
environment: Kind[str] = Kind("`development`, `test` or `production`", _read_environment)
algorithms: Kind[tuple[str, ...]] = Kind(f"some of {', '.join(ALGORITHMS)}, joined by `:`", _read_algorithms, ":")
parameters: Kind[Mapping[str, str]] = Kind("`name=value` items, joined by `,`", _read_parameters)
names: Kind[frozenset[str]] = Kind("names, joined by `,`", _read_names)
formats: Kind[tuple[str, ...]] = Kind("names, joined by `:`", _read_formats, ":")
log_level: Kind[str] = Kind("`debug`, `info`, `warn`, `error` or `fatal`", _read_log_level)


def split_secrets(single: str | None, several: str | None) -> tuple[bytes, ...]:
    """The load balancer's secrets: the one first, then the `:` list; empty and repeated ones dropped.

    Bytes as they came from the environment, since a secret need not be UTF-8.
    """
    listed = ([single] if single else []) + (several.split(":") if several else [])
    encoded = (item.encode("utf-8", "surrogateescape") for item in listed if item.strip())
    return tuple(dict.fromkeys(encoded))


def strongest(names: tuple[str, ...]) -> str:
    """The strongest digest among `names`, which are not empty."""
    return max(names, key=ALGORITHMS.index)


def shown(text: str) -> str:
    """A value quoted for a message: control characters escaped, cut after 80 characters."""
    return repr(text if len(text) <= 80 else f"{text[:80]}…")
