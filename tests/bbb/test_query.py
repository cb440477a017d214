"""Queries: what clients may send, and what servers are sent."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelite.bbb.checksum import digest
from scalelite.bbb.query import MAX_PARAMETERS, MalformedQuery, encode, parse, root_url, signed_url


@pytest.mark.parametrize(
    ("raw", "params"),
    [
        (b"", {}),
        (b"&", {}),
        (b"&&a=1&&", {"a": "1"}),
        (b"a=1&b=2", {"a": "1", "b": "2"}),
        (b"a", {"a": None}),
        (b"a=", {"a": ""}),
        (b"a=b=c", {"a": "b=c"}),
        (b"=x", {}),
        (b"a=x+y%20z", {"a": "x y z"}),
        (b"a%5Bb%5D=c", {"a[b]": "c"}),
        (b"a[b]=c&a[]=d", {"a[b]": "c", "a[]": "d"}),
        (b"a=%2B%26%3D%25", {"a": "+&=%"}),
        (b"n%C3%A9=%f0%9f%98%80", {"né": "😀"}),
        ("a=é".encode(), {"a": "é"}),
        (b"a=%0D%0A", {"a": "\r\n"}),
        (b"a=1;b=2", {"a": "1;b=2"}),
        (b"A=1&a=2", {"A": "1", "a": "2"}),
        (b"a=%2500", {"a": "%00"}),
    ],
)
def test_parameters_are_decoded(raw: bytes, params: dict[str, str | None]) -> None:
    assert parse(raw) == params


def test_of_duplicates_the_last_value_counts_at_the_first_place() -> None:
    assert list(parse(b"a=1&b=2&a=3&a").items()) == [("a", None), ("b", "2")]
    assert list(parse(b"a=1&b=2&a=3").items()) == [("a", "3"), ("b", "2")]


@pytest.mark.parametrize(
    "raw",
    [
        b"a=%zz", b"a=%", b"a=%4", b"%=1", b"a=%FF", b"a=%C3", b"a=\xc3", b"a=%C3%28", b"a=%ED%A0%80", b"a=%C0%AF",
        b"a=%00", b"a%00=1", b"a=\x00", b"%FF=1",
    ],
)  # fmt: skip
def test_malformed_queries_are_refused(raw: bytes) -> None:
    with pytest.raises(MalformedQuery):
        parse(raw)


@given(st.lists(st.sampled_from(["%0A", "%0d", "%3D", "%3d", "=", "a", "+", "_", "%C3%A9", "%25", "%20", ".", "-"])))
def test_long_values_are_decoded_like_short_ones(pieces: list[str]) -> None:
    value = "".join(pieces)
    filler = "x" * 20_000
    assert parse(f"a={value}".encode())["a"] == parse(f"a={value}&b={filler}".encode())["a"]
    assert parse(f"a={value}{filler}".encode())["a"] == f"{parse(f'a={value}'.encode())['a']}{filler}"


@pytest.mark.parametrize("bad", ["%C3", "%zz", "%00", "%ED%A0%80"])
def test_long_malformed_queries_are_refused_as_well(bad: str) -> None:
    with pytest.raises(MalformedQuery):
        parse(f"b={'x' * 20_000}&a={bad}".encode())


def test_too_many_parameters_are_refused() -> None:
    assert len(parse(b"&".join(b"p%d=1" % i for i in range(MAX_PARAMETERS)))) == MAX_PARAMETERS
    with pytest.raises(MalformedQuery):
        parse(b"&" * MAX_PARAMETERS)


@pytest.mark.parametrize(
    ("params", "encoded"),
    [
        ({}, ""),
        ({"a": "b c"}, "a=b+c"),
        ({"a": "~"}, "a=%7E"),
        ({"a~": "x"}, "a%7E=x"),
        ({"a": "*-._"}, "a=*-._"),
        ({"a": "AZaz09"}, "a=AZaz09"),
        (
            {"a": "!'()/:;?@[]$,+&=#%\"<>\\^`{|}"},
            "a=%21%27%28%29%2F%3A%3B%3F%40%5B%5D%24%2C%2B%26%3D%23%25%22%3C%3E%5C%5E%60%7B%7C%7D",
        ),
        ({"a": "é😀"}, "a=%C3%A9%F0%9F%98%80"),
        ({"a": "\r\n\t"}, "a=%0D%0A%09"),
        ({"password": None}, "password"),
        ({"password": ""}, "password="),
        ({"meetingID": "m", "password": None}, "meetingID=m&password"),
        ({"a[b]": "c"}, "a%5Bb%5D=c"),
    ],
)
def test_parameters_are_encoded_as_an_html_form_does(params: dict[str, str | None], encoded: str) -> None:
    assert encode(params) == encoded


texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))


@given(st.dictionaries(texts.filter(bool), texts | st.none(), max_size=8))
def test_what_is_encoded_is_parsed_again(params: dict[str, str | None]) -> None:
    encoded = encode(params)
    assert encoded.isascii()
    assert parse(encoded.encode()) == params
    assert dict(parse_qsl(encoded, keep_blank_values=True)) == {k: v or "" for k, v in params.items()}


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA512"])
@pytest.mark.parametrize("root", ["https://bbb.example/bigbluebutton/api", "https://bbb.example/bigbluebutton/api/"])
def test_calls_to_servers_end_with_their_checksum(root: str, algorithm: str) -> None:
    query = "meetingID=a+b&password"
    checksum = digest(algorithm, "end", query.encode(), b"s\xc3\xa9")
    url = signed_url(root, "sé", "end", {"meetingID": "a b", "password": None}, algorithm)
    assert url == f"https://bbb.example/bigbluebutton/api/end?{query}&checksum={checksum}"
    checksum = digest(algorithm, "getMeetings", b"", b"s")
    assert signed_url(root, "s", "getMeetings", {}, algorithm).endswith(f"/api/getMeetings?checksum={checksum}")
    assert root_url(root, "s", algorithm).endswith(f"/api/?checksum={digest(algorithm, '', b'', b's')}")
