"""Which paths and methods there are, and what everything else is answered."""

from __future__ import annotations

import pytest
import pytest_twisted

from scalelite.bbb import errors, xml
from tests.api.support import exchange, post, running
from tests.balancer import Balancer

SIGNED = {
    "isMeetingRunning": "GET POST",
    "getMeetingInfo": "GET POST",
    "create": "GET POST",
    "end": "GET POST",
    "getMeetings": "GET POST",
    "join": "GET",
    "sendChatMessage": "GET",
    "insertDocument": "POST",
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
UNSUPPORTED = xml.render_error(errors.UnsupportedRequest())


def allowed(action: str) -> list[str]:
    return SIGNED[action].split()


@pytest.mark.parametrize("action", SIGNED)
@pytest_twisted.ensureDeferred
async def test_signed_actions_take_their_methods_and_no_others(shared: Balancer, action: str) -> None:
    for method in METHODS:
        answer = await shared.request(method, f"{shared.api}/{action}?meetingID=m1")
        assert answer.code == 200
        assert answer.key == ("checksumError" if method in allowed(action) else "unsupportedRequest"), method
        if method not in allowed(action):
            assert answer.body == UNSUPPORTED


@pytest.mark.parametrize("action", [action for action in SIGNED if "GET" in SIGNED[action]])
@pytest_twisted.ensureDeferred
async def test_get_routes_answer_head_without_a_body(shared: Balancer, action: str) -> None:
    url = shared.url(action, meetingID="unknown")
    got = await shared.request("GET", url)
    head = await shared.request("HEAD", url)
    assert head.code == got.code
    assert head.body == b""
    assert head.headers["content-length"] == str(len(got.body))
    assert head.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize("method", ["post", "Head", "gEt"])
@pytest.mark.parametrize("path", ["/bigbluebutton/api/create", "/scalelite/api/getServers", "/health_check.xml"])
@pytest_twisted.ensureDeferred
async def test_methods_know_letter_case(shared: Balancer, method: str, path: str) -> None:
    sent = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    (answer,) = await exchange(shared.port, sent.encode())
    assert answer.body == UNSUPPORTED


@pytest.mark.parametrize("path", ["insertDocument", "analytics_callback"])
@pytest_twisted.ensureDeferred
async def test_post_routes_do_not_answer_head(shared: Balancer, path: str) -> None:
    answer = await shared.request("HEAD", f"{shared.api}/{path}")
    assert (answer.code, answer.headers["content-length"]) == (200, str(len(UNSUPPORTED)))


@pytest.mark.parametrize("suffix", ["", "/", "?x=1", "/?x=1"])
@pytest_twisted.ensureDeferred
async def test_the_index_answers_anybody(shared: Balancer, suffix: str) -> None:
    for method in ("GET", "POST"):
        answer = await shared.request(method, shared.api + suffix)
        assert answer.code == 200
        assert [(e.tag, e.text) for e in answer.xml] == [("returncode", "SUCCESS"), ("version", "2.0")]
    assert (await shared.request("PUT", shared.api + suffix)).key == "unsupportedRequest"


@pytest_twisted.ensureDeferred
async def test_the_index_shows_the_build_number() -> None:
    async with running(build_number="v1.8") as balancer:
        assert (await balancer.request("GET", balancer.api)).text("build") == "v1.8"


@pytest.mark.parametrize(
    "path",
    [
        "/bigbluebutton/api/getMeetings/",
        "/bigbluebutton/api//getMeetings",
        "/bigbluebutton//api/getMeetings",
        "//bigbluebutton/api///getMeetings//",
    ],
)
@pytest_twisted.ensureDeferred
async def test_trailing_and_doubled_slashes_are_tolerated(shared: Balancer, path: str) -> None:
    url = f"http://127.0.0.1:{shared.port}{path}?checksum={shared.sign('getMeetings', '')}"
    assert (await shared.request("GET", url)).key == "noMeetings"
    assert (await shared.request("POST", url)).key == "noMeetings"


@pytest.mark.parametrize(
    "path",
    [
        "/bigbluebutton/api/getMeetings.xml", "/bigbluebutton/api/getMeetings.json", "/bigbluebutton/api/getmeetings",
        "/bigbluebutton/api/GetMeetings", "/BigBlueButton/api/getMeetings", "/bigbluebutton/API/getMeetings",
        "/bigbluebutton/api/getMeetings/x", "/bigbluebutton/api.xml", "/bigbluebutton", "/api/getMeetings",
        "/bigbluebutton/api/../api/getMeetings", "/bigbluebutton/api/getMeetings%2F",
        "/bigbluebutton/api/getMeetings;x",
        "/bigbluebutton/api/getDefaultConfigXML", "/bigbluebutton/api/setConfigXML",
        "/bigbluebutton/api/getRecordingTextTracks", "/bigbluebutton/api/putRecordingTextTrack",
        "/bigbluebutton/api/getJoinUrl", "/bigbluebutton/api/enter", "/bigbluebutton/api/signOut",
        "/bigbluebutton/api/stuns", "/bigbluebutton/api/feedback", "/bigbluebutton/api/learningDashboard",
        "/bigbluebutton/api/guestWait", "/bigbluebutton/api/getSessions", "/bigbluebutton/api/hooks/create",
        "/bigbluebutton/api/hooks/list", "/bigbluebutton/api/hooks/destroy", "/favicon.ico", "/x/y/z", "/%20",
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_everything_else_is_unsupported(shared: Balancer, path: str) -> None:
    checksum = shared.sign("getMeetings", "")
    for method in ("GET", "POST", "DELETE"):
        answer = await shared.request(method, f"http://127.0.0.1:{shared.port}{path}?checksum={checksum}")
        assert answer.code == 200
        assert answer.body == UNSUPPORTED
        assert answer.headers["content-type"] == "text/xml; charset=utf-8"


@pytest.mark.parametrize(
    "line",
    [
        b"OPTIONS * HTTP/1.1",
        b"GET * HTTP/1.1",
        b"CONNECT example.org:443 HTTP/1.1",
        b"BREW /bigbluebutton/api HTTP/1.1",
        b"GET bigbluebutton/api HTTP/1.1",
    ],
)
@pytest_twisted.ensureDeferred
async def test_odd_request_lines_get_xml_as_well(shared: Balancer, line: bytes) -> None:
    (answer,) = await exchange(shared.port, line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.status == 200
    assert answer.body == UNSUPPORTED


@pytest_twisted.ensureDeferred
async def test_a_target_in_absolute_form_is_taken(shared: Balancer) -> None:
    (answer,) = await exchange(
        shared.port,
        b"GET http://lb.example/bigbluebutton/api HTTP/1.1\r\nHost: lb.example\r\nConnection: close\r\n\r\n",
    )
    assert b"<version>2.0</version>" in answer.body


@pytest.mark.parametrize(
    "head",
    [
        b"GET /bigbluebutton/api/%FF HTTP/1.1\r\nHost: x",
        b"GET /%C3%28 HTTP/1.1\r\nHost: x",
        b"GET /nothing HTTP/1.1\r\nHost: \xff\xfe",
        b"GET /nothing?%FF=%zz HTTP/1.1\r\nHost: x",
        b"GET /nothing HTTP/1.1\r\nHost: [::1",
        b"GET /nothing HTTP/1.1\r\nHost: a:b:c",
        b"GET /nothing HTTP/1.1\r\nHost: a..b",
        b"GET /nothing HTTP/1.1\r\nHost: " + b"a" * 100 + b".example",
        b"GET /nothing HTTP/1.1",
        b"GET /%00 HTTP/1.1\r\nHost: x",
        b"GET /..%2f..%2fetc/passwd HTTP/1.1\r\nHost: x",
    ],
)
@pytest_twisted.ensureDeferred
async def test_undecodable_paths_and_hosts_get_xml(shared: Balancer, head: bytes) -> None:
    (answer,) = await exchange(shared.port, head + b"\r\nConnection: close\r\n\r\n")
    assert answer.status in (200, 400)
    assert answer.header("Content-Type") == "text/xml; charset=utf-8"
    assert answer.key in ("unsupportedRequest", "internalError")


@pytest_twisted.ensureDeferred
async def test_answers_carry_the_usual_headers(shared: Balancer) -> None:
    first, second = [await shared.request("GET", shared.api) for _ in range(2)]
    assert first.headers["content-type"] == "text/xml; charset=utf-8"
    assert first.headers["cache-control"] == "max-age=0, private, must-revalidate"
    assert first.headers["x-content-type-options"] == "nosniff"
    assert first.headers["x-frame-options"] == "SAMEORIGIN"
    assert float(first.headers["x-runtime"]) >= 0
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert "server" not in first.headers
    assert "date" in first.headers


@pytest.mark.parametrize("value", [True, False])
@pytest_twisted.ensureDeferred
async def test_get_meetings_can_be_disabled(value: bool) -> None:
    async with running(servers=1, get_meetings_api_disabled=value) as balancer:
        await balancer.call("create", meetingID="m1", name="Meeting")
        unsigned = await balancer.request("GET", f"{balancer.api}/getMeetings")
        signed = await balancer.call("getMeetings")
        if value:
            assert unsigned.body == signed.body == xml.NO_MEETINGS
            posted = await post(balancer, "getMeetings", b"a=1", sign=False)
            assert posted.body == xml.NO_MEETINGS
            refused = await post(balancer, "getMeetings", b"<a/>", "text/xml", sign=False)
            assert refused.key == "unsupportedContentType"
            assert (await balancer.request("PUT", f"{balancer.api}/getMeetings")).key == "unsupportedRequest"
        else:
            assert unsigned.key == "checksumError"
            assert signed.text("meetings/meeting/meetingID") == "m1"


@pytest_twisted.ensureDeferred
async def test_recording_actions_can_be_disabled() -> None:
    async with running(recording_disabled=True) as balancer:
        expected = {
            "getRecordings": (xml.NO_RECORDINGS, ("GET", "POST")),
            "updateRecordings": (xml.render_error(errors.RecordingsNotFound()), ("GET", "POST")),
            "publishRecordings": (xml.render_error(errors.RecordingsNotFound()), ("GET",)),
            "deleteRecordings": (xml.render_error(errors.RecordingsNotFound()), ("GET",)),
        }
        for action, (body, methods) in expected.items():
            for method in METHODS:
                answer = await balancer.request(method, f"{balancer.api}/{action}?recordID=r1")
                assert answer.code == 200
                assert answer.body == (body if method in methods else UNSUPPORTED), (action, method)
        for action in ("getRecordings", "updateRecordings"):
            refused = await post(balancer, action, b"<a/>", "application/xml", sign=False)
            assert refused.key == "unsupportedContentType"
