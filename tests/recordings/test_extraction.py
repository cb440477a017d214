"""Unpacking a tar: what is taken, what is refused and why, and that nothing ever leaves the tree."""

from __future__ import annotations

import errno
import io
import os
import stat
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scalelite.recordings import extraction
from scalelite.recordings.extraction import BadTar, DiskFull, Limits, unpack
from tests.recordings.tars import RECORD, Member, metadata_xml, recording, special, tar_bytes

LIMITS = Limits(size=10_000_000, files=200)


def unpacked(tmp_path: Path, data: bytes, limits: Limits = LIMITS) -> extraction.Unpacked:
    tar = tmp_path / "one.tar"
    tar.write_bytes(data)
    folder = tmp_path / "work"
    folder.mkdir()
    with tar.open("rb") as opened:
        return unpack(opened, folder, limits)


def test_formats_are_unpacked_in_order_of_their_names(tmp_path) -> None:
    found = unpacked(tmp_path, tar_bytes(recording({"video": metadata_xml("video"), "notes": metadata_xml("notes")})))
    assert (found.record_id, found.formats) == (RECORD, ("notes", "video"))
    assert (found.of("video") / "slides" / "1.svg").read_text() == "text"
    assert found.size == sum(len(metadata_xml(name)) + 4 for name in ("video", "notes"))


@pytest.mark.parametrize("pax", [True, False])
@pytest.mark.parametrize("name", ["x" * 150 + ".png", "Übersicht – 概要.pdf", "a" * 90 + "/" + "b" * 200])
def test_long_and_foreign_names_are_taken(tmp_path, name, pax) -> None:
    found = unpacked(tmp_path, tar_bytes([*recording(), (f"presentation/{RECORD}/{name}", b"data")], pax=pax))
    assert (found.of("presentation") / name).read_bytes() == b"data"


def test_names_may_begin_with_a_dot_and_folders_may_be_missing(tmp_path) -> None:
    members = [("./", b""), ("./presentation/", b""), (f"./presentation/{RECORD}/metadata.xml", metadata_xml())]
    assert unpacked(tmp_path, tar_bytes(members)).formats == ("presentation",)


def test_modes_and_owners_in_the_tar_do_not_matter(tmp_path) -> None:
    info = tarfile.TarInfo(f"presentation/{RECORD}/run")
    info.mode, info.uid, info.gid = 0o6777, 12, 34
    found = unpacked(tmp_path, tar_bytes([*recording(), info]))
    status = (found.of("presentation") / "run").stat()
    assert stat.S_IMODE(status.st_mode) & 0o7111 == 0
    assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())


def sparse() -> bytes:
    """A GNU sparse file that claims to be of a terabyte."""
    info = tarfile.TarInfo(f"presentation/{RECORD}/big")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"\x80" + (10**12).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def pax_sparse() -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"presentation/{RECORD}/big")
    info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.size": str(10**12), "GNU.sparse.map": "0,0"}
    return info


def at(name: str) -> list[Member]:
    return [*recording(), (name, b"data")]


IN = f"presentation/{RECORD}"


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (at("../presentation/x"), "leads out of the tree"),
        (at(f"{IN}/../../../etc/passwd"), "leads out of the tree"),
        (at("/etc/passwd"), "no relative path"),
        (at("top.txt"), "not below <format>/<record id>/"),
        (at("presentation/top.txt"), "not below <format>/<record id>/"),
        (at(f"pre sentation/{RECORD}/x"), "not below <format>/<record id>/, of letters"),
        (at("presentation/a.b/x"), "not below <format>/<record id>/, of letters"),
        (at(f".hidden/{RECORD}/x"), "not below <format>/<record id>/, of letters"),
        ([*recording(), ("prä/", b"")], "not below <format>/<record id>/, of letters"),
        (at("presentation/other-1/x"), "several recordings: 0f3c9d-1609459200123, other-1"),
        (at(f"{IN}/metadata.xml"), "is in it twice"),
        (at(f"{IN}/slides"), "is in it twice"),
        (at(f"{IN}/metadata.xml/x"), "as a file and as a folder"),
        (at(f"{IN}/{'d/' * 40}x"), "too long or too deep"),
        (at(f"{IN}/{'x' * 256}"), "too long or too deep"),
        (at(f"video/{RECORD}/x"), "there is no video/0f3c9d-1609459200123/metadata.xml"),
        ([*recording(), (f"video/{RECORD}/", b"")], "there is no video/"),
        ([], "nothing in it"),
        ([("presentation/", b"")], "nothing in it"),
        ([*recording(), special(f"{IN}/l", tarfile.SYMTYPE, "/etc/passwd")], "is a symbolic link"),
        ([*recording(), special(f"{IN}/l", tarfile.SYMTYPE, "metadata.xml")], "is a symbolic link"),
        ([special("presentation", tarfile.SYMTYPE, "/tmp"), *recording()], "is a symbolic link"),
        ([*recording(), special(f"{IN}/l", tarfile.LNKTYPE, f"{IN}/metadata.xml")], "is a hard link"),
        ([*recording(), special(f"{IN}/d", tarfile.CHRTYPE)], "is a device or a pipe"),
        ([*recording(), special(f"{IN}/d", tarfile.BLKTYPE)], "is a device or a pipe"),
        ([*recording(), special(f"{IN}/d", tarfile.FIFOTYPE)], "is a device or a pipe"),
        ([*recording(), special(f"{IN}/d", b"Z")], "of a type that is not known"),
    ],
)
def test_what_does_not_belong_is_refused_by_name(tmp_path, members, reason) -> None:
    with pytest.raises(BadTar, match=reason):
        unpacked(tmp_path, tar_bytes(members))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.tar", "work"]


def test_sparse_files_are_refused(tmp_path) -> None:
    with pytest.raises(BadTar, match="is a sparse file"):
        unpacked(tmp_path, sparse() + tar_bytes(recording()))


def test_sparse_files_of_pax_are_refused(tmp_path) -> None:
    with pytest.raises(BadTar, match="is a sparse file"):
        unpacked(tmp_path, tar_bytes([pax_sparse(), *recording()], pax=True))


def header_of(size: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(f"{IN}/x")
    info.type = kind
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04 no tar at all" * 100,
        tar_bytes(recording())[:700],
        tar_bytes(recording()).rstrip(b"\0"),
        tar_bytes(recording())[:-9000].rstrip(b"\0") + b"\1" * 2000,
        header_of(b"\xff" * 12),
        header_of(b"\xff" * 12, tarfile.XHDTYPE),
        header_of(b"\x80" + (10**15).to_bytes(11, "big")),
        header_of(b"\x80" + (10**15).to_bytes(11, "big"), tarfile.XHDTYPE),
        header_of(b"\x80" + (10**15).to_bytes(11, "big"), tarfile.GNUTYPE_LONGNAME),
        header_of(b"%011o\0" % 0, tarfile.XHDTYPE) * 20_000,
        header_of(b"%011o\0" % 512, tarfile.XHDTYPE) + b"99 path=x\n".ljust(512, b"\0") + tar_bytes(recording()),
    ],
    ids=[
        "empty",
        "garbage",
        "cut in a member",
        "cut at the end",
        "garbage in the middle",
        "negative size",
        "negative size of a header",
        "huge size",
        "huge header",
        "huge name",
        "headers without end",
        "malformed header",
    ],
)
def test_damaged_tars_are_refused(tmp_path, data) -> None:
    with pytest.raises(BadTar):
        unpacked(tmp_path, data)


def test_a_compressed_tar_is_refused(tmp_path) -> None:
    import gzip

    with pytest.raises(BadTar, match="no whole tar"):
        unpacked(tmp_path, gzip.compress(tar_bytes(recording())))


def test_size_is_limited(tmp_path) -> None:
    with pytest.raises(BadTar, match=r"more than 100 bytes \(SCALELITE_IMPORT_MAX_SIZE\)"):
        unpacked(tmp_path, tar_bytes(recording()), Limits(size=100, files=200))


@pytest.mark.parametrize("names", [[f"{IN}/{i}" for i in range(200)], [f"{IN}/{i}/" for i in range(200)]])
def test_the_number_of_files_and_folders_is_limited(tmp_path, names) -> None:
    with pytest.raises(BadTar, match=r"more than 200 files \(SCALELITE_IMPORT_MAX_FILES\)"):
        unpacked(tmp_path, tar_bytes([*recording(), *((name, b"") for name in names)]))


def test_a_disk_without_room_is_told_before(tmp_path, monkeypatch) -> None:
    usage = type(extraction.shutil.disk_usage(tmp_path))(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr(extraction.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DiskFull, match="1000 are free"):
        unpacked(tmp_path, tar_bytes(recording()))


def test_a_disk_that_fills_up_is_told(tmp_path, monkeypatch) -> None:
    def write(descriptor: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(extraction.os, "write", write)
    with pytest.raises(DiskFull, match="No space left on device"):
        unpacked(tmp_path, tar_bytes(recording()))


def test_progress_is_told_in_bytes(tmp_path) -> None:
    tar, folder, seen = tmp_path / "one.tar", tmp_path / "work", []
    tar.write_bytes(tar_bytes([*recording(), (f"{IN}/big", bytes(2_500_000))]))
    folder.mkdir()
    with tar.open("rb") as opened:
        found = unpack(opened, folder, LIMITS, seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == found.size
    assert len(seen) >= 5


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(["..", ".", "", "presentation", RECORD, "a", "metadata.xml"]), max_size=6),
            st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]),
            st.sampled_from(["..", "/", "/tmp", "presentation", "a"]),
        ),
        max_size=8,
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_tar_whatsoever_writes_outside_its_folder(tmp_path_factory, members) -> None:
    root = tmp_path_factory.mktemp("tree")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for parts, kind, target in members:
            archive.addfile(special("/".join(parts) or "x", kind, target))
    with suppress(BadTar):
        unpacked(root, buffer.getvalue())
    assert sorted(path.name for path in root.iterdir()) == ["one.tar", "work"]
    assert not [path for path in (root / "work").rglob("*") if path.is_symlink()]
