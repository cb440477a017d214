"""Load and figures of a server, out of its list of meetings."""

from __future__ import annotations

import pytest
from lxml import etree

from scalelite.cluster.statistics import LoadRule, ServerStatistics, number, statistics

NOW = 1_700_000_000.0
RULE = LoadRule(min_users=15, join_buffer=15)


def meeting(participants: object, moderators: object, *, age: float, breakout: bool = False, videos: int = 0) -> str:
    created = int((NOW - age * 60) * 1000)
    return (
        f"<meeting><meetingID>m{participants}</meetingID><createTime>{created}</createTime>"
        f"<participantCount>{participants}</participantCount><moderatorCount>{moderators}</moderatorCount>"
        f"<videoCount>{videos}</videoCount><isBreakout>{str(breakout).lower()}</isBreakout></meeting>"
    )


def of(*meetings: str) -> ServerStatistics:
    document = f"<response><returncode>SUCCESS</returncode><meetings>{''.join(meetings)}</meetings></response>"
    return statistics(etree.fromstring(document), NOW, RULE)


def test_scalelites_own_example() -> None:
    figures = of(
        meeting(2, 1, age=1), meeting(5, 2, age=60), meeting(7, 0, age=1, breakout=True), meeting(20, 4, age=1)
    )
    assert figures.load * 2.5 == 115
    assert (figures.users, figures.meetings, figures.largest_meeting) == (34, 4, 20)


@pytest.mark.parametrize(
    ("text", "load"),
    [
        (meeting(0, 0, age=1), 15),
        (meeting(0, 0, age=14.9), 15),
        (meeting(0, 0, age=15), 0),
        (meeting(0, 0, age=-60), 15),
        (meeting(20, 4, age=1), 24),
        (meeting(20, 4, age=99), 24),
        (meeting(9, 3, age=1, breakout=True), 0),
        (meeting("1,700", 2, age=99), 1702),
        (meeting("many", "", age=99), 0),
    ],
)
def test_young_meetings_count_a_minimum_and_breakouts_nothing(text: str, load: int) -> None:
    assert of(text).load == load


def test_an_empty_server() -> None:
    assert of() == ServerStatistics()
    assert statistics(etree.fromstring("<response/>"), NOW, RULE) == ServerStatistics()


def test_ids_and_videos_are_counted_from_direct_children() -> None:
    inner = (
        "<attendees><attendee><videoCount>9</videoCount><participantCount>9</participantCount></attendee></attendees>"
    )
    figures = of(
        meeting(1, 0, age=1, videos=2).replace("</meeting>", inner + "</meeting>"), meeting(2, 0, age=1, videos=3)
    )
    assert figures.videos == 5
    assert figures.users == 3
    assert figures.meeting_ids == ("m1", "m2")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        (None, 0),
        ("", 0),
        ("1,700", 1700),
        ("1.700", 1700),
        ("x", 0),
        ("9" * 30, 0),
        ("9" * 5000, 0),
        (" 7 ", 7),
        ("-3", 0),
        ("1_0", 10),
        ("9" * 15, 10**15 - 1),
        ("1 700", 1700),
        ("\u0663", 0),
    ],
)
def test_counts_are_read_leniently(text: str | None, value: int) -> None:
    assert number(text) == value
