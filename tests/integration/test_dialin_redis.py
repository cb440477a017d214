"""Dial-in by whole programs in production on one redis-server, asked as FreeSWITCH's mod_xml_curl asks."""

from __future__ import annotations

import base64
import http.client
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

import pytest
from lxml import etree

from tests.integration.command_line import record_meeting
from tests.integration.processes import PATIENCE, SECRET, Program, eventually
from tests.integration.redis_server import RedisServer

pytestmark = pytest.mark.integration

HOST = "bbb.example.com"
PASSWORD = "of the gateway"
PIN = "394201124"
DOCS = Path(__file__).parents[2] / "docs" / "dialin.md"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis with a server and a meeting, as Scalelite records them."""
    with RedisServer() as server:
        record(server)
        yield server


def record(redis: RedisServer) -> None:
    url = "https://bbb7.example.net:8443/bigbluebutton/api"
    redis.command("HSET", "scalelite:server:s7", "url", url, "secret", "s", "online", "true")
    redis.command("SADD", "scalelite:servers", "s7")
    record_meeting(redis, "room-42", "s7", PIN)


@pytest.fixture
def gateways(redis: RedisServer) -> Iterator[list[Program]]:
    """Two instances, one of them with workers."""
    settings = {
        "SCALELITE_ENV": "production",
        "SECRET_KEY_BASE": "x" * 32,
        "URL_HOST": HOST,
        "REDIS_URL": redis.url,
        "RAILS_LOG_TO_STDOUT": "true",
        "FSAPI_PASSWORD": PASSWORD,
        "SCALELITE_FSAPI_MAX_GUESSES": "3",
        # A server that never answers would be taken offline.
        "POLL_INTERVAL": "3600",
    }
    with ExitStack() as stack:
        programs = []
        for workers in ("0", "2"):
            folder = Path(tempfile.mkdtemp(prefix="sl-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            programs.append(stack.enter_context(Program(folder, WEB_CONCURRENCY=workers, **settings)))
        for program in programs:
            program.logged("^listening on ")
        yield programs


def ask(program: Program, *, password: str = PASSWORD, host: str = HOST, **variables: str) -> tuple[int, str]:
    """Status and body for a call to +49301234 with these variables; those of a caller named as FreeSWITCH does."""
    names = {"pin": "variable_pin", "name": "Caller-Caller-ID-Name", "call": "Unique-ID"}
    fields = {"section": "dialplan", "Caller-Destination-Number": "+49301234", "hostname": "gw"}
    form = urlencode(fields | {names[name]: value for name, value in variables.items()})
    login = base64.b64encode(f"fsapi:{password}".encode()).decode()
    headers = {"Host": host, "Authorization": f"Basic {login}", "Content-Type": "application/x-www-form-urlencoded"}
    connection = program.open()
    try:
        connection.request("POST", "/fsapi", form, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def actions(answer: tuple[int, str]) -> list[tuple[str, str]]:
    """What FreeSWITCH is told to do, with the dialplan's name in front."""
    status, text = answer
    assert status == 200
    document = etree.fromstring(text.encode())
    extension = document.find("section/context/extension")
    if extension is None:
        return [("result", document.find("section/result").get("status"))]
    found = [(action.get("application"), action.get("data", "")) for action in extension.iterfind("condition/action")]
    return [("extension", extension.get("name")), *found]


BRIDGED = [
    ("extension", "bridge_to_bbb_server"),
    ("set", "meeting_id=room-42"),
    ("set", "effective_caller_id_name=555XXXX"),
    ("bridge", f"sofia/external/{PIN}@bbb7.example.net"),
]


def test_a_call_is_asked_for_its_pin_and_connected(gateways: list[Program], redis: RedisServer) -> None:
    for program in gateways:
        asked = actions(ask(program, call="c1"))
        assert asked[0] == ("extension", "match_did_and_prompt_for_pin")
        assert (asked[-2][0], asked[-1]) == ("play_and_get_digits", ("transfer", "${pin} XML public"))
        assert actions(ask(program, call="c1", pin=PIN, name="5551234")) == BRIDGED
        breakout = actions(ask(program, call="c1", pin=PIN + "3", name="5551234"))
        assert breakout[-1] == ("bridge", f"sofia/external/{PIN}3@bbb7.example.net")
    assert redis.command("KEYS", "scalelite:balancer:dialin:*") == ""


def test_wrong_pins_are_counted_for_all_instances_and_the_documented_command_lifts_the_limit(
    gateways: list[Program], redis: RedisServer
) -> None:
    caller = {"call": "c2", "name": "5551234"}
    first, second = gateways
    assert actions(ask(first, pin="1000001", **caller))[0] == ("extension", "reprompt_for_pin")
    assert actions(ask(second, pin="1000002", **caller))[0] == ("extension", "reprompt_for_pin")
    assert actions(ask(second, pin="1000003", **caller)) == [("result", "not found")]
    for program in gateways:
        assert actions(ask(program, pin=PIN, **caller)) == [("result", "not found")]
        assert actions(ask(program, pin=PIN, call="c3", name="5551234")) == BRIDGED
        program.logged("dial-in refused: too many wrong PINs")
    keys = redis.command("KEYS", "scalelite:balancer:dialin:*").splitlines()
    assert sorted(redis.command("GET", key).strip() for key in keys) == ["3", "3"]
    assert all(0 < int(redis.command("TTL", key)) <= 600 for key in keys)
    assert not any("c2" in key or "5551234" in key for key in keys)
    (command,) = re.findall(r"`(redis-cli --scan [^`]*)`", DOCS.read_text().replace("\n", " "))
    subprocess.run(
        command.replace("redis-cli", f"redis-cli -p {redis.port}"), shell=True, check=True, timeout=PATIENCE,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert actions(ask(first, pin=PIN, **caller)) == BRIDGED


def test_nobody_else_may_ask(gateways: list[Program]) -> None:
    for program in gateways:
        assert ask(program, password=SECRET) == (401, "HTTP Basic: Access denied.\n")
        assert ask(program, host="evil.example.com")[0] == 403
        assert program.get("/fsapi")[0] == 403
        connection: http.client.HTTPConnection = program.open()
        connection.request("GET", "/fsapi", headers={"Host": HOST})
        assert b"unsupportedRequest" in connection.getresponse().read()
        connection.close()
        assert PASSWORD not in program.text


def test_without_redis_a_call_is_given_back_to_freeswitch(gateways: list[Program], redis: RedisServer) -> None:
    redis.stop()
    for program in gateways:
        status, text = ask(program, call="c4", pin=PIN)
        assert status == 503
        assert etree.fromstring(text.encode()).find("section/result").get("status") == "not found"
    redis.start()
    record(redis)
    for program in gateways:
        assert eventually(lambda program=program: ask(program, call="c4", pin=PIN)[0] == 200)
        assert actions(ask(program, call="c4", pin=PIN, name="5551234")) == BRIDGED
