"""Who may log in: public keys in the form of OpenSSH's authorized_keys, each with a role."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final

import attrs
from twisted.conch.ssh.keys import Key
from twisted.logger import Logger, LogLevel

from scalelite.admin.ssh.files import read_file

#: What a client may sign its login with, and the kind of key that belongs to it. No SHA-1, so no `ssh-rsa`.
ALGORITHMS: Final[Mapping[bytes, str]] = MappingProxyType(
    {
        b"ssh-ed25519": "ssh-ed25519",
        b"ecdsa-sha2-nistp256": "ecdsa-sha2-nistp256",
        b"ecdsa-sha2-nistp384": "ecdsa-sha2-nistp384",
        b"ecdsa-sha2-nistp521": "ecdsa-sha2-nistp521",
        b"rsa-sha2-512": "ssh-rsa",
        b"rsa-sha2-256": "ssh-rsa",
    }
)
KINDS: Final = frozenset(ALGORITHMS.values())
#: Bits of an RSA key, at least.
SHORTEST_RSA: Final = 2048
#: Bytes of the file, at most.
LARGEST_FILE: Final = 256 * 1024
#: Seconds for which a file that has just been written is read anew at each look: the next write may bear the same time.
_FRESH: Final = 2.0
#: Faulty lines that are told of, at most.
_TOLD: Final = 20

# Nothing of what these forbid is ever allowed.
_ALREADY_IN_FORCE: Final = frozenset({"no-port-forwarding", "no-x11-forwarding", "no-agent-forwarding", "no-user-rc"})
_OPTION: Final = re.compile(r'([A-Za-z0-9-]+)(?:=(?:"((?:[^"\\]|\\.)*)"|([^",\s]*)))?(,|\s+|$)')


class Role(StrEnum):
    """What a key may do. A viewer may run the commands that change nothing, and sees no secrets."""

    ADMIN = "admin"
    VIEWER = "viewer"


@attrs.frozen(eq=False)
class AuthorizedKey:
    """A key of the file. `blob` is its wire form, `kind` the first word of it; `comment` is free text."""

    blob: bytes = attrs.field(repr=False)
    kind: str
    comment: str
    role: Role
    key: Key = attrs.field(repr=False)

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` shows it."""
        return fingerprint(self.blob)

    @property
    def name(self) -> str:
        """What to call its holder: the comment, printable, or the fingerprint if there is none."""
        text = "".join(c if c.isprintable() else "?" for c in self.comment)[:100]
        return text or self.fingerprint


class BadLine(ValueError):
    """A line that gives nobody access; the message says why."""


def fingerprint(blob: bytes) -> str:
    """The SHA256 fingerprint of a public key in its wire form."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def parse_line(line: str) -> AuthorizedKey | None:
    """The key of a line `[OPTIONS] KIND BASE64 [COMMENT]`; None for a blank or a comment.

    Raises BadLine for what can't be read and for every option that is not known here, for it may be a restriction.
    """
    text = line.strip()
    if not text or text.startswith("#"):
        return None
    role = Role.ADMIN
    if text.split(None, 1)[0] not in KINDS:
        role, text = _options(text)
    words = text.split(None, 2)
    kind = words[0] if words else ""
    if kind not in KINDS:
        raise BadLine(f"keys of the kind {kind[:40]!r} are not taken")
    if len(words) < 2:
        raise BadLine("the key itself is missing")
    try:
        blob = base64.b64decode(words[1], validate=True)
        key = Key.fromString(blob, type="blob")
    except Exception as error:  # Conch lets whatever struct and cryptography raise come through
        raise BadLine("the key cannot be read") from error
    if key.sshType().decode() != kind or key.public().blob() != blob:
        raise BadLine("the key is not of the kind that the line says")
    if key.type() == "RSA" and key.size() < SHORTEST_RSA:
        raise BadLine(f"an RSA key needs {SHORTEST_RSA} bits at least, and this one has {key.size()}")
    return AuthorizedKey(blob, kind, words[2].strip() if len(words) > 2 else "", role, key)


def _options(text: str) -> tuple[Role, str]:
    """The role that the options in front of a key give, and what follows them."""
    role = Role.ADMIN
    position = 0
    while True:
        found = _OPTION.match(text, position)
        if found is None:
            raise BadLine("its options cannot be read")
        name, quoted, bare, end = found.groups()
        value = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        if name.lower() == "role" and value is not None:
            if value not in set(Role):
                raise BadLine(f"there is no role {value[:40]!r}, only admin and viewer")
            role = Role(value)
        elif name.lower() not in _ALREADY_IN_FORCE or value is not None:
            raise BadLine(f"the option {name[:40]!r} is not known here")
        position = found.end()
        if end != ",":
            return role, text[position:]


@attrs.frozen
class KeyList:
    """The keys of a file by their wire form, and what was wrong with other lines, by number."""

    keys: Mapping[bytes, AuthorizedKey]
    faults: tuple[tuple[int, str], ...] = ()

    @property
    def told(self) -> object:
        """What there is to tell of it, for comparison with another one."""
        return {(blob, key.role, key.comment) for blob, key in self.keys.items()}, self.faults


def parse_keys(text: str) -> KeyList:
    """All keys of a file's text. Of a key that is listed twice, the smaller role counts."""
    keys: dict[bytes, AuthorizedKey] = {}
    faults: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            key = parse_line(line)
        except BadLine as error:
            faults.append((number, str(error)))
            continue
        if key is not None and (key.blob not in keys or key.role is Role.VIEWER):
            keys[key.blob] = key
    return KeyList(MappingProxyType(keys), tuple(faults))


class KeyFile:
    """The file with the keys, read again whenever it has changed. A file that can't be used lets nobody in.

    `expected`: somebody has said that there is one, so it is a fault if there is none.
    """

    _log = Logger()

    def __init__(self, path: Path, *, expected: bool = True, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self._expected = expected
        self._now = now
        self._seen: tuple[int, ...] | None = None
        self._list = KeyList(MappingProxyType({}))
        self._trouble = ""

    def find(self, blob: bytes) -> AuthorizedKey | None:
        """The key of this wire form, if it may log in now."""
        return self.keys().get(blob)

    def keys(self) -> Mapping[bytes, AuthorizedKey]:
        """The keys that may log in now."""
        try:
            state = os.stat(self.path)
            marks = (state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino, state.st_dev, state.st_mode)
            if marks != self._seen:
                text = self._read()
                self._seen = marks if self._now() - max(state.st_mtime, state.st_ctime) > _FRESH else None
                self._take(parse_keys(text))
        except (OSError, ValueError) as error:
            self._seen = None
            self._list = KeyList(MappingProxyType({}))
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self._complain(reason.lower())
        else:
            self._trouble = ""
        return self._list.keys

    def _read(self) -> str:
        content, state = read_file(self.path, LARGEST_FILE + 1)
        if state.st_mode & stat.S_IWOTH:
            raise ValueError("everybody may write to it; chmod o-w")
        if len(content) > LARGEST_FILE:
            raise ValueError(f"it is larger than {LARGEST_FILE // 1024} kB")
        return content.decode("utf-8", "replace")

    def _take(self, found: KeyList) -> None:
        before, self._list = self._list, found
        if found.told == before.told and not self._trouble:
            return
        self._log.info("{count} SSH keys are authorised by {path}", count=len(found.keys), path=str(self.path))
        for line, fault in found.faults[:_TOLD]:
            self._log.warn(
                "line {line} of {path} gives nobody access: {fault}", line=line, path=str(self.path), fault=fault
            )

    def _complain(self, reason: str) -> None:
        if reason != self._trouble:
            self._trouble = reason
            self._log.emit(
                LogLevel.warn if self._expected else LogLevel.info,
                "nobody can log in over SSH: the keys in {path} cannot be used: {reason}",
                path=str(self.path),
                reason=reason,
            )
