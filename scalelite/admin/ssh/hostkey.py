"""The key that the SSH server is known by: made once, and kept."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from scalelite.admin.ssh.files import read_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FILE_NAME: Final = "ssh_host_ed25519_key"
_LARGEST: Final = 16 * 1024


class HostKeyError(Exception):
    """The host key can't be read or made; the message says why."""


@attrs.frozen
class HostKey:
    """`private` in OpenSSH's format, `public` as a line of known_hosts has it after the host's name."""

    private: bytes = attrs.field(repr=False)
    public: str

    @property
    def fingerprint(self) -> str:
        """As `ssh` shows it when it asks whether to trust the host."""
        blob = base64.b64decode(self.public.split()[1])
        return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def read_host_key(folder: Path) -> HostKey | None:
    """The host key below the data folder; None if none has been made yet. Raises HostKeyError."""
    path = folder / FILE_NAME
    try:
        content, state = read_file(path, _LARGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostKeyError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    if state.st_mode & 0o077:
        raise HostKeyError(f"{path} is open to others: chmod 600")
    return _host_key(path, content)


def make_host_key(folder: Path) -> HostKey:
    """The host key below the data folder, made if there is none. Raises HostKeyError."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    found = read_host_key(folder)
    if found is not None:
        return found
    content = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    path = folder / FILE_NAME
    draft = folder / f".{FILE_NAME}.{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            # A key that another process has made meanwhile stays, and nobody ever reads half a key.
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    except OSError as error:
        raise HostKeyError(f"{path} cannot be made: {(error.strerror or str(error)).lower()}") from error
    made = read_host_key(folder)
    if made is None:
        raise HostKeyError(f"{path} has vanished")
    return made


def _host_key(path: Path, content: bytes) -> HostKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    try:
        key = load_ssh_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise HostKeyError(f"{path} cannot be read as a key without passphrase") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise HostKeyError(f"{path} is not an ed25519 key")
    return HostKey(content, _public(key))


def _public(key: Ed25519PrivateKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
