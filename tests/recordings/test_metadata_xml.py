"""metadata.xml: every rule of what is read from it, and what is refused."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelite.recordings.metadata_xml import MAX_SIZE, MAX_TAGS, BadMetadata, Thumbnail, read_metadata, without_secrets
from tests.recordings.tars import RECORD, metadata_xml

START = 1609459200123


def test_a_whole_document_is_read() -> None:
    found = read_metadata(
        metadata_xml(meta={"bbb-origin": "Moodle", "tenant-id": "0b7c", "gl-listed": ""}, thumbnails=["/a/1.png"])
    )
    assert (found.record_id, found.meeting_id, found.name) == (RECORD, "algebra-1", "Algebra")
    assert (found.published, found.state, found.participants) == (True, "published", 3)
    assert found.starttime == datetime(2021, 1, 1, 0, 0, 0, 123000)
    assert found.endtime == datetime(2021, 1, 1, 1, 0, 0, 456000)
    assert found.meta == {"bbb-origin": "Moodle", "tenant-id": "0b7c", "gl-listed": ""}
    assert (found.format, found.url, found.length) == (
        "presentation",
        f"/playback/presentation/2.3/{RECORD}",
        60,
    )
    assert found.thumbnails == (Thumbnail(176, 136, "0", "/a/1.png"),)


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("published", "true", "published", True),
        ("published", "false", "published", False),
        ("published", "TRUE", "published", False),
        ("published", " true", "published", False),
        ("published", " ", "published", None),
        ("published", None, "published", None),
        ("state", "available", "state", "published"),
        ("state", "processing", "state", "processing"),
        ("state", "processed", "state", "processed"),
        ("state", "unpublished", "state", "unpublished"),
        ("state", "deleted", "state", "deleted"),
        ("state", " ", "state", None),
        ("state", None, "state", None),
        ("participants", "12", "participants", 12),
        ("participants", "12 people", "participants", 12),
        ("participants", "many", "participants", 0),
        ("participants", "", "participants", None),
        ("participants", None, "participants", None),
        ("start_time", str(START), "starttime", datetime(2021, 1, 1, 0, 0, 0, 123000)),
        ("start_time", "-1", "starttime", datetime(1969, 12, 31, 23, 59, 59, 999000)),
        ("start_time", " ", "starttime", None),
        ("end_time", None, "endtime", None),
    ],
)
def test_fields_of_the_recording(name, text, field, value) -> None:
    assert getattr(read_metadata(metadata_xml(fields={name: text})), field) == value


@pytest.mark.parametrize(
    ("milliseconds", "minutes"),
    [
        ("0", 0),
        ("29999", 0),
        ("30000", 1),
        ("89999", 1),
        ("90000", 2),
        ("150000", 3),
        ("-150000", -3),
        ("-149999", -2),
        ("3599000.7", 60),
        (" ", None),
        (None, None),
    ],
)
def test_durations_are_rounded_half_away_from_zero(milliseconds, minutes) -> None:
    assert read_metadata(metadata_xml(playback={"duration": milliseconds})).length == minutes


@pytest.mark.parametrize(
    ("link", "url"),
    [
        ("https://bbb7.example.com/playback/x", "/playback/x"),
        ("  http://bbb7.example.com:8080/a/b?c=d&e=f#g \n", "/a/b?c=d&e=f"),
        ("HTTPS://h/%C3%BC", "/%C3%BC"),
        ("https://h", ""),
        ("https://h/?", "/"),
        ("", None),
        ("   ", None),
    ],
)
def test_links_are_stored_as_path_and_query(link, url) -> None:
    assert read_metadata(metadata_xml(playback={"link": link})).url == url


@pytest.mark.parametrize(
    ("attributes", "width", "height", "alt"),
    [
        ('width="176" height="136" alt="Welcome"', 176, 136, "Welcome"),
        ('width="x" height="12px"', 0, 12, None),
        ('alt=""', None, None, ""),
    ],
)
def test_attributes_of_thumbnails(attributes, width, height, alt) -> None:
    document = metadata_xml(thumbnails=["/x.png"]).replace(b'width="176" height="136" alt="0"', attributes.encode())
    assert read_metadata(document).thumbnails == (Thumbnail(width, height, alt, "/x.png"),)


def test_thumbnails_keep_their_order_and_lose_their_query() -> None:
    paths = ["/b.png", "/a.png", "/c.png"]
    assert [image.url for image in read_metadata(metadata_xml(thumbnails=paths)).thumbnails] == paths


@pytest.mark.parametrize(
    "key",
    [
        "secret-lrs-payload",
        "Secret-LRS-Payload",
        "secret_token",
        "analytics-callback-url",
        "endCallbackUrl",
        "endcallbackurl",
        "canvas-recording-ready-url",
        "bn-recording-ready-url",
        "isBreakout",
        "meetingId",
        "meetingName",
    ],
)
def test_secrets_and_columns_are_no_metadata(key) -> None:
    document = metadata_xml(name=None, meta={"kept": "x"}, fields={}).replace(
        b"</meta>", f"<{key}>x</{key}></meta>".encode()
    )
    assert read_metadata(document).meta == {"kept": "x"}


def test_served_document_holds_no_secrets_and_is_else_the_same() -> None:
    kept = {"Bbb-Origin": "Größe <1>", "gl-listed": ""}
    secrets = {
        "secret-lrs-payload": "hush",
        "Analytics-Callback-URL": "http://hush/?hush",
        "x-recording-ready-url": "hush",
    }
    document = metadata_xml(meta={**kept, **secrets})
    cleaned = without_secrets(document)
    assert b"hush" not in cleaned
    assert read_metadata(cleaned) == read_metadata(document)
    assert without_secrets(cleaned) is cleaned


@pytest.mark.parametrize("key", ["Bbb-Origin", "bbb-context", "secretary", "gl-listed", "übung", "_x.y"])
def test_other_metadata_keep_their_keys_and_values(key) -> None:
    assert read_metadata(metadata_xml(meta={key: " Größe <1> & 漢字 \n"})).meta == {key: " Größe <1> & 漢字 \n"}


def test_text_is_all_text_below_an_element() -> None:
    document = metadata_xml(meta={"a": "-"}).replace(b"<a>-</a>", b"<a>1<b>2</b><![CDATA[<3>]]><!-- no --></a>")
    assert read_metadata(document).meta == {"a": "12<3>"}


def test_a_meeting_may_have_no_name() -> None:
    assert read_metadata(metadata_xml(name=None)).name is None


def without(name: str) -> bytes:
    document = metadata_xml()
    start = document.index(f"<{name}>".encode())
    end = document.index(f"</{name}>".encode()) + len(f"</{name}>")
    return document[:start] + document[end:]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (without("id"), "it has no id"),
        (without("meta"), "it has no meta"),
        (without("meetingId"), "it has no meta/meetingId"),
        (without("playback"), "it has no playback"),
        (without("format"), "it has no playback/format"),
        (without("link"), "it has no link"),
        (metadata_xml(record_id=""), "it has no id"),
        (metadata_xml(record_id="../victim"), "its id '../victim' is not made of letters"),
        (metadata_xml(record_id="a b"), "its id 'a b' is not"),
        (metadata_xml(record_id="x" * 201), "its id 'x+' is not"),
        (metadata_xml("../victim"), "its playback/format '../victim' is not"),
        (metadata_xml("vidéo"), "its playback/format 'vidéo' is not"),
        (metadata_xml(meeting_id=" "), "it has no meta/meetingId"),
        (metadata_xml(fields={"state": "lost"}), "its state 'lost' is unknown"),
        (metadata_xml(fields={"start_time": "yesterday"}), "its start_time is no time"),
        (metadata_xml(fields={"end_time": "9" * 18}), "its end_time is out of range"),
        (metadata_xml(fields={"participants": "3000000000"}), "its participants is out of range"),
        # What no index of PostgreSQL takes would look like a failure of the database, and hold up all other tars.
        (metadata_xml(meeting_id="m" * 257), "its meta/meetingId is longer than 256 characters"),
        (metadata_xml(meta={"k" * 401: "v"}), "its meta has a name that is longer than 400 characters"),
        (metadata_xml(meta={"tenant-id": "t" * 256}), "its meta/tenant-id is longer than 255 characters"),
        (metadata_xml(playback={"duration": "long"}), "its playback/duration is no number"),
        (metadata_xml(playback={"duration": "9" * 19}), "its playback/duration is out of range"),
        (metadata_xml(playback={"link": "/playback/x"}), "its playback/link is no absolute"),
        (metadata_xml(playback={"link": "ftp://h/x"}), "its playback/link is no absolute"),
        (metadata_xml(playback={"link": "javascript:alert(1)"}), "its playback/link is no absolute"),
        (metadata_xml(playback={"link": "https://h/a b"}), "its playback/link is no URL"),
        (metadata_xml(playback={"link": "https://[::1/x"}), "its playback/link is no URL"),
        (b"", "it is not XML"),
        (b"<recording>", "it is not XML"),
        (b"\xff\xfe\x00", "it is not XML"),
        (metadata_xml().replace(b"Algebra", b"Alg\x01bra"), "it is not XML"),
        (b"<html><body/></html>", "it is a <html>"),
        (b'<!DOCTYPE recording SYSTEM "http://127.0.0.1/x.dtd">' + metadata_xml(), "it has a document type"),
        (b'<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + metadata_xml(), "it has a document type"),
        (b" " * (MAX_SIZE + 1), "it is longer than"),
        (b"<r>" + b"<a/>" * MAX_TAGS + b"</r>", "it has more than"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(document, reason) -> None:
    with pytest.raises(BadMetadata, match=reason):
        read_metadata(document)


def test_entities_do_not_grow() -> None:
    entities = b"".join(b'<!ENTITY e%d "%s">' % (i, b"&e%d;" % (i - 1) * 10) for i in range(1, 12))
    document = b'<!DOCTYPE r [<!ENTITY e0 "xxxxxxxxxx">' + entities + b"]>" + metadata_xml()
    with pytest.raises(BadMetadata):
        read_metadata(document.replace(b"Algebra", b"&e11;"))


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: metadata_xml(xml=text)))
def test_whatever_comes_is_read_or_refused(document: Any) -> None:
    with suppress(BadMetadata):
        assert read_metadata(document).record_id == RECORD
