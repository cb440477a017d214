"""BBB's XML: hardened against what servers may send, byte-exact towards clients."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from scalelite.bbb import errors, xml
from scalelite.bbb.errors import BBBError


@pytest.mark.parametrize(
    ("error", "key", "message"),
    [
        (errors.ChecksumError(), "checksumError", "You did not pass the checksum security check"),
        (
            errors.MeetingNotFound(),
            "notFound",
            "We could not find a meeting with that meeting ID - perhaps the meeting is not yet running?",
        ),
        (errors.RecordingsNotFound(), "notFound", "We could not find recordings"),
        (errors.MissingMeetingID(), "missingParamMeetingID", "You must specify a meeting ID for the meeting."),
        (errors.UnsupportedRequest(), "unsupportedRequest", "This request is not supported."),
        (
            errors.UnsupportedContentType(),
            "unsupportedContentType",
            "POST request Content-Type is missing or unsupported",
        ),
        (errors.ServerUnavailable(), "serverUnavailable", "The server for this meeting is disabled/offline."),
        (
            errors.ServerTagUnavailable("a;b"),
            "serverTagUnavailable",
            "There is no available server with the required tag=a;b.",
        ),
        (errors.InternalError(errors.NO_SERVERS), "internalError", "Could not find any available servers."),
        (errors.InternalError(errors.CREATE_FAILED), "internalError", "Unable to create meeting on server."),
        (errors.InternalError(errors.MEETING_UNREACHABLE), "internalError", "Unable to access meeting on server."),
        (errors.InternalError(errors.SERVER_UNREACHABLE), "internalError", "Unable to access server."),
        (errors.InternalError(errors.INSERT_FAILED), "internalError", "Unable to insert document on server."),
    ],
)
def test_errors_are_rendered_byte_by_byte_as_the_contract_says(error: BBBError, key: str, message: str) -> None:
    assert xml.render_error(error).decode() == (
        '<?xml version="1.0"?>\n'
        "<response>\n"
        "  <returncode>FAILED</returncode>\n"
        f"  <messageKey>{key}</messageKey>\n"
        f"  <message>{message}</message>\n"
        "</response>\n"
    )


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("a & b < c > d", "a &amp; b &lt; c &gt; d"),
        ("\"quoted\" 'text'", "\"quoted\" 'text'"),
        ("é😀مرحبا", "é😀مرحبا"),
        ("]]>", "]]&gt;"),
        ("bell\x07", "bell\ufffd"),
        ("\x00\x0b\x1f", "\ufffd\ufffd\ufffd"),
        ("\ud800\ufffe\uffff", "\ufffd\ufffd\ufffd"),
        ("tab\tline\n", "tab\tline\n"),
        ("\u2028\x7f\x85", "\u2028\x7f\x85"),
        ("\U0001f3f4\U000e0067", "\U0001f3f4\U000e0067"),
    ],
)
def test_text_is_escaped_and_always_fit_for_xml(text: str, rendered: str) -> None:
    assert xml.element("message", text) == f"<message>{rendered}</message>"
    etree.fromstring(xml.render([("message", text)]))


def test_fixed_answers() -> None:
    assert xml.NO_MEETINGS.decode() == (
        '<?xml version="1.0"?>\n<response>\n  <returncode>SUCCESS</returncode>\n'
        "  <messageKey>noMeetings</messageKey>\n"
        "  <message>no meetings were found on this server</message>\n  <meetings/>\n</response>\n"
    )
    assert [(e.tag, e.text) for e in etree.fromstring(xml.NOT_RUNNING)] == [
        ("returncode", "SUCCESS"),
        ("running", "false"),
    ]
    recordings = etree.fromstring(xml.NO_RECORDINGS)
    assert [e.tag for e in recordings] == ["returncode", "recordings", "messageKey", "message"]
    assert recordings.findtext("messageKey") == "noRecordings"
    assert recordings.findtext("message") == "There are not recordings for the meetings"
    assert len(recordings.find("recordings")) == 0
    assert xml.NO_RECORDINGS.startswith(b"<response>")


def test_the_index_names_the_build_only_where_one_is_configured() -> None:
    assert [(e.tag, e.text) for e in etree.fromstring(xml.render_index("alpha & 1"))] == [
        ("returncode", "SUCCESS"),
        ("version", "2.0"),
        ("build", "alpha & 1"),
    ]
    for none in (None, ""):
        assert [e.tag for e in etree.fromstring(xml.render_index(none))] == ["returncode", "version"]


def answer(inner: str, head: str = "") -> bytes:
    return f"{head}<response>{inner}</response>".encode()


@pytest.mark.parametrize(
    ("body", "success"),
    [
        (answer("<returncode>SUCCESS</returncode>"), True),
        (answer("<returncode>FAILED</returncode>"), False),
        (answer("<returncode>success</returncode>"), False),
        (answer("<returncode> SUCCESS </returncode>"), False),
        (answer("<x/><returncode>SUCCESS</returncode>", '<?xml version="1.0" encoding="UTF-8"?>'), True),
        (answer("<returncode><![CDATA[SUCCESS]]></returncode>"), True),
        (b"\xef\xbb\xbf" + answer("<returncode>SUCCESS</returncode>"), True),
        (answer("<returncode>SUCCESS</returncode>").decode().encode("utf-16"), True),
    ],
)
def test_only_exactly_success_is_a_success(body: bytes, success: bool) -> None:
    assert xml.parse(body).success is success


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b"<html><body>502 Bad Gateway</body></html>",
        b"<!DOCTYPE html><html></html>",
        b"It works!",
        b'{"response":{"returncode":"SUCCESS"}}',
        b"<response/>",
        b"<response><returncode/></response>",
        b"<response><inner><returncode>SUCCESS</returncode></inner></response>",
        b"<Response><returncode>SUCCESS</returncode></Response>",
        b"<response><returncode>SUCCESS</returncode>",
        b"<response><returncode>SUCCESS</returncode></response><response/>",
        b"<response><returncode>SUCCESS</returncode><n>\x07</n></response>",
        b"<response><returncode>SUCCESS</returncode><n>\x00</n></response>",
        b"<response><returncode>SUCCESS</returncode><n>M\xfcller</n></response>",
        b"<response><returncode>SUCCESS</returncode><n>&unknown;</n></response>",
        b"<!DOCTYPE response><response><returncode>SUCCESS</returncode></response>",
        b'<?xml version="1.0" encoding="nonsense"?><response><returncode>SUCCESS</returncode></response>',
        b"<response>" + b"<a>" * 100_000,
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    ],
)
def test_what_is_no_bbb_xml_is_refused(body: bytes) -> None:
    with pytest.raises(xml.NotBBB):
        xml.parse(body)


def test_entities_are_never_expanded_and_files_never_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("launch code")
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    for dtd, text in (
        (f'<!DOCTYPE response [<!ENTITY e0 "ha">{levels}]>', "<note>&e11;</note>"),
        (f'<!DOCTYPE response [<!ENTITY e0 "ha">{levels}]>', '<note at="&e11;"/>'),
        (f'<!DOCTYPE response [<!ENTITY f SYSTEM "file://{secret}">]>', "<note>&f;</note>"),
        (f'<!DOCTYPE response SYSTEM "file://{secret}">', ""),
        ("<!DOCTYPE response [<!ENTITY % p \"<!ENTITY q 'x'>\"> %p;]>", "<note>&q;</note>"),
    ):
        with pytest.raises(xml.NotBBB) as refused:
            xml.parse(answer(f"<returncode>SUCCESS</returncode>{text}", dtd))
        assert "launch" not in str(refused.value)


def test_one_bad_answer_leaves_no_trace_in_the_next() -> None:
    for _ in range(3):
        with pytest.raises(xml.NotBBB):
            xml.parse(b"<response><returncode>SUCC")
        assert xml.parse(answer("<returncode>SUCCESS</returncode><n>1</n>")).text("n") == "1"


def test_an_answer_is_relayed_whole_in_utf_8_without_references() -> None:
    inner = (
        "<returncode>FAILED</returncode><errors><error key='a' message=\"b\"/></errors>"
        "<name>é &#xE9; &#128512; &amp; &lt;b&gt;</name><empty></empty><c><![CDATA[<x>&]]></c>"
    )
    again = xml.parse(answer(inner)).document()
    assert again.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<response>')
    assert again.endswith(b"</response>\n")
    assert "é é 😀 &amp; &lt;b&gt;".encode() in again
    assert b"&#" not in again
    root = etree.fromstring(again)
    assert [e.tag for e in root] == ["returncode", "errors", "name", "empty", "c"]
    assert root.findtext("c") == "<x>&"
    assert root.find("errors/error").get("key") == "a"


@pytest.mark.parametrize("encoding", ["ISO-8859-1", "windows-1252", "UTF-16"])
def test_other_encodings_are_converted(encoding: str) -> None:
    head = f'<?xml version="1.0" encoding="{encoding}"?>'
    body = f"{head}<response><returncode>SUCCESS</returncode><name>Müller</name></response>".encode(encoding)
    again = xml.parse(body).document()
    assert "<name>Müller</name>".encode() in again
    assert b'encoding="UTF-8"' in again


def test_the_text_of_a_child_tells_empty_from_absent() -> None:
    parsed = xml.parse(answer("<returncode>SUCCESS</returncode><messageKey/><a><b>inner</b></a>"))
    assert parsed.text("messageKey") == ""
    assert parsed.text("message") is None
    assert parsed.text("b") is None
    assert parsed.raw.startswith(b"<response>")


def test_meetings_are_wrapped_in_one_list() -> None:
    root = etree.fromstring(xml.render_meetings([b"<meeting><meetingID>a</meetingID></meeting>\n", b"<meeting/>\n"]))
    assert [e.tag for e in root] == ["returncode", "meetings"]
    assert len(root.findall("meetings/meeting")) == 2


def test_an_answer_of_a_great_many_tiny_elements_is_refused_before_it_is_parsed() -> None:
    body = b"<response><returncode>SUCCESS</returncode>%b</response>"
    assert xml.parse(body % (b"<a/>" * (xml.MAX_TAGS - 4))).success
    with pytest.raises(xml.NotBBB, match="tags"):
        xml.parse(body % (b"<a/>" * xml.MAX_TAGS))
