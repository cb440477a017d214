"""What is taken for a text track, and what becomes of SubRip."""

from __future__ import annotations

import pytest

from scalelite.recordings.webvtt import MAX_TRACK, NotCaptions, to_webvtt

CUE = "00:01.000 --> 00:02.000\nHello"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (f"WEBVTT\n\n{CUE}\n", f"WEBVTT\n\n{CUE}\n"),
        (f"WEBVTT\n\n{CUE}", f"WEBVTT\n\n{CUE}\n"),
        (f"\ufeffWEBVTT - Title\r\n\r\n{CUE}\r\n", f"WEBVTT - Title\n\n{CUE}\n"),
        (f"WEBVTT\rKind: captions\r\r{CUE}\r", f"WEBVTT\nKind: captions\n\n{CUE}\n"),
        ("WEBVTT\n\n1\n100:00:01.000 --> 100:00:02.500 align:start line:0\nÜ <b>✓</b> 😀\n", None),
        ("WEBVTT\n\nNOTE x\n\nSTYLE\n::cue { color: red }\n\n00:00:01.000\t-->  00:00:02.000\n\n", None),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\nzero \0\n", "WEBVTT\n\n00:01.000 --> 00:02.000\nzero \ufffd\n"),
    ],
)
def test_webvtt_stays_as_it_is(content: str, text: str | None) -> None:
    assert to_webvtt(content.encode()) == (content if text is None else text)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            "1\r\n00:00:01,000 --> 00:00:02,500\r\nHello\r\nthere\r\n\r\n2\r\n01:02:03,004 --> 01:02:04,005\r\nBye\r\n",
            "WEBVTT\n\n00:00:01.000 --> 00:00:02.500\nHello\nthere\n\n01:02:03.004 --> 01:02:04.005\nBye\n",
        ),
        # Without numbers, with sloppy times and positions.
        ("0:0:1,5 -->00:00:02.25 X1:10\nHi\n", "WEBVTT\n\n00:00:01.500 --> 00:00:02.250\nHi\n"),
        # A cue that ends before it begins is none; a second one stands.
        (
            "1\n00:00:02,000 --> 00:00:01,000\nno\n\n2\n00:00:03,000 --> 00:00:04,000\nyes\n",
            "WEBVTT\n\n00:00:03.000 --> 00:00:04.000\nyes\n",
        ),
        # An empty line within a cue.
        (
            "1\n00:00:01,000 --> 00:00:02,000\none\n\ntwo\n\n2\n00:00:03,000 --> 00:00:04,000\nthree\n",
            "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\none\ntwo\n\n00:00:03.000 --> 00:00:04.000\nthree\n",
        ),
        # Markup: three tags stay, the rest goes, and what looks like some is text.
        (
            "1\n00:00:01,000 --> 00:00:02,000\n{\\an8}<I>a</I> <font x=\"y\">b</font> <b>c</b> & d &amp; 1 < 2 > 0\n",
            "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n<i>a</i> b <b>c</b> &amp; d &amp; 1 &lt; 2 &gt; 0\n",
        ),
        (
            "1\n00:00:01,000 --> 00:00:02,000\n<script>alert(1)</script> --> x\n",
            "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nalert(1) --&gt; x\n",
        ),
        ("\ufeff1\n00:00:01,000 --> 00:00:02,000\n2024\n", "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n2024\n"),
    ],
)  # fmt: skip
def test_subrip_becomes_webvtt(content: str, text: str) -> None:
    converted = to_webvtt(content.encode())

    assert converted == text
    assert to_webvtt(converted.encode()) == converted


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"WEBVTT",
        b"WEBVTT\n\nno cues\n",
        b"WEBVTTX\n\n00:01.000 --> 00:02.000\nx\n",
        b"WEBVTT\n00:01.000 --> 00:02.000\nx\n",
        b"WEBVTT\n\n00:01,000 --> 00:02,000\nx\n",
        b"WEBVTT\n\n00:01.000 --> 00:60.000\nx\n",
        b"WEBVTT\n\n00:01.000 -->\nx\n",
        b"WEBVTT\n\n00:02.000 --> 00:01.000\nx\n",
        b"WEBVTT\n\n00:01.000 --> 00:02.000\nx --> y\n",
        b"1\n00:00:01,000 -> 00:00:02,000\nx\n",
        b"1\n",
        b"<!DOCTYPE html><script>alert(1)</script>",
        "WEBVTT\n\n00:01.000 --> 00:02.000\nü\n".encode("latin-1"),
        "WEBVTT\n\n00:01.000 --> 00:02.000\nx\n".encode("utf-16"),
        b"WEBVTT\n\n00:01.000 --> 00:02.000\n" + b"x" * MAX_TRACK,
        b"\x00\x01\x02\x03",
    ],
)
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(NotCaptions):
        to_webvtt(content)


def test_long_tracks_take_time_in_proportion() -> None:
    for piece in ("<", "&", "{\\", "-->", "1\n", "\n \n", "<a", "00:00:01,000 --> 00:00:02,000 "):
        content = ("1\n00:00:01,000 --> 00:00:02,000\n" + piece * (MAX_TRACK // len(piece) // 2)).encode()[:MAX_TRACK]
        try:
            assert to_webvtt(content).startswith("WEBVTT\n\n")
        except NotCaptions:
            assert piece in ("1\n", "-->", "\n \n", "00:00:01,000 --> 00:00:02,000 ")
