"""The host key: made once, kept, private."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from scalelite.admin.ssh.hostkey import FILE_NAME, HostKeyError, make_host_key, read_host_key
from scalelite.settings import Settings
from tests.admin.desk import Desk
from tests.admin.ssh_keys import private_key


def test_a_key_is_made_once_and_is_for_the_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "not yet" / "there"
    assert read_host_key(folder) is None
    made = make_host_key(folder)
    assert stat.S_IMODE((folder / FILE_NAME).stat().st_mode) == 0o600
    assert make_host_key(folder) == made == read_host_key(folder)
    assert os.listdir(folder) == [FILE_NAME]
    assert made.public.startswith("ssh-ed25519 ")
    assert made.fingerprint.startswith("SHA256:")
    assert b"BEGIN OPENSSH PRIVATE KEY" in made.private
    assert "PRIVATE" not in repr(made)


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: make_host_key(tmp_path), range(16)))
    assert len({key.public for key in keys}) == 1
    assert os.listdir(tmp_path) == [FILE_NAME]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_may_read_is_not_used(tmp_path: Path, mode: int) -> None:
    make_host_key(tmp_path)
    (tmp_path / FILE_NAME).chmod(mode)
    with pytest.raises(HostKeyError, match="chmod 600"):
        make_host_key(tmp_path)


@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_a_file_that_holds_no_key_is_an_error_and_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(HostKeyError, match="cannot be read"):
        make_host_key(tmp_path)
    assert path.read_bytes() == content


def test_another_kind_of_key_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    key = private_key("ecdsa-256")
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.chmod(0o600)
    with pytest.raises(HostKeyError, match="not an ed25519 key"):
        make_host_key(tmp_path)


def test_a_folder_in_its_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(HostKeyError):
        make_host_key(tmp_path)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostKeyError, match="not a directory"):
        make_host_key(tmp_path / "file" / "folder")


@pytest.mark.parametrize(
    ("bind", "port", "host"),
    [
        ("127.0.0.1", 2222, "[127.0.0.1]:2222"),
        ("[::1]", 2222, "[::1]:2222"),
        ("a.example", 22, "a.example"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_command_shows_how_to_know_the_host(tmp_path: Path, bind: str, port: int, host: str) -> None:
    key = make_host_key(tmp_path)
    settings = Settings.for_tests(data_dir=tmp_path, ssh_bind=bind, ssh_port=port)
    result = await Desk(None, settings).run("ssh:fingerprint")
    assert result.out == f"{key.fingerprint} (ED25519)\n{host} {key.public}\n"


@pytest_twisted.ensureDeferred
async def test_the_command_says_if_there_is_no_key(tmp_path: Path) -> None:
    result = await Desk(None, Settings.for_tests(data_dir=tmp_path)).run("ssh:fingerprint")
    assert (result.status, result.out) == (1, "")
    assert "There is no host key yet" in result.err
