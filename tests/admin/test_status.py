"""The table of `status`, byte for byte."""

from __future__ import annotations

import json

import pytest_twisted

from tests.admin.desk import Desk
from tests.balancer import Balancer

CONTRACT = (
    "\n"
    "      HOSTNAME        STATE    STATUS  MEETINGS  USERS  LARGEST MEETING  VIDEOS   LOAD  BBB VERSION   TAG \n"
    " b1.example.com     cordoned  online   1         3      3                0       104.5  2.7.12            \n"
    " bbb10.example.com  enabled   online   12        125    44               7        21.0  3.0.4        gold \n"
    " c.example.com      disabled  offline                                                                     \n"
)


async def record(balancer: Balancer, server_id: str, load: str | None = None, **fields: str) -> None:
    """A server's record as Scalelite leaves it."""
    await balancer.redis("SADD", balancer.key("servers"), server_id)
    pairs = [text for item in fields.items() for text in item]
    await balancer.redis("HSET", balancer.key(f"server:{server_id}"), "secret", "s3cret", *pairs)
    if load is not None:
        zset = "cordoned_server_load" if fields["state"] == "cordoned" else "server_load"
        await balancer.redis("ZADD", balancer.key(zset), load, server_id)


async def example(balancer: Balancer) -> None:
    await record(
        balancer, "a-server", "21", url="https://bbb10.example.com/bigbluebutton/api", state="enabled", online="true",
        meetings="12", users="125", largest_meeting="44", videos="7", bbb_version="3.0.4", tag="gold",
    )  # fmt: skip
    await record(balancer, "b-server", url="https://c.example.com/bigbluebutton/api", state="disabled", online="false")
    await record(
        balancer, "c-server", "104.5", url="https://b1.example.com/bigbluebutton/api", state="cordoned", online="true",
        meetings="1", users="3", largest_meeting="3", videos="0", bbb_version="2.7.12",
    )  # fmt: skip


@pytest_twisted.ensureDeferred
async def test_the_table_is_the_one_that_scalelite_prints(balancer: Balancer, desk: Desk) -> None:
    await example(balancer)
    for words in (["status"], ["rake", "status"], ["status[]"]):
        result = await desk.run(*words)
        assert (result.status, result.out, result.err) == (0, CONTRACT, "")


@pytest_twisted.ensureDeferred
async def test_without_servers_there_is_only_an_empty_line(desk: Desk) -> None:
    result = await desk.run("status")
    assert (result.status, result.out, result.err) == (0, "\n", "")


@pytest_twisted.ensureDeferred
async def test_hosts_are_sorted_by_their_bytes_and_equal_ones_by_id(balancer: Balancer, desk: Desk) -> None:
    for server_id, host in (("4", "b10.x"), ("3", "b2.x"), ("2", "B3.x"), ("1", "b2.x")):
        await record(balancer, server_id, url=f"https://{host}/api", state="disabled", tag=server_id)
    rows = (await desk.run("status")).out.splitlines()[2:]
    assert [(row.split()[0], row.split()[-1]) for row in rows] == [
        ("B3.x", "2"),
        ("b10.x", "4"),
        ("b2.x", "1"),
        ("b2.x", "3"),
    ]


@pytest_twisted.ensureDeferred
async def test_columns_stay_straight_under_wide_and_hostile_tags(balancer: Balancer, desk: Desk) -> None:
    await record(balancer, "1", url="https://a.x/api", state="disabled", tag="会议")
    await record(balancer, "2", url="https://b.x/api", state="disabled", tag="a\x1b\nb")
    rows = (await desk.run("status")).out.splitlines()[2:]
    assert [row[row.index("offline") :].split() for row in rows] == [["offline", "会议"], ["offline", "a\\x1b\\nb"]]
    assert rows[0].endswith("会议" + " " * 5)


@pytest_twisted.ensureDeferred
async def test_a_record_of_the_time_before_states_shows_the_state_it_has_in_effect(
    balancer: Balancer, desk: Desk
) -> None:
    await record(balancer, "1", url="https://a.x/api")
    await record(balancer, "2", url="https://b.x/api")
    await balancer.redis("SADD", balancer.key("server_enabled"), "2")
    rows = (await desk.run("status")).out.splitlines()[2:]
    assert [row.split()[:2] for row in rows] == [["a.x", "disabled"], ["b.x", "enabled"]]


@pytest_twisted.ensureDeferred
async def test_json_holds_the_same_with_numbers_as_numbers(balancer: Balancer, desk: Desk) -> None:
    await example(balancer)
    result = await desk.run("status", "--json")
    rows = json.loads(result.out)
    assert [row["hostname"] for row in rows] == ["b1.example.com", "bbb10.example.com", "c.example.com"]
    assert rows[1] == {
        "id": "a-server",
        "hostname": "bbb10.example.com",
        "state": "enabled",
        "online": True,
        "meetings": 12,
        "users": 125,
        "largest_meeting": 44,
        "videos": 7,
        "load": 21.0,
        "bbb_version": "3.0.4",
        "tag": "gold",
    }
    assert rows[2]["meetings"] is None
    assert "s3cret" not in result.out


@pytest_twisted.ensureDeferred
async def test_a_polled_server_shows_what_its_meetings_amount_to(balancer: Balancer, desk: Desk) -> None:
    node = await balancer.add_server("s1")
    node.create("m1")
    node.add_users("m1", 20, videos=3)
    await balancer.poll_now()
    row = (await desk.run("status")).out.splitlines()[2]
    assert row.split() == ["127.0.0.1", "enabled", "online", "1", "20", "20", "3", "20.0"]
