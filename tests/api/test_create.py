"""create on servers that work: placement, what is forwarded, repetition."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet import defer

from tests.api.support import (
    bookkeeping,
    bridges,
    calls,
    load_of,
    post,
    record_of,
    running,
    the_call,
)
from tests.balancer import Answer, Balancer

SLIDES = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<modules><module name="presentation">'
    b'<document url="https://files.example/a.pdf?x=1&amp;y=2" filename="\xc3\xa9.pdf"/>'
    b'<document name="b.pdf">QkFTRTY0</document></module></modules>\n'
)


async def create(balancer: Balancer, meeting_id: str = "m1", **params: str) -> Answer:
    return await balancer.call("create", **{"meetingID": meeting_id, "name": "Meeting", **params})


# A new meeting.


@pytest_twisted.ensureDeferred
async def test_a_new_meeting_is_recorded_in_scalelites_layout(balancer: Balancer) -> None:
    await balancer.add_servers(1)
    answer = await create(balancer, "test-meeting-1", moderatorPW="mod", attendeePW="att")
    assert answer.returncode == "SUCCESS"
    assert answer.body.startswith(b'<?xml version="1.0" encoding="UTF-8"?>')
    assert await record_of(balancer, "test-meeting-1") == {
        "server_id": "s1", "moderator_pw": "mod", "voice_bridge": "394201124", "tenant_id": "",
    }  # fmt: skip
    assert await bridges(balancer) == {"394201124": "test-meeting-1"}
    assert await balancer.redis("SISMEMBER", balancer.key("meetings"), "test-meeting-1") == 1
    ttl = await balancer.redis("TTL", balancer.key("meeting:test-meeting-1"))
    assert 86_000 < ttl <= 86_400


@pytest_twisted.ensureDeferred
async def test_the_least_loaded_server_takes_the_meeting_and_a_burst_spreads(balancer: Balancer) -> None:
    await balancer.add_servers(3)
    for number in range(9):
        await create(balancer, f"m{number}")
    assert [len(node.meetings) for node in balancer.nodes.values()] == [3, 3, 3]
    assert await load_of(balancer, "s1") == 45


@pytest.mark.parametrize(("create_load", "expected"), [(None, 30.0), (1.0, 2.0), (0.0, 0.0)])
@pytest_twisted.ensureDeferred
async def test_a_create_reserves_load_times_the_multiplier(create_load: float | None, expected: float) -> None:
    async with running(create_load=create_load) as balancer:
        await balancer.add_server("s1", load_multiplier=2.0)
        await balancer.poll_now()
        await create(balancer)
        assert await load_of(balancer, "s1") == expected
        await create(balancer)
        assert await load_of(balancer, "s1") == expected


@pytest.mark.parametrize("given", [{}, {"moderatorPW": ""}, {"moderatorPW": "  "}])
@pytest_twisted.ensureDeferred
async def test_a_moderator_password_is_made_up_where_none_is_given(balancer: Balancer, given: dict[str, str]) -> None:
    await balancer.add_servers(1)
    await create(balancer, "m1", **given)
    await create(balancer, "m2", **given)
    passwords = [(await record_of(balancer, meeting_id))["moderator_pw"] for meeting_id in ("m1", "m2")]
    assert [call.query["moderatorPW"] for call in calls(balancer, "create")] == passwords
    assert len(set(passwords)) == 2
    for password in passwords:
        assert len(password) == 8
        assert password.isalnum()
        assert password.isascii()


@pytest_twisted.ensureDeferred
async def test_no_server_takes_meetings(balancer: Balancer) -> None:
    await balancer.add_server("s1", enabled=False)
    await balancer.add_server("s2")
    answer = await create(balancer)
    assert (answer.code, answer.key) == (200, "internalError")
    assert answer.message == "Could not find any available servers."
    assert await bookkeeping(balancer) == set()


@pytest_twisted.ensureDeferred
async def test_a_head_request_creates_as_well(balancer: Balancer) -> None:
    await balancer.add_servers(1)
    answer = await balancer.request("HEAD", balancer.url("create", meetingID="m1", name="Meeting"))
    assert (answer.code, answer.body) == (200, b"")
    assert balancer.living_on("m1") == ["s1"]


# What is forwarded.


@pytest_twisted.ensureDeferred
async def test_parameters_are_forwarded_in_order_encoded_anew_and_signed(balancer: Balancer) -> None:
    await balancer.add_servers(1)
    query = (
        "welcome=a%20b+c%0A~*&meetingID=m1&name=%C3%A9%F0%9F%98%80&format=xml&meta_x=1&meta_x=2&controller=c&action=a"
        "&bare&empty=&userdata%5Bbbb%5D=y&moderatorPW=mp"
    )
    checksum = balancer.sign("create", query)
    answer = await balancer.request("GET", f"{balancer.api}/create?checksum={checksum}&{query}")
    assert answer.returncode == "SUCCESS"
    sent = the_call(balancer, "create").raw_path.partition("?")[2]
    bridge = (await record_of(balancer, "m1"))["voice_bridge"]
    assert sent.rpartition("&checksum=")[0] == (
        "welcome=a+b+c%0A%7E*&meetingID=m1&name=%C3%A9%F0%9F%98%80&meta_x=2&bare&empty=&userdata%5Bbbb%5D=y"
        f"&moderatorPW=mp&voiceBridge={bridge}"
    )


@pytest_twisted.ensureDeferred
async def test_a_form_becomes_a_get_with_body_names_first(balancer: Balancer) -> None:
    await balancer.add_servers(1)
    answer = await post(
        balancer, "create", b"welcome=Hi&name=Body+Name&meetingID=m2", query="name=Query+Name&meetingID=m1"
    )
    assert answer.returncode == "SUCCESS"
    call = the_call(balancer, "create")
    assert (call.method, call.body) == ("GET", b"")
    assert list(call.query) == ["welcome", "name", "meetingID", "moderatorPW", "voiceBridge", "checksum"]
    assert call.query["name"] == "Query Name"
    assert call.query["meetingID"] == "m1"


@pytest.mark.parametrize("content_type", ["application/xml", "text/xml; charset=utf-8", "application/x-xml"])
@pytest_twisted.ensureDeferred
async def test_slides_reach_the_server_unchanged(balancer: Balancer, content_type: str) -> None:
    await balancer.add_servers(1)
    answer = await post(balancer, "create", SLIDES, content_type, query="meetingID=m1&name=Meeting")
    assert answer.returncode == "SUCCESS"
    call = the_call(balancer, "create")
    assert call.method == "POST"
    assert call.body == SLIDES
    assert call.query["meetingID"] == "m1"
    assert len(balancer.nodes["s1"].meetings["m1"].documents) == 2


@pytest.mark.parametrize(
    "body",
    [
        b'<!DOCTYPE m [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><modules>&b;</modules>',
        b"not xml at all \x00\xff",
        b"<modules>" + b"x" * 3_000_000 + b"</modules>",
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_xml_body_is_opaque_and_forwarded_verbatim(balancer: Balancer, body: bytes) -> None:
    await balancer.add_servers(1)
    await post(balancer, "create", body, "application/xml", query="meetingID=m1&name=Meeting")
    assert the_call(balancer, "create").body == body


@pytest.mark.parametrize("body", [b"", b" \r\n\t"])
@pytest_twisted.ensureDeferred
async def test_a_blank_xml_body_makes_a_get(balancer: Balancer, body: bytes) -> None:
    await balancer.add_servers(1)
    answer = await post(balancer, "create", body, "application/xml", query="meetingID=m1&name=Meeting")
    assert answer.returncode == "SUCCESS"
    assert the_call(balancer, "create").method == "GET"


@pytest.mark.parametrize(
    ("longest", "given", "sent"),
    [
        (0, None, None), (0, "500", "500"), (60, None, "60"), (60, "0", "60"), (60, "", "60"), (60, "61", "60"),
        (60, "60", "60"), (60, "59", "59"), (60, "5x", "5x"),
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_the_duration_is_limited(longest: int, given: str | None, sent: str | None) -> None:
    async with running(servers=1, max_meeting_duration=longest) as balancer:
        await create(balancer, **({} if given is None else {"duration": given}))
        assert the_call(balancer, "create").query.get("duration") == sent


@pytest_twisted.ensureDeferred
async def test_a_default_duration_never_shows_where_there_is_a_maximum_and_an_override_beats_it() -> None:
    async with running(servers=1, max_meeting_duration=60, default_create_params={"duration": "30"}) as balancer:
        await create(balancer)
        assert the_call(balancer, "create").query["duration"] == "60"
    async with running(servers=1, max_meeting_duration=60, override_create_params={"duration": "90"}) as balancer:
        await create(balancer, duration="10")
        assert the_call(balancer, "create").query["duration"] == "90"


@pytest_twisted.ensureDeferred
async def test_defaults_excludes_and_overrides_have_their_precedence() -> None:
    async with running(
        servers=1,
        default_create_params={"logo": "default", "welcome": "default", "copyright": "default"},
        override_create_params={"record": "false", "copyright": "override", "voiceBridge": "12345"},
        create_exclude_params=frozenset(("logo", "bannerText", "record", "moderatorPW")),
    ) as balancer:
        await create(
            balancer, logo="mine", welcome="mine", copyright="mine", bannerText="mine", record="true", moderatorPW="mp"
        )
        query = dict(the_call(balancer, "create").query)
        query.pop("checksum")
        assert list(query.items()) == [
            ("logo", "default"),
            ("welcome", "mine"),
            ("copyright", "override"),
            ("meetingID", "m1"),
            ("name", "Meeting"),
            ("voiceBridge", "12345"),
            ("record", "false"),
        ]


# Tags.


@pytest.mark.parametrize(
    ("tag", "taken", "key"),
    [
        (None, "plain", None),
        ("", "plain", None),
        ("!", "plain", None),
        ("gpu", "gpu", None),
        ("gpu!", "gpu", None),
        ("GPU", "plain", None),
        ("GPU!", None, "serverTagUnavailable"),
        ("other", "plain", None),
        ("other;missing!", None, "serverTagUnavailable"),
        ("none!", "plain", None),
        ("other;none!", "plain", None),
        ("big;gpu", "gpu", None),
        (" gpu!", None, "serverTagUnavailable"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_tags_choose_among_the_servers(
    balancer: Balancer, tag: str | None, taken: str | None, key: str | None
) -> None:
    # The tagged ones are loaded less or more than the plain one, so that load alone would choose otherwise.
    await balancer.add_server("plain", load_multiplier=2.0)
    await balancer.add_server("gpu", tag="gpu", load_multiplier=3.0)
    await balancer.add_server("big", tag="big", load_multiplier=4.0)
    for node in balancer.nodes.values():
        node.create("load")
    await balancer.poll_now()
    answer = await create(balancer, **({} if tag is None else {"meta_server-tag": tag}))
    assert answer.key in (key, "" if key is None else key)
    assert await balancer.where("m1") == taken
    if taken is None:
        assert tag is not None
        assert answer.message == f"There is no available server with the required tag={tag[:-1]}."
    else:
        server_tag = the_call(balancer, "create").query.get("meta_server-tag")
        assert server_tag == (None if taken == "plain" else taken)


@pytest_twisted.ensureDeferred
async def test_without_tag_only_untagged_servers_are_chosen(balancer: Balancer) -> None:
    await balancer.add_server("gpu", tag="gpu")
    await balancer.poll_now()
    assert (await create(balancer)).message == "Could not find any available servers."
    assert (await create(balancer, **{"meta_server-tag": "other"})).message == "Could not find any available servers."
    assert (await create(balancer, **{"meta_server-tag": "other!"})).key == "serverTagUnavailable"


@pytest_twisted.ensureDeferred
async def test_a_required_tag_without_any_server_is_the_common_error(balancer: Balancer) -> None:
    assert (await create(balancer, **{"meta_server-tag": "gpu!"})).message == "Could not find any available servers."


@pytest_twisted.ensureDeferred
async def test_the_installations_tag_beats_the_clients_and_is_not_forwarded() -> None:
    async with running(override_create_params={"meta_server-tag": "gpu!", "a": "b"}) as balancer:
        await balancer.add_server("plain")
        await balancer.add_server("gpu", tag="gpu")
        await balancer.poll_now()
        await create(balancer, **{"meta_server-tag": "none"})
        query = the_call(balancer, "create").query
        assert await balancer.where("m1") == "gpu"
        assert query["meta_server-tag"] == "gpu"
        assert query["a"] == "b"


# Voice bridges.


@pytest_twisted.ensureDeferred
async def test_a_taken_number_makes_the_next_draw_count(balancer: Balancer) -> None:
    await balancer.add_servers(1)
    await balancer.redis("HSET", balancer.key("voice_bridges"), "394201124", "other")
    await balancer.redis("HSET", balancer.key("meeting:other"), "server_id", "s1")
    await create(balancer, "test-meeting-1")
    assert the_call(balancer, "create").query["voiceBridge"] == "323861283"


@pytest.mark.parametrize(
    ("external", "given", "sent"),
    [
        (False, "70000", "394201124"),
        (True, "70000", "70000"),
        (True, "", "394201124"),
        (True, "  ", "394201124"),
        (True, None, "394201124"),
        (True, "99999", "394201124"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_clients_number_counts_only_where_it_may(external: bool, given: str | None, sent: str) -> None:
    async with running(servers=1, use_external_voice_bridge=external) as balancer:
        await create(balancer, "test-meeting-1", **({} if given is None else {"voiceBridge": given}))
        assert the_call(balancer, "create").query["voiceBridge"] == sent
        assert (await record_of(balancer, "test-meeting-1"))["voice_bridge"] == sent


@pytest_twisted.ensureDeferred
async def test_a_clients_number_that_is_taken_falls_back_to_the_first_draw() -> None:
    async with running(servers=1, use_external_voice_bridge=True) as balancer:
        await create(balancer, "m1", voiceBridge="70000")
        await create(balancer, "test-meeting-1", voiceBridge="70000")
        assert (await record_of(balancer, "test-meeting-1"))["voice_bridge"] == "394201124"
        # Coming again, with another wish, the meeting keeps its number.
        await create(balancer, "test-meeting-1", voiceBridge="70001")
        assert calls(balancer, "create")[-1].query["voiceBridge"] == "394201124"


@pytest_twisted.ensureDeferred
async def test_numbers_have_the_configured_length() -> None:
    async with running(servers=1, voice_bridge_len=5) as balancer:
        await create(balancer)
        assert len(the_call(balancer, "create").query["voiceBridge"]) == 5


@pytest_twisted.ensureDeferred
async def test_without_any_free_number_the_meeting_is_not_created() -> None:
    async with running(servers=1, voice_bridge_len=1) as balancer:
        await balancer.redis("HSET", balancer.key("meeting:other"), "server_id", "s1")
        for digit in range(10):
            await balancer.redis("HSET", balancer.key("voice_bridges"), str(digit), "other")
        before = await load_of(balancer, "s1")
        answer = await create(balancer)
        assert (answer.code, answer.key) == (200, "internalError")
        assert await record_of(balancer, "m1") == {}
        assert await load_of(balancer, "s1") == before
        assert calls(balancer, "create") == []


@pytest_twisted.ensureDeferred
async def test_numbers_leaked_by_meetings_that_are_gone_are_taken_over() -> None:
    async with running(servers=1, voice_bridge_len=1) as balancer:
        for digit in range(10):
            await balancer.redis("HSET", balancer.key("voice_bridges"), str(digit), "gone")
        assert (await create(balancer)).returncode == "SUCCESS"


# Again.


@pytest_twisted.ensureDeferred
async def test_a_repeated_create_meets_the_same_meeting(balancer: Balancer) -> None:
    await balancer.add_servers(2)
    first = await create(balancer, moderatorPW="mp", attendeePW="ap")
    bridge = (await record_of(balancer, "m1"))["voice_bridge"]
    for _ in range(2):
        again = await create(balancer, moderatorPW="mp", attendeePW="ap", voiceBridge="55555")
        assert again.key == "duplicateWarning"
        assert again.text("createTime") == first.text("createTime")
    assert {call.query["voiceBridge"] for call in calls(balancer, "create")} == {bridge}
    assert balancer.living_on("m1") == ["s1"]
    assert await load_of(balancer, "s2") == 0


@pytest_twisted.ensureDeferred
async def test_passwords_of_a_repeated_create_pass_as_they_are(balancer: Balancer) -> None:
    await balancer.add_servers(1)
    await create(balancer)
    assert (await create(balancer)).key == "duplicateWarning"
    assert "moderatorPW" not in calls(balancer, "create")[-1].query
    refused = await create(balancer, moderatorPW="another")
    assert (refused.code, refused.returncode, refused.key) == (200, "FAILED", "idNotUnique")
    assert await balancer.where("m1") == "s1"
    assert (await record_of(balancer, "m1"))["moderator_pw"] != "another"
    assert (await create(balancer)).key == "duplicateWarning"


@pytest_twisted.ensureDeferred
async def test_an_old_record_without_a_number_sends_the_bare_name(balancer: Balancer) -> None:
    await balancer.add_servers(1)
    await balancer.redis("HSET", balancer.key("meeting:m1"), "server_id", "s1", "moderator_pw", "mp")
    await balancer.redis("SADD", balancer.key("meetings"), "m1")
    assert (await create(balancer)).returncode == "SUCCESS"
    assert "&voiceBridge&checksum=" in the_call(balancer, "create").raw_path


@pytest.mark.parametrize("passwords", [{}, {"moderatorPW": "mp", "attendeePW": "ap"}, {"attendeePW": "ap"}])
@pytest_twisted.ensureDeferred
async def test_fifty_creates_at_once_make_one_meeting(balancer: Balancer, passwords: dict[str, str]) -> None:
    await balancer.add_servers(3)
    answers = await defer.gatherResults(
        [defer.Deferred.fromCoroutine(create(balancer, **passwords)) for _ in range(50)]
    )
    assert [answer.returncode for answer in answers] == ["SUCCESS"] * 50
    assert len({answer.text("createTime") for answer in answers}) == 1
    assert len({answer.text("moderatorPW") for answer in answers}) == 1
    assert len(balancer.living_on("m1")) == 1
    loads = sorted([await load_of(balancer, server_id) or 0 for server_id in balancer.nodes])
    assert loads == [0, 0, 15]
    assert not any(name.startswith("balancer:pending") for name in await bookkeeping(balancer))


@pytest_twisted.ensureDeferred
async def test_creates_of_different_meetings_at_once_spread(balancer: Balancer) -> None:
    await balancer.add_servers(2)
    await defer.gatherResults([defer.Deferred.fromCoroutine(create(balancer, f"m{n}")) for n in range(40)])
    assert [len(node.meetings) for node in balancer.nodes.values()] == [20, 20]
    numbers = await bridges(balancer)
    assert len(numbers) == 40
    assert len(set(numbers.values())) == 40


IDS = [
    "a b",
    "a/b",
    "a%2Fb",
    "100%",
    "ü-ß",
    "会议",
    "👩‍🏫",
    "a+b",
    "a&b=c",
    "a?b#c",
    "x" * 256,
    "meeting:x",
    "{slot}",
    "a:b",
    "*",
    "0",
    "[a]",
]


@pytest.mark.parametrize("meeting_id", [i if len(i) > 1 else i * 2 for i in IDS])
@pytest_twisted.ensureDeferred
async def test_any_meeting_id_lives_a_whole_life(balancer: Balancer, meeting_id: str) -> None:
    await balancer.add_servers(2)
    assert (await create(balancer, meeting_id)).text("meetingID") == meeting_id
    assert balancer.living_on(meeting_id) == ["s1"]
    assert (await balancer.call("getMeetingInfo", meetingID=meeting_id)).text("meetingID") == meeting_id
    assert (await balancer.call("isMeetingRunning", meetingID=meeting_id)).text("running") == "false"
    joined = await balancer.call("join", meetingID=meeting_id, fullName="Ada", role="VIEWER")
    assert joined.location_params["meetingID"] == meeting_id
    assert (await balancer.call("getMeetings")).text("meetings/meeting/meetingID") == meeting_id
    assert (await balancer.call("end", meetingID=meeting_id)).returncode == "SUCCESS"
    assert await bookkeeping(balancer) == set()


@pytest_twisted.ensureDeferred
async def test_ids_are_used_verbatim(balancer: Balancer) -> None:
    await balancer.add_servers(1)
    await create(balancer, "m1")
    for other in ("M1", "m1 ", " m1", "m1\n"):
        assert (await balancer.call("getMeetingInfo", meetingID=other)).key == "notFound"
