"""getRecordings through a whole balancer: the document, pages, tenants, tokens, long answers, trouble."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest
import pytest_twisted
from sqlalchemy import Connection, insert, update

from scalelite.bbb.xml import NO_RECORDINGS
from scalelite.recordings.listing import SLICE
from scalelite.recordings.tables import playback_formats, recording_metadata, recordings, thumbnails
from tests.api.archives import Library, library, record_ids
from tests.api.support import FORM, connect, post
from tests.balancer import Answer
from tests.recordings.rows import EPOCH, add_recording

EVIL = "a&b <c> \"d\" 'e' ]]> ü✓😀 \x01\x0b\ufffe\t\n\\ %s"
EVIL_SHOWN = "a&b <c> \"d\" 'e' ]]> ü✓😀 \ufffd\ufffd\ufffd\t\n\\ %s"


@pytest_twisted.async_yield_fixture
async def shelf(database_url: str, tmp_path: Path) -> AsyncIterator[Library]:
    """A library over SQLite and PostgreSQL in turn."""
    async with library(database_url, tmp_path) as opened:
        yield opened


@pytest_twisted.ensureDeferred
async def test_document_is_what_scalelite_answers(shelf: Library) -> None:
    def fill(connection: Connection) -> None:
        row_id = add_recording(
            connection, "R1", formats=("presentation", "video"), images=1,
            start=datetime(2021, 1, 1, 0, 0, 0, 123_999), meeting_id="M", name="N & N", participants=4,
            metadata={"key-one": "value", "empty-one": "", "blank": " \n", "none": None},
        )  # fmt: skip
        connection.execute(
            update(playback_formats)
            .where(playback_formats.c.recording_id == row_id, playback_formats.c.format == "presentation")
            .values(processing_time=77)
        )
        add_recording(
            connection, "R2", formats=(), start=None, name=None, participants=None, state=None, published=False
        )

    await shelf.sql(fill)
    answer = await shelf.balancer.request(
        "GET", shelf.balancer.url("getRecordings", state="any"), headers={"Host": "lb.example"}
    )

    assert answer.headers["content-type"] == "text/xml; charset=utf-8"
    assert (
        answer.body.decode()
        == """\
<response>
  <returncode>SUCCESS</returncode>
  <recordings>
    <recording>
      <recordID>R2</recordID>
      <meetingID>meeting of R2</meetingID>
      <internalMeetingID>R2</internalMeetingID>
      <name/>
      <published>false</published>
      <startTime>0</startTime>
      <endTime>0</endTime>
      <metadata>
      </metadata>
      <playback>
      </playback>
    </recording>
    <recording>
      <recordID>R1</recordID>
      <meetingID>M</meetingID>
      <internalMeetingID>R1</internalMeetingID>
      <name>N &amp; N</name>
      <published>true</published>
      <state>published</state>
      <startTime>1609459200123</startTime>
      <endTime>1609462800123</endTime>
      <participants>4</participants>
      <metadata>
        <key-one>value</key-one>
        <empty-one>
          <![CDATA[]]>
        </empty-one>
        <blank>
          <![CDATA[]]>
        </blank>
        <none>
          <![CDATA[]]>
        </none>
      </metadata>
      <playback>
        <format>
          <type>presentation</type>
          <url>http://lb.example/playback/presentation/2.3/R1</url>
          <length>60</length>
          <processingTime>77</processingTime>
          <preview>
            <images>
              <image alt="slide 0" width="176" height="136">http://lb.example/presentation/R1/thumb-0.png</image>
            </images>
          </preview>
        </format>
        <format>
          <type>video</type>
          <url>http://lb.example/playback/video/2.3/R1</url>
          <length>60</length>
          <preview>
            <images>
              <image alt="slide 0" width="176" height="136">http://lb.example/video/R1/thumb-0.png</image>
            </images>
          </preview>
        </format>
      </playback>
    </recording>
  </recordings>
</response>
"""
    )


@pytest_twisted.ensureDeferred
async def test_no_match_is_told_after_the_empty_list(shelf: Library) -> None:
    await shelf.add("r1")
    for params in ({"recordID": "other"}, {"meetingID": ","}, {"state": "deleted"}):
        assert (await shelf.balancer.call("getRecordings", **params)).body == NO_RECORDINGS


@pytest_twisted.ensureDeferred
async def test_whatever_is_stored_the_document_stays_well_formed(shelf: Library) -> None:
    def fill(connection: Connection) -> None:
        row_id = add_recording(
            connection, f"id {EVIL}", formats=(), meeting_id=EVIL, name=EVIL, state=EVIL,
            metadata={
                "good": EVIL, "a b": "x", "1st": "x", "": "x", "<evil/>": "x", "a:b": "x", "xmlns": "x",
                "ö-k": "ümlaut", "x/": "x", 'x a="b"': "x", "-x": "x", "x\x01": "x", "x" * 300: "x",
                "secret-lrs-payload": "x", "UPPER": "X", "bbb-recording-ready-url": "x", "endCallbackUrl": "x",
            },
        )  # fmt: skip
        format_id = connection.execute(
            insert(playback_formats).values(recording_id=row_id, format=EVIL, url=None)
        ).inserted_primary_key[0]  # type: ignore[index]
        connection.execute(insert(thumbnails).values(playback_format_id=format_id, alt=EVIL, url=EVIL, sequence=0))
        connection.execute(insert(thumbnails).values(playback_format_id=format_id, url=None, sequence=1))
        connection.execute(insert(recording_metadata).values(recording_id=row_id, key=None, value="x"))

    await shelf.sql(fill)
    answer = await shelf.balancer.call("getRecordings", state="any")

    # Expat is stricter about names than lxml is.
    found = ElementTree.fromstring(answer.body).find("recordings/recording")
    assert found is not None
    assert found.findtext("recordID") == f"id {EVIL_SHOWN}"
    assert found.findtext("meetingID") == found.findtext("name") == found.findtext("state") == EVIL_SHOWN
    metadata = {element.tag: element.text for element in found.findall("metadata/*")}
    assert metadata == {"good": EVIL_SHOWN, "xmlns": "x", "ö-k": "ümlaut", "UPPER": "X"}
    assert found.findtext("playback/format/type") == EVIL_SHOWN
    assert found.find("playback/format/url").text is None  # type: ignore[union-attr]
    images = found.findall("playback/format/preview/images/image")
    # In an attribute, a parser makes spaces of tabs and line feeds.
    assert images[0].attrib == {"alt": EVIL_SHOWN.replace("\t", " ").replace("\n", " "), "width": "", "height": ""}
    assert images[0].text == f"http://127.0.0.1:{shelf.balancer.port}{EVIL_SHOWN}"
    assert [image.get("alt") for image in images[1:]] == [""]


@pytest.mark.parametrize(
    ("headers", "prefix"),
    [
        ({"Host": "lb.example"}, "http://lb.example"),
        ({"Host": "lb.example:8080"}, "http://lb.example:8080"),
        ({"Host": "lb.example:80"}, "http://lb.example"),
        ({"Host": "lb.example:443"}, "http://lb.example:443"),
        ({"Host": "lb.example", "X-Forwarded-Proto": "https"}, "https://lb.example"),
        ({"Host": "lb.example:443", "X-Forwarded-Proto": "https"}, "https://lb.example"),
        ({"Host": "lb.example", "X-Forwarded-Proto": "https, http"}, "https://lb.example"),
        ({"Host": "lb.example", "X-Forwarded-Proto": "javascript"}, "http://lb.example"),
        ({"Host": "inner", "X-Forwarded-Host": "outer.example"}, "http://outer.example"),
        ({"Host": "inner", "X-Forwarded-Host": "evil, outer.example"}, "http://outer.example"),
        ({"Host": "[2001:db8::1]:8080"}, "http://[2001:db8::1]:8080"),
        ({"Host": "inner", "X-Forwarded-Host": 'a"><b>'}, "http://localhost"),
        ({"Host": "inner", "X-Forwarded-Host": "a/b?c#d"}, "http://localhost"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_urls_begin_as_the_client_sees_the_balancer(
    sqlite_url: str, tmp_path: Path, headers: dict[str, str], prefix: str
) -> None:
    async with library(sqlite_url, tmp_path) as shelf:
        await shelf.add("r1", files=False)
        answer = await shelf.balancer.request("GET", shelf.balancer.url("getRecordings"), headers=headers)

        assert answer.text("recordings/recording/playback/format/url") == f"{prefix}/playback/presentation/2.3/r1"


@pytest_twisted.ensureDeferred
async def test_protected_recordings_have_links_that_work_once(shelf: Library) -> None:
    await shelf.add("r1", formats=("presentation", "video"), images=1, protected=True)
    await shelf.add("r2", start=EPOCH - timedelta(days=1))
    urls = []
    for _ in range(2):
        answer = await shelf.balancer.call("getRecordings")
        assert answer.xml.find("recordings/recording/protected") is None
        assert answer.xml.find("recordings/recording/playback/format/preview") is None
        urls += [element.text or "" for element in answer.xml.iterfind("recordings/recording/playback/format/url")]

    protected = [url for url in urls if "token=" in url]
    tokens = [url.rpartition("=")[2] for url in protected]
    base = f"http://127.0.0.1:{shelf.balancer.port}"
    assert (len(urls), len(set(tokens))) == (6, 4)
    for url, token, kind in zip(protected, tokens, ("presentation", "video") * 2, strict=True):
        assert url == f"{base}/recording/r1/{kind}?token={token}"
        stored = await shelf.balancer.redis("GET", shelf.balancer.key(f"protector_token_{token}"))
        assert json.loads(stored) == {"record_id": "r1", "format": kind}
    assert [(await shelf.balancer.request("GET", protected[0])).code for _ in range(2)] == [307, 404]


@pytest_twisted.ensureDeferred
async def test_protection_is_shown_where_it_is_switched_on(sqlite_url: str, tmp_path: Path) -> None:
    async with library(sqlite_url, tmp_path, protected_recordings_enabled=True) as shelf:
        await shelf.add("r1", protected=True)
        await shelf.add("r2", start=EPOCH - timedelta(days=1))
        answer = await shelf.balancer.call("getRecordings")

        assert [element.text for element in answer.xml.iterfind("recordings/recording/protected")] == ["true", "false"]
        children = [element.tag for element in answer.xml.find("recordings/recording")]
        assert children[4:7] == ["published", "protected", "state"]


@pytest_twisted.ensureDeferred
async def test_pages_come_with_the_number_of_all(shelf: Library) -> None:
    for number in range(7):
        await shelf.add(f"r{number}", files=False, start=EPOCH - timedelta(days=number))

    async def page(**params: str) -> tuple[list[str], str | None]:
        answer = await shelf.balancer.call("getRecordings", **params)
        return record_ids(answer), answer.text("totalElements")

    assert await page(limit="3") == (["r0", "r1", "r2"], "7")
    assert await page(offset="5") == (["r5", "r6"], "7")
    assert await page(offset="3", limit="2") == (["r3", "r4"], "7")
    assert await page(offset="2", limit="2", recordID="r1,r3,r5") == (["r5"], "3")
    assert await page(offset="7") == ([], "7")
    assert await page(offset="9", recordID="x") == ([], "0")
    assert await page(limit="x") == ([f"r{number}" for number in range(7)], None)
    empty = await shelf.balancer.call("getRecordings", offset="7")
    assert [element.tag for element in empty.xml] == [
        "returncode", "recordings", "messageKey", "message", "totalElements",
    ]  # fmt: skip


@pytest_twisted.ensureDeferred
async def test_parameters_may_come_in_a_form(shelf: Library) -> None:
    await shelf.add("r1", files=False)
    await shelf.add("r2", files=False)

    assert record_ids(await post(shelf.balancer, "getRecordings", b"recordID=r2", FORM)) == ["r2"]
    refused = await post(shelf.balancer, "getRecordings", b"<a/>", "text/xml")
    assert refused.key == "unsupportedContentType"
    # What is signed beats what is not.
    both = await post(shelf.balancer, "getRecordings", b"recordID=r2", FORM, query="recordID=r1")
    assert record_ids(both) == ["r1"]


@pytest_twisted.ensureDeferred
async def test_calls_must_be_signed(shelf: Library) -> None:
    await shelf.add("r1")
    for action in ("getRecordings", "publishRecordings", "updateRecordings", "deleteRecordings"):
        for url in (
            f"{shelf.balancer.api}/{action}?recordID=r1&publish=false",
            shelf.balancer.url(action, secret="other", recordID="r1", publish="false", meta_a="b"),
        ):
            assert (await shelf.balancer.request("GET", url)).key == "checksumError"
    assert await shelf.listed() == ["r1"]
    assert shelf.kept("r1") == ["published/presentation"]


@pytest_twisted.ensureDeferred
async def test_asking_for_all_can_be_switched_off(sqlite_url: str, tmp_path: Path) -> None:
    async with library(sqlite_url, tmp_path, get_recordings_api_filtered=True) as shelf:
        await shelf.add("r1", meeting_id="m1")
        for params in ({}, {"recordID": "", "meetingID": " "}, {"state": "any", "meta_a": "b", "limit": "1"}):
            answer = await shelf.balancer.call("getRecordings", **params)
            assert (answer.returncode, answer.key, answer.message) == (
                "FAILED", "missingParameters", "param meetingID or recordID must be included.",
            )  # fmt: skip
        assert await shelf.listed(meetingID="m1") == ["r1"]
        assert await shelf.listed(recordID="r") == ["r1"]
        # An empty item is no way around it.
        assert await shelf.listed(recordID=",") == []
        assert await shelf.listed(recordID="x,,y") == []


@pytest_twisted.ensureDeferred
async def test_all_metadata_filters_must_fit_where_that_is_set(sqlite_url: str, tmp_path: Path) -> None:
    async with library(sqlite_url, tmp_path, meta_filter="and") as shelf:
        await shelf.add("r1", metadata={"a": "1", "b": "1"})
        await shelf.add("r2", metadata={"a": "1", "b": "2"})

        assert await shelf.listed(meta_a="1", meta_b="2") == ["r2"]


@pytest_twisted.ensureDeferred
async def test_each_tenant_is_shown_its_own(database_url: str, tmp_path: Path) -> None:
    async with library(database_url, tmp_path, tenants=True) as shelf:
        await shelf.add("r1", tenant="id-of-one", metadata={"a": "1"}, meeting_id="m")
        await shelf.add("r2", tenant="id-of-two", metadata={"a": "1"}, meeting_id="m")
        await shelf.add("r3", metadata={"a": "1"}, meeting_id="m")
        for params in (
            {}, {"recordID": "r"}, {"recordID": "r1,r2,r3"}, {"meetingID": "m"}, {"state": "any"}, {"meta_a": "1"},
            {"meta_a": "1", "meta_b": "2"}, {"limit": "10"}, {"meta_tenant-id": "id-of-one,id-of-two"},
        ):  # fmt: skip
            assert record_ids(await shelf.as_tenant("one", "getRecordings", **params)) == ["r1"], params
            assert record_ids(await shelf.as_tenant("two", "getRecordings", **params)) == ["r2"], params
        foreign = await shelf.as_tenant("two", "getRecordings", recordID="r1", limit="5")
        assert (record_ids(foreign), foreign.text("totalElements")) == ([], "0")


async def _many(shelf: Library, count: int, *, protected: bool = False) -> None:
    def fill(connection: Connection) -> None:
        connection.execute(
            insert(recordings),
            [
                {
                    "record_id": f"r{number:05}", "meeting_id": "m", "name": "Lecture " * 20, "published": True,
                    "protected": protected, "publish_updated": False, "state": "published",
                    "starttime": EPOCH - timedelta(seconds=number),
                }
                for number in range(count)
            ],
        )  # fmt: skip
        rows = connection.execute(recordings.select()).all()
        connection.execute(
            insert(playback_formats),
            [{"recording_id": row.id, "format": "video", "url": "/v", "length": 1} for row in rows],
        )

    await shelf.sql(fill)


@pytest_twisted.ensureDeferred
async def test_long_answers_come_in_slices_and_are_complete(shelf: Library) -> None:
    count = 2 * SLICE + 1
    await _many(shelf, count, protected=True)
    answer = await shelf.balancer.call("getRecordings")

    assert record_ids(answer) == [f"r{number:05}" for number in range(count)]
    tokens = set(re.findall(rb"token=([0-9a-f]{64})<", answer.body))
    assert len(tokens) == count
    assert answer.body.startswith(b"<response>\n  <returncode>SUCCESS</returncode>\n  <recordings>\n    <recording>\n")
    assert answer.body.endswith(b"    </recording>\n  </recordings>\n</response>\n")
    head = await shelf.balancer.request("HEAD", shelf.balancer.url("getRecordings"))
    assert (head.code, head.body) == (200, b"")


@pytest_twisted.ensureDeferred
async def test_recording_deleted_while_the_list_is_sent_is_left_out(sqlite_url: str, tmp_path: Path) -> None:
    async with library(sqlite_url, tmp_path) as shelf:
        await _many(shelf, 2 * SLICE)
        archive = shelf.balancer.parts.archive
        assert archive is not None
        reads = 0
        read = archive.database.fetch

        async def deleting(work, **options):  # type: ignore[no-untyped-def]
            nonlocal reads
            reads += 1
            if reads == 2:
                await shelf.balancer.call("deleteRecordings", recordID=f"r{2 * SLICE - 1:05}")
            return await read(work, **options)

        archive.database.fetch = deleting  # type: ignore[method-assign]
        assert len(await shelf.listed()) == 2 * SLICE - 1


@pytest_twisted.ensureDeferred
async def test_client_that_reads_nothing_has_few_slices_waiting(sqlite_url: str, tmp_path: Path) -> None:
    async with library(sqlite_url, tmp_path) as shelf:
        await _many(shelf, 100 * SLICE)
        archive = shelf.balancer.parts.archive
        assert archive is not None
        sizes: list[int] = []
        read = archive.database.fetch

        async def counting(work, **options):  # type: ignore[no-untyped-def]
            result = await read(work, **options)
            sizes.append(1)
            return result

        archive.database.fetch = counting  # type: ignore[method-assign]
        peer = await connect(shelf.balancer.port)
        peer.transport.pauseProducing()  # type: ignore[union-attr]
        url = shelf.balancer.url("getRecordings").removeprefix(f"http://127.0.0.1:{shelf.balancer.port}")
        peer.transport.write(f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n".encode())  # type: ignore[union-attr]
        while shelf.balancer.web.site.active == 0 or not sizes:
            await shelf.balancer.redis("PING")
        # The kernel's buffers take a part of it; then everything stands still.
        known = -1
        while known != len(sizes):
            known = len(sizes)
            for _ in range(20):
                await archive.database.run(lambda connection: None)
        assert len(sizes) < 100
        peer.transport.abortConnection()  # type: ignore[union-attr]
        await peer.closed
        while shelf.balancer.web.site.active:
            await shelf.balancer.redis("PING")
        assert len(sizes) <= known + 1


@pytest_twisted.ensureDeferred
async def test_database_in_trouble_is_told_as_bbb_tells_errors(database_url: str, tmp_path: Path) -> None:
    async with library(database_url, tmp_path) as shelf:
        await shelf.add("r1")
        assert shelf.balancer.parts.archive is not None
        shelf.balancer.parts.archive.database.hold("the database is away")
        expected = {
            "getRecordings": "Unable to access the data store.",
            "updateRecordings": "Unable to access the data store.",
            "publishRecordings": "Unable to publish/unpublish recording.",
            "deleteRecordings": "Unable to delete recording.",
        }
        for action, message in expected.items():
            answer: Answer = await shelf.balancer.call(action, recordID="r1", publish="false", meta_a="b")
            assert (answer.code, answer.key, answer.message) == (200, "internalError", message)
        shelf.balancer.parts.archive.database.release()

        assert await shelf.listed() == ["r1"]
        assert shelf.kept("r1") == ["published/presentation"]
        assert await shelf.metadata("r1") == {}


@pytest_twisted.ensureDeferred
async def test_other_methods_and_actions_are_no_requests(sqlite_url: str, tmp_path: Path) -> None:
    async with library(sqlite_url, tmp_path) as shelf:
        for action, methods in (
            ("getRecordings", ("PUT", "DELETE")),
            ("updateRecordings", ("PUT",)),
            ("publishRecordings", ("POST", "PUT")),
            ("deleteRecordings", ("POST", "DELETE")),
        ):
            for method in methods:
                url = shelf.balancer.url(action, recordID="r1", publish="true")
                assert (await shelf.balancer.request(method, url)).key == "unsupportedRequest", (action, method)
