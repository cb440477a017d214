"""Reading what an operator types, and showing what is stored."""

from __future__ import annotations

import json

import pytest

from scalelite.admin.text import (
    LONGEST_VALUE,
    host_of,
    json_text,
    read_boolean,
    read_multiplier,
    shown,
    url_fault,
    value_fault,
    width,
)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (None, 1.0),
        ("2", 2.0),
        ("1.5", 1.5),
        ("1.5abc", 1.5),
        (" 3 ", 3.0),
        ("+2", 2.0),
        ("-2", -2.0),
        ("1e2", 100.0),
        ("1_000", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e", 1.0),
        ("0", 0.0),
        ("0.0", 0.0),
        ("abc", 0.0),
        ("", 0.0),
        ("-", 0.0),
        (".", 0.0),
        ("nan", 0.0),
        ("inf", 0.0),
        ("1e999", 0.0),
        ("1" * 5000, 0.0),
    ],
)
def test_a_multiplier_is_the_number_that_the_text_begins_with(text: str | None, number: float) -> None:
    assert read_multiplier(text) == number


@pytest.mark.parametrize(
    "url",
    [
        "https://bbb1.example.com/bigbluebutton/api",
        "http://10.0.0.1:8090/bigbluebutton/api/",
        "https://[2001:db8::1]:8443/bigbluebutton/api",
        "https://bbb1.example.com",
        "https://bbb_1/api",
    ],
)
def test_a_url_that_names_a_host_can_be_a_server(url: str) -> None:
    assert url_fault(url) is None


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("ftp://h/api", "Server URL must start with http:// or https://"),
        ("HTTPS://h/api", "Server URL must start with http:// or https://"),
        ("bbb1.example.com", "Server URL must start with http:// or https://"),
        (" https://h/api", "Server URL must start with http:// or https://"),
        ("https://", "Server URL must have a host name"),
        ("https:///api", "Server URL must have a host name"),
        ("https://user:pw@h/api", "Server URL must have a host name"),
        ("https://h:0/api", "Server URL must have a host name"),
        ("https://h:99999/api", "Server URL must have a host name"),
        ("https://[::1/api", "Server URL must have a host name"),
        ("https://bücher.example/api", "Server URL must have a host name"),
        ("https://h/api?x=1", "Server URL must end with its path"),
        ("https://h/api#top", "Server URL must end with its path"),
        ("https://h/a pi", "Server URL must end with its path"),
        ("https://h/\u00e4pi", "Server URL must end with its path"),
        ("https://h/a\x1bpi", "Server URL must end with its path"),
    ],
)
def test_a_url_that_no_call_could_be_made_to_is_refused(url: str, fault: str) -> None:
    assert (url_fault(url) or "").startswith(fault)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://BBB.Example.com:8443/bigbluebutton/api", "BBB.Example.com"),
        ("http://[2001:db8::1]:80/api", "[2001:db8::1]"),
        ("https://u:p@h/api", "h"),
        ("https://h?x", "h"),
        ("nonsense", ""),
        ("", ""),
    ],
)
def test_the_host_of_a_stored_url_is_shown_as_it_was_written(url: str, host: str) -> None:
    assert host_of(url) == host


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("Grüße 会议", "Grüße 会议"),
        ("a\nid: forged", "a\\nid: forged"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\u202eb", "a\\u202eb"),
        ("\ud800", "\\ud800"),
    ],
)
def test_stored_text_can_neither_forge_lines_nor_move_the_cursor(text: str, line: str) -> None:
    assert shown(text) == line


@pytest.mark.parametrize(("text", "columns"), [("abc", 3), ("é", 1), ("e\u0301", 1), ("会议", 4), ("", 0)])
def test_width_is_counted_in_columns(text: str, columns: int) -> None:
    assert width(text) == columns


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("YES", True), ("1", True), ("on", True), ("false", False), ("No", False), ("0", False)],
)
def test_booleans_are_read_as_what_they_say(text: str, value: bool) -> None:
    assert read_boolean(text) is value


@pytest.mark.parametrize("text", ["", "maybe", "2", "tru"])
def test_what_is_no_boolean_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="true or false"):
        read_boolean(text)


@pytest.mark.parametrize(
    "text", ["plain", "zwölf", "\x1b[31m", "\x9b31m", "\x7f", "a\nb", "\u202eevil", "\ud800", "\U000e0041", "\u2028"]
)
def test_json_for_a_terminal_says_the_same_and_holds_no_control_characters(text: str) -> None:
    told = json_text({"name": [text]})
    assert json.loads(told) == {"name": [text]}
    assert all(line.isprintable() for line in told.split("\n"))


@pytest.mark.parametrize("text", ["", "secret", "ein Geheimnis", "x" * LONGEST_VALUE])
def test_text_of_a_line_can_be_a_servers(text: str) -> None:
    assert value_fault("Tag", text) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("\x1b]0;title\x07", "Tag must have no control characters"),
        ("a\nb", "Tag must have no control characters"),
        ("a\x9bb", "Tag must have no control characters"),
        ("x" * (LONGEST_VALUE + 1), "Tag must have no more than 1000 characters"),
    ],
)
def test_text_that_no_line_could_show_can_not(text: str, fault: str) -> None:
    assert value_fault("Tag", text) == fault


@pytest.mark.parametrize("host", ["a..b", ".a", ".", "a" * 64, "_..0:443"])
def test_a_host_that_no_name_server_could_know_is_refused(host: str) -> None:
    assert (url_fault(f"https://{host}/api") or "").startswith("Server URL must have a host name or an address")


def test_a_url_has_an_end() -> None:
    assert url_fault("https://h/" + "a" * LONGEST_VALUE) == "Server URL must have no more than 1000 characters"
