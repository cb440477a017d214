"""Dial-in over sockets: what FreeSWITCH is answered, who may ask, and that PINs can't be found out by trying."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote_plus

import pytest
import pytest_twisted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree
from twisted.logger import LogEvent, globalLogPublisher

from scalelite.cluster import dialin
from scalelite.cluster.dialin import Prompts
from scalelite.store.errors import StoreUnavailable
from tests.api.support import FORM, bridges, exchange, running
from tests.balancer import Answer, Balancer

XML = "application/xml; charset=utf-8"
PIN = "123456789"
DIALED = "+49301234"


@pytest_twisted.async_yield_fixture()
async def balancer() -> AsyncIterator[Balancer]:
    """A balancer with a server and a meeting with a number."""
    async with running() as running_balancer:
        await prepare(running_balancer)
        yield running_balancer


async def prepare(balancer: Balancer) -> None:
    await record_server(balancer, "s7", "https://bbb7.example.net:8443/bigbluebutton/api")
    await record_meeting(balancer, "room-42", PIN)


async def record_server(balancer: Balancer, server_id: str, url: str) -> None:
    await balancer.redis("HSET", balancer.key(f"server:{server_id}"), "url", url, "secret", "s", "online", "true")
    await balancer.redis("SADD", balancer.key("servers"), server_id)


async def record_meeting(balancer: Balancer, meeting_id: str, pin: str, **fields: str) -> None:
    """Record a meeting as Scalelite does."""
    pairs = {"server_id": "s7", "moderator_pw": "pw", "voice_bridge": pin, **fields}
    await balancer.redis("SADD", balancer.key("meetings"), meeting_id)
    await balancer.redis("HSET", balancer.key(f"meeting:{meeting_id}"), *[x for pair in pairs.items() for x in pair])
    await balancer.redis("HSET", balancer.key("voice_bridges"), pin, meeting_id)


def basic(password: str = "secret", user: str = "fsapi", scheme: str = "Basic") -> dict[str, str]:
    return {"Authorization": f"{scheme} {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def form(**fields: str) -> bytes:
    """What FreeSWITCH sends of a call: the variables asked for, and a great many others."""
    known = {"dialed": "Caller-Destination-Number", "pin": "variable_pin", "name": "Caller-Caller-ID-Name",
             "number": "Caller-Caller-ID-Number", "hide_name": "Caller-Privacy-Hide-Name",
             "hide_number": "Caller-Privacy-Hide-Number", "call": "Unique-ID"}  # fmt: skip
    sent = {"hostname": "gw", "section": "dialplan", "variable_sip_user_agent": "x/1.0 (a&b)", "dialed": DIALED}
    pairs = {known.get(name, name): value for name, value in {**sent, **fields}.items()}
    return "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs.items()).encode()


async def ask(balancer: Balancer, **fields: str) -> Answer:
    return await send(balancer, form(**fields))


async def send(
    balancer: Balancer,
    body: bytes | None,
    content_type: str | None = FORM,
    query: str = "",
    method: str = "POST",
    path: str = "/fsapi",
    headers: dict[str, str] | None = None,
) -> Answer:
    sent = {**(basic() if headers is None else headers), **({"Content-Type": content_type} if content_type else {})}
    url = f"http://127.0.0.1:{balancer.port}{path}{query}"
    return await balancer.request(method, url, body=body, headers=sent)


def bridged(name: str = "Unavailable", pin: str = PIN, meeting_id: str = "room-42", dialed: str = DIALED) -> bytes:
    return dialin.bridge(dialed, meeting_id, name, pin, "bbb7.example.net")


async def counters(balancer: Balancer) -> dict[str, int]:
    keys = await balancer.redis("KEYS", balancer.key("balancer:dialin:*"))
    return {key.removeprefix(balancer.key("balancer:dialin:")): int(await balancer.redis("GET", key)) for key in keys}


@pytest_twisted.ensureDeferred
async def test_a_call_is_asked_for_its_pin_and_connected(balancer: Balancer) -> None:
    answer = await ask(balancer, name="5551234")
    assert (answer.code, answer.headers["content-type"]) == (200, XML)
    assert answer.body == dialin.prompt(DIALED, Prompts())
    # FreeSWITCH transfers the call to the PIN, which is then what was dialed.
    answer = await ask(balancer, dialed=PIN, pin=PIN, name="5551234")
    assert (answer.code, answer.headers["content-type"]) == (200, XML)
    assert answer.body == bridged("555XXXX", dialed=PIN)
    answer = await ask(balancer, dialed="99999", pin="99999")
    assert (answer.code, answer.headers["content-type"]) == (200, XML)
    assert answer.body == dialin.reprompt("99999", Prompts())


@pytest.mark.parametrize(
    "fields",
    [{"section": "directory"}, {"section": ""}, {"section": "Dialplan"}, {"dialed": ""}, {"dialed": "  "},
     {"dialed": "1" * 257}, {"section": "configuration", "pin": PIN}],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_what_is_no_dialed_call_is_not_found(balancer: Balancer, fields: dict[str, str]) -> None:
    answer = await ask(balancer, **fields)
    assert (answer.code, answer.headers["content-type"], answer.body) == (200, XML, dialin.REJECT)


@pytest_twisted.ensureDeferred
async def test_absent_fields_are_as_blank_ones(balancer: Balancer) -> None:
    for body in (b"", b"section=dialplan", b"section&Caller-Destination-Number=1", b"Caller-Destination-Number=1"):
        assert (await send(balancer, body)).body == dialin.REJECT, body
    for body in (
        b"section=dialplan&Caller-Destination-Number=1",
        b"section=dialplan&Caller-Destination-Number=1&variable_pin",
    ):
        assert (await send(balancer, body)).body == dialin.prompt("1", Prompts())
    assert (await ask(balancer, pin="  ")).body == dialin.prompt(DIALED, Prompts())


@pytest_twisted.ensureDeferred
async def test_digits_and_length_of_a_call_are_configurable() -> None:
    async with running(voice_bridge_min=4, voice_bridge_max=12, max_meeting_duration=90) as balancer:
        assert (await ask(balancer)).body == dialin.prompt(DIALED, Prompts(4, 12, 90))
    async with running(fsapi_max_duration=30, max_meeting_duration=90) as balancer:
        assert b'data="+1800 normal_clearing"' in (await ask(balancer)).body
    async with running(fsapi_max_duration=0, max_meeting_duration=90) as balancer:
        assert b"sched_hangup" not in (await ask(balancer)).body


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"name": "5551234"}, "555XXXX"),
        ({"name": "+49 30 1234567"}, "+49 30 123XXXX"),
        ({"name": "5551234", "hide_number": "true"}, "Unavailable"),
        ({"name": "5551234", "hide_name": "true"}, "555XXXX"),
        ({"name": "Ann & Bob <x>"}, "Ann & Bob <x>"),
        ({"name": "Ann", "hide_name": "true"}, "Unavailable"),
        ({"name": "Ann", "hide_name": "false", "hide_number": "true"}, "Ann"),
        ({"name": "會議"}, "會議"),
        ({}, "Unavailable"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_others_see_of_a_caller_what_may_be_seen(balancer: Balancer, fields: dict[str, str], shown: str) -> None:
    assert (await ask(balancer, pin=PIN, **fields)).body == bridged(shown)


# Meetings


@pytest_twisted.ensureDeferred
async def test_a_breakout_rooms_number_leads_to_its_meetings_server(balancer: Balancer) -> None:
    assert (await ask(balancer, pin=PIN + "3")).body == bridged(pin=PIN + "3")
    assert (await ask(balancer, pin=PIN + "33")).body == dialin.reprompt(DIALED, Prompts())
    # A number of five digits has no room's digit.
    await record_meeting(balancer, "small", "1234")
    await record_meeting(balancer, "five", "55555")
    assert (await ask(balancer, pin="12345")).body == dialin.reprompt(DIALED, Prompts())
    assert (await ask(balancer, pin="1234")).body == bridged(pin="1234", meeting_id="small")
    assert (await ask(balancer, pin="555551")).body == bridged(pin="555551", meeting_id="five")
    # A meeting of its own goes first.
    await record_meeting(balancer, "other", "555551")
    assert (await ask(balancer, pin="555551")).body == bridged(pin="555551", meeting_id="other")


@pytest_twisted.ensureDeferred
async def test_a_number_whose_meeting_is_over_is_unknown(balancer: Balancer) -> None:
    await record_meeting(balancer, "old", PIN + "1")
    await balancer.redis("DEL", balancer.key("meeting:old"))
    assert (await ask(balancer, pin=PIN + "1")).body == bridged(pin=PIN + "1")
    await balancer.redis("DEL", balancer.key("meeting:room-42"))
    assert (await ask(balancer, pin=PIN)).body == dialin.reprompt(DIALED, Prompts())
    await balancer.redis("SET", balancer.key("meeting:room-42"), "foreign")
    assert (await ask(balancer, pin=PIN)).body == dialin.reprompt(DIALED, Prompts())


@pytest_twisted.ensureDeferred
async def test_a_meeting_is_found_whatever_its_tenant() -> None:
    async with running(multitenancy_enabled=True) as balancer:
        await prepare(balancer)
        await record_meeting(balancer, "room-43", "987654321", tenant_id="t1")
        assert (await ask(balancer, pin="987654321")).body == bridged(pin="987654321", meeting_id="room-43")
        assert (await ask(balancer, pin=PIN)).body == bridged()


@pytest.mark.parametrize("url", [None, "https:///api", "https://bad host/api", "https://${x}/api"])
@pytest_twisted.ensureDeferred
async def test_a_meeting_without_a_server_to_call_is_an_error(balancer: Balancer, url: str | None) -> None:
    if url is None:
        await balancer.redis("DEL", balancer.key("server:s7"))
    else:
        await balancer.redis("HSET", balancer.key("server:s7"), "url", url)
    answer = await ask(balancer, pin=PIN)
    assert (answer.code, answer.headers["content-type"], answer.body) == (500, XML, dialin.REJECT)


@pytest_twisted.ensureDeferred
async def test_a_created_meeting_can_be_dialed() -> None:
    async with running(servers=1) as balancer:
        assert (await balancer.call("create", meetingID="room", name="Room")).returncode == "SUCCESS"
        (pin,) = await bridges(balancer)
        assert (await ask(balancer, pin=pin)).body == dialin.bridge(DIALED, "room", "Unavailable", pin, "127.0.0.1")
        await balancer.call("end", meetingID="room")
        assert (await ask(balancer, pin=pin)).body == dialin.reprompt(DIALED, Prompts())


@pytest_twisted.ensureDeferred
async def test_a_failing_store_is_told_in_freeswitchs_terms(
    balancer: Balancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> Any:
        raise StoreUnavailable("down")

    monkeypatch.setattr(balancer.parts.redis, "run", fail)
    answer = await ask(balancer, pin=PIN)
    assert (answer.code, answer.headers["content-type"], answer.body) == (503, XML, dialin.REJECT)
    # To ask for a PIN needs no store.
    assert (await ask(balancer)).body == dialin.prompt(DIALED, Prompts())


# Who may ask


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("wrong"),
        basic(""),
        basic("secret2"),
        basic(user="admin"),
        basic(user="FSAPI"),
        basic(user=""),
        basic(scheme="Bearer"),
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic ZnNhcGk6 c2VjcmV0"},
        {"Authorization": "Basic " + base64.b64encode(b"fsapi:\xff").decode()},
        {"Authorization": "fsapi:secret"},
    ],
)
@pytest_twisted.ensureDeferred
async def test_only_freeswitch_may_ask(balancer: Balancer, headers: dict[str, str]) -> None:
    for pin in ("", PIN):
        answer = await send(balancer, form(pin=pin), headers=headers)
        assert (answer.code, answer.body) == (401, b"HTTP Basic: Access denied.\n")
        assert answer.headers["www-authenticate"] == 'Basic realm="scalelite"'
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert await counters(balancer) == {}


@pytest_twisted.ensureDeferred
async def test_the_realm_is_the_host_where_there_is_one() -> None:
    async with running(url_host="lb.example") as balancer:
        answer = await send(balancer, form(), headers={})
        assert answer.headers["www-authenticate"] == 'Basic realm="lb.example"'


@pytest.mark.parametrize("scheme", ["basic", "BASIC", "Basic "])
@pytest_twisted.ensureDeferred
async def test_the_schemes_letter_case_does_not_matter(balancer: Balancer, scheme: str) -> None:
    assert (await send(balancer, form(), headers=basic(scheme=scheme))).code == 200


@pytest_twisted.ensureDeferred
async def test_a_password_of_its_own_replaces_the_front_ends_secret() -> None:
    async with running(fsapi_password="pa:ss wörd") as balancer:
        assert (await send(balancer, form(), headers=basic("pa:ss wörd"))).code == 200
        assert (await send(balancer, form(), headers=basic("secret"))).code == 401
    async with running(loadbalancer_secrets=(b"one", b"two")) as balancer:
        assert (await send(balancer, form(), headers=basic("one"))).code == 200
        assert (await send(balancer, form(), headers=basic("two"))).code == 401


@pytest_twisted.ensureDeferred
async def test_an_empty_password_lets_everybody_ask() -> None:
    for options in ({"fsapi_password": ""}, {"loadbalancer_secrets": ()}):
        async with running(**options) as balancer:
            for headers in ({}, basic("anything")):
                assert (await send(balancer, form(), headers=headers)).body == dialin.prompt(DIALED, Prompts())


@pytest_twisted.ensureDeferred
async def test_two_authorizations_are_none(balancer: Balancer) -> None:
    authorization = f"Authorization: {basic()['Authorization']}\r\n".encode()
    head = b"POST /fsapi HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n"
    (answer,) = await exchange(balancer.port, head + authorization + b"\r\n")
    assert answer.status == 200
    (answer,) = await exchange(balancer.port, head + authorization * 2 + b"\r\n")
    assert answer.status == 401


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
@pytest_twisted.ensureDeferred
async def test_other_methods_are_unsupported(balancer: Balancer, method: str) -> None:
    answer = await send(balancer, None, None, method=method)
    assert answer.code == 200
    assert method == "HEAD" or answer.key == "unsupportedRequest"


@pytest.mark.parametrize("path", ["/fsapi/x", "/fsapi.xml", "/FSAPI", "/x/fsapi"])
@pytest_twisted.ensureDeferred
async def test_other_paths_are_unsupported(balancer: Balancer, path: str) -> None:
    assert (await send(balancer, form(), path=path)).key == "unsupportedRequest"


# Bodies


@pytest_twisted.ensureDeferred
async def test_a_name_of_foreign_bytes_stops_no_call(balancer: Balancer) -> None:
    for foreign in (b"M%FCller", b"M\xfcller", b"50%", b"a%00b"):
        body = form(pin=PIN) + b"&Caller-Caller-ID-Name=" + foreign + b"&variable_x=" + foreign + b"&%FF=1"
        assert (await send(balancer, body)).body == bridged(), foreign
        assert (await send(balancer, form() + b"&variable_pin=" + foreign)).body == dialin.prompt(DIALED, Prompts())
    assert (await send(balancer, b"section=dialplan&Caller-Destination-Number=%FF")).body == dialin.REJECT


@pytest_twisted.ensureDeferred
async def test_a_call_may_have_many_variables(balancer: Balancer) -> None:
    body = b"&".join(b"variable_%d=x" % i for i in range(10_000)) + b"&" + form(pin=PIN)
    assert (await send(balancer, body)).body == bridged()


@pytest_twisted.ensureDeferred
async def test_a_multipart_form_is_taken_as_well(balancer: Balancer) -> None:
    fields = {"section": "dialplan", "Caller-Destination-Number": DIALED, "variable_pin": PIN}
    parts = "".join(
        f'--xx\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    )
    body = f"{parts}--xx--\r\n".encode()
    assert (await send(balancer, body, "multipart/form-data; boundary=xx")).body == bridged()
    broken = await send(balancer, body[:-9], "multipart/form-data; boundary=xx")
    assert (broken.code, broken.headers["content-type"], broken.body) == (400, XML, dialin.REJECT)


@pytest_twisted.ensureDeferred
async def test_the_query_counts_as_well(balancer: Balancer) -> None:
    assert (await send(balancer, form(), query=f"?variable_pin={PIN}")).body == bridged()
    assert (await send(balancer, b"", None, query="?" + form(pin=PIN).decode())).body == bridged()


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/xml", None])
@pytest_twisted.ensureDeferred
async def test_another_kind_of_body_is_refused(balancer: Balancer, content_type: str | None) -> None:
    answer = await send(balancer, form(), content_type)
    assert (answer.code, answer.headers["content-type"], answer.body) == (415, XML, dialin.REJECT)


@pytest_twisted.ensureDeferred
async def test_a_body_has_a_largest_size(balancer: Balancer) -> None:
    answer = await send(balancer, form() + b"&x=" + b"y" * 2 * 1024 * 1024)
    assert (answer.code, answer.headers["content-type"], answer.body) == (400, XML, dialin.REJECT)


# Guessing


async def guess(balancer: Balancer, count: int, **fields: str) -> list[bytes]:
    """Try wrong PINs; the answers."""
    return [(await ask(balancer, pin=f"{88000 + i}", **fields)).body for i in range(count)]


REPROMPT = dialin.reprompt(DIALED, Prompts())


@pytest_twisted.ensureDeferred
async def test_a_call_with_too_many_wrong_pins_gets_no_further(balancer: Balancer) -> None:
    tried = await guess(balancer, 11, call="c1")
    assert tried == [REPROMPT] * 9 + [dialin.REJECT] * 2
    # The right one helps no more, else trying would.
    assert (await ask(balancer, pin=PIN, call="c1")).body == dialin.REJECT
    assert (await ask(balancer, pin=PIN, call="c2")).body == bridged()


@pytest_twisted.ensureDeferred
async def test_a_number_with_too_many_wrong_pins_is_refused_in_every_call(balancer: Balancer) -> None:
    for i in range(9):
        assert await guess(balancer, 1, call=f"c{i}", number="+49 30 12345") == [REPROMPT]
    assert await guess(balancer, 1, call="c9", number="+493012345") == [dialin.REJECT]
    assert (await ask(balancer, pin=PIN, call="c10", number="(+49)30/12345")).body == dialin.REJECT
    assert (await ask(balancer, pin=PIN, call="c10", number="+493012346")).body == bridged()


@pytest.mark.parametrize("number", ["", "anonymous", "Restricted"])
@pytest_twisted.ensureDeferred
async def test_callers_without_number_do_not_lock_each_other_out(balancer: Balancer, number: str) -> None:
    assert (await guess(balancer, 10, call="c1", number=number))[-1] == dialin.REJECT
    assert (await ask(balancer, pin=PIN, call="c2", number=number)).body == bridged()


@pytest_twisted.ensureDeferred
async def test_many_callers_together_are_limited_too() -> None:
    async with running(fsapi_max_guesses=3, fsapi_max_guesses_total=5) as balancer:
        await prepare(balancer)
        tried = [(await guess(balancer, 1, call=f"c{i}", number=f"{i}"))[0] for i in range(20)]
        assert tried == [REPROMPT] * 4 + [dialin.REJECT] * 16
        assert (await ask(balancer, pin=PIN, call="new", number="777")).body == dialin.REJECT
        # And they fill no memory: a record for each counted call and number, and one for all.
        assert sorted((await counters(balancer)).values()) == [1] * 10 + [5]


@pytest_twisted.ensureDeferred
async def test_wrong_pins_are_forgotten_after_ten_minutes_from_the_first(balancer: Balancer) -> None:
    await guess(balancer, 10, call="c1", number="1")
    for key in await balancer.redis("KEYS", balancer.key("balancer:dialin:*")):
        assert 590 < await balancer.redis("TTL", key) <= 600
        await balancer.redis("EXPIRE", key, "0")
    assert (await ask(balancer, pin=PIN, call="c1", number="1")).body == bridged()


@pytest_twisted.ensureDeferred
async def test_right_pins_count_nothing(balancer: Balancer) -> None:
    for _ in range(15):
        assert (await ask(balancer, pin=PIN, call="c1", number="1")).body == bridged()
    assert await counters(balancer) == {}


@pytest.mark.parametrize(
    "pin", ["12345,", "x", "${pin}", "9" * 33, "-1", "٣٣٣٣٣", f"{PIN} ", f"{PIN},sofia/external/1"]
)
@pytest_twisted.ensureDeferred
async def test_a_pin_that_is_no_number_is_a_wrong_one(balancer: Balancer, pin: str) -> None:
    await record_meeting(balancer, "odd", pin)
    await record_meeting(balancer, "shorter", "12345")
    assert (await ask(balancer, pin=pin)).body == REPROMPT
    assert await counters(balancer) == {"all": 1}


@pytest_twisted.ensureDeferred
async def test_the_limits_can_be_lifted() -> None:
    async with running(fsapi_max_guesses=0, fsapi_max_guesses_total=0) as balancer:
        assert await guess(balancer, 15, call="c1", number="1") == [REPROMPT] * 15
        assert await counters(balancer) == {}


@pytest_twisted.ensureDeferred
async def test_neither_numbers_nor_pins_are_kept_or_logged(balancer: Balancer) -> None:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    try:
        await guess(balancer, 12, call="call-id-5", number="4930999888", name="4930999888")
        await balancer.redis("DEL", balancer.key("server:s7"))
        await ask(balancer, pin=PIN)
    finally:
        globalLogPublisher.removeObserver(events.append)
    ours = [event for event in events if str(event.get("log_namespace")).startswith("scalelite.")]
    assert len(ours) == 4
    told = " ".join(map(repr, events)) + " ".join(await balancer.redis("KEYS", "*"))
    assert not re.search(rf"999888|880\d\d|call-id-5|{PIN}|secret", told)


# Injection

hostile = st.text(st.one_of(st.sampled_from("${}\\'\"<>&()\n\r\t,|@ 019aä"), st.characters(codec="utf-8")), max_size=40)


def shape(document: bytes) -> list[tuple[str, list[str]]]:
    return [(element.tag, list(element.attrib)) for element in etree.fromstring(document).iter()]


@given(dialed=hostile, name=hostile, hide=hostile, number=hostile, pin=hostile)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@pytest_twisted.ensureDeferred
async def test_nothing_that_a_caller_sends_changes_the_form_of_an_answer(
    open_balancer: Balancer, dialed: str, name: str, hide: str, number: str, pin: str
) -> None:
    forms = {
        False: {tuple(map(repr, shape(x))) for x in (dialin.REJECT, dialin.prompt("1", Prompts()), REPROMPT)},
        True: {tuple(map(repr, shape(x))) for x in (dialin.REJECT, bridged())},
    }
    for right in (False, True):
        fields = {"dialed": dialed, "name": name, "hide_name": hide, "number": number, "call": number}
        answer = await ask(open_balancer, pin=PIN if right else pin, **fields)
        assert answer.code == 200
        assert tuple(map(repr, shape(answer.body))) in forms[right]
        if right and answer.body != dialin.REJECT:
            last = etree.fromstring(answer.body).findall(".//action")[-1]
            assert dict(last.attrib) == {"application": "bridge", "data": f"sofia/external/{PIN}@bbb7.example.net"}


@pytest_twisted.async_yield_fixture(scope="module")
async def open_balancer() -> AsyncIterator[Balancer]:
    """A balancer with a meeting, and no limit for guessing."""
    async with running(fsapi_max_guesses=0, fsapi_max_guesses_total=0) as running_balancer:
        await prepare(running_balancer)
        yield running_balancer
