"""Who may log in: the file with the keys, its options, and when it is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from twisted.conch.ssh.keys import Key

from scalelite.admin.ssh.keys import LARGEST_FILE, BadLine, KeyFile, Role, parse_keys, parse_line
from tests.admin.ssh_keys import dsa_line, key_line


@pytest.fixture(scope="module")
def line() -> str:
    return key_line("ed25519", "ada@laptop")


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-256", "ecdsa-384", "ecdsa-521", "rsa-2048", "rsa-4096"])
def test_every_modern_kind_is_taken(kind: str) -> None:
    key = parse_line(key_line(kind, "a comment with blanks"))
    assert key is not None
    assert (key.role, key.comment, key.name) == (Role.ADMIN, "a comment with blanks", "a comment with blanks")
    assert Key.fromString(key.blob).fingerprint() != ""


@pytest.mark.parametrize("text", ["", "   ", "# a comment", "  # ssh-ed25519 AAAA"])
def test_blanks_and_comments_are_no_keys(text: str) -> None:
    assert parse_line(text) is None


@pytest.mark.parametrize(
    ("options", "role"),
    [
        ("", Role.ADMIN),
        ('role="viewer" ', Role.VIEWER),
        ("role=viewer ", Role.VIEWER),
        ('ROLE="viewer"\t', Role.VIEWER),
        ('role="admin"  ', Role.ADMIN),
        ('no-port-forwarding,role="viewer" ', Role.VIEWER),
        ('role="viewer",no-agent-forwarding,no-X11-forwarding ', Role.VIEWER),
        ("no-user-rc ", Role.ADMIN),
    ],
)
def test_an_option_gives_the_role(line: str, options: str, role: Role) -> None:
    key = parse_line(options + line)
    assert key is not None
    assert (key.role, key.comment) == (role, "ada@laptop")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ('command="status" ', "'command' is not known"),
        ('from="10.0.0.0/8" ', "'from' is not known"),
        ("restrict ", "'restrict' is not known"),
        ("no-pty ", "'no-pty' is not known"),
        ("cert-authority ", "'cert-authority' is not known"),
        ('role="viewer",from="10.0.0.1" ', "'from' is not known"),
        ('role="root" ', "no role 'root'"),
        ('role="Viewer" ', "no role 'Viewer'"),
        ("role ", "'role' is not known"),
        ('role="" ', "no role ''"),
        ("no-user-rc=yes ", "'no-user-rc' is not known"),
        ('role="viewer ', "cannot be read"),
        ('role="viewer"x ', "cannot be read"),
        (", ", "cannot be read"),
        ('role="viewer", ', "cannot be read"),
    ],
)
def test_an_option_that_is_not_known_gives_nobody_access(line: str, options: str, why: str) -> None:
    with pytest.raises(BadLine, match=why):
        parse_line(options + line)


def test_what_is_no_key_of_a_modern_kind_gives_nobody_access(line: str) -> None:
    kind, blob, _ = line.split(None, 2)
    for text in (
        kind,
        f"{kind} ????",
        f"{kind} {blob[:-8]}",
        f"{kind} {blob[:30]}",
        f"{kind} AAAA",
        f"ssh-rsa {blob}",
        f"ecdsa-sha2-nistp256 {blob}",
        f"{kind}-cert-v01@openssh.com {blob}",
        f"sk-{kind}@openssh.com {blob}",
        key_line("rsa-1024", "too short"),
        dsa_line(),
        "ssh-rsa",
        "garbage",
        "\x00\xff",
    ):
        with pytest.raises(BadLine):
            parse_line(text)


def test_bytes_after_the_key_make_another_key_of_it() -> None:
    import base64

    kind, blob = key_line("ed25519", "").split()[:2]
    longer = base64.b64encode(base64.b64decode(blob) + b"\0\0\0\0").decode()
    with pytest.raises(BadLine):
        parse_line(f"{kind} {longer}")


def test_of_a_key_that_is_listed_twice_the_smaller_role_counts(line: str) -> None:
    viewer = f'role="viewer" {line}'
    for text in (f"{line}\n{viewer}", f"{viewer}\n{line}"):
        assert [key.role for key in parse_keys(text).keys.values()] == [Role.VIEWER]


def test_one_bad_line_leaves_the_others_in_force(line: str) -> None:
    found = parse_keys(f"garbage\n\n{line}\r\nrestrict {line}\n")
    assert [key.comment for key in found.keys.values()] == ["ada@laptop"]
    assert [number for number, _ in found.faults] == [1, 4]


def test_a_name_is_printable_and_never_empty(line: str) -> None:
    kind, blob, _ = line.split(None, 2)
    key = parse_line(f"{kind} {blob}")
    assert key is not None
    assert key.name == key.fingerprint
    key = parse_line(f"{kind} {blob} eve\x1b[2J")
    assert key is not None
    assert key.name == "eve?[2J"


class Clock:
    def __init__(self) -> None:
        self.offset = 0.0

    def __call__(self) -> float:
        import time

        return time.time() + self.offset


@pytest.fixture
def path(tmp_path: Path, line: str) -> Path:
    path = tmp_path / "authorized_keys"
    path.write_text(line + "\n")
    return path


def names(keys: KeyFile) -> list[str]:
    return sorted(key.comment for key in keys.keys().values())


def test_a_file_is_read_again_when_it_has_changed(path: Path) -> None:
    keys = KeyFile(path)
    assert names(keys) == ["ada@laptop"]
    path.write_text(key_line("ed25519", "bob") + "\n")
    assert names(keys) == ["bob"]


def test_a_change_that_leaves_time_and_size_alone_is_seen_too(path: Path) -> None:
    keys = KeyFile(path)
    before = path.stat()
    assert names(keys) == ["ada@laptop"]
    replacement = path.with_name("new")
    replacement.write_text(path.read_text().replace("ada@laptop", "eve@laptop"))
    os.utime(replacement, ns=(before.st_atime_ns, before.st_mtime_ns))
    replacement.rename(path)
    assert names(keys) == ["eve@laptop"]


def test_a_file_that_rests_is_not_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    keys = KeyFile(path, now=clock)
    clock.offset = 60
    assert names(keys) == ["ada@laptop"]
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("it was read"))
    assert names(keys) == ["ada@laptop"]


def test_a_file_just_written_is_read_at_each_look_for_its_times_tell_nothing_yet(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = KeyFile(path)
    assert names(keys) == ["ada@laptop"]
    reads: list[object] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda *given: (reads.append(given), real(*given))[1])
    assert names(keys) == ["ada@laptop"]
    assert reads


def test_a_file_that_cannot_be_used_lets_nobody_in_until_it_can(path: Path, line: str) -> None:
    keys = KeyFile(path)
    assert names(keys) == ["ada@laptop"]
    path.unlink()
    assert names(keys) == []
    path.mkdir()
    assert names(keys) == []
    path.rmdir()
    os.mkfifo(path)
    assert names(keys) == []
    path.unlink()
    path.write_text(line + "\n" + "#" * LARGEST_FILE)
    assert names(keys) == []
    path.write_text(line)
    path.chmod(0o666)
    assert names(keys) == []
    path.chmod(0o640)
    assert names(keys) == ["ada@laptop"]
