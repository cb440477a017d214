"""What every call must pass: body type, checksum, required parameters, in this order."""

from __future__ import annotations

import pytest
import pytest_twisted

from tests.api.support import FORM, calls, exchange, post, running
from tests.balancer import SECRET, Balancer

ALGORITHMS = ("sha1", "sha256", "sha384", "sha512")
XML_TYPES = ("application/xml", "text/xml", "application/x-xml")
BOUNDARY = "b0undary"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"


def multipart(**fields: str) -> bytes:
    parts = [f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
    return ("".join(parts) + f"--{BOUNDARY}--\r\n").encode()


BODIES = {
    "GET": (None, None),
    "form": (b"name=from+the+body&x=1", FORM),
    "multipart": (multipart(name="from the body", x="1"), MULTIPART),
    "XML": (b"<modules/>", "application/xml"),
    "empty": (b"", "nonsense"),
}


@pytest.mark.parametrize("position", ["first", "middle", "last"])
@pytest.mark.parametrize("space", ["+", "%20"])
@pytest.mark.parametrize("kind", BODIES)
@pytest_twisted.ensureDeferred
async def test_checksums_in_the_query_sign_it_as_it_was_sent(
    shared: Balancer, kind: str, space: str, position: str
) -> None:
    body, content_type = BODIES[kind]
    headers = {"Content-Type": content_type} if content_type else {}
    for algorithm in ALGORITHMS:
        pieces = [f"meetingID=a{space}b%C3%A9", "name=N"]
        for spoil in ("", "0"):
            checksum = shared.sign("create", "&".join(pieces) + spoil, algorithm=algorithm)
            sent = list(pieces)
            sent.insert({"first": 0, "middle": 1, "last": 2}[position], f"checksum={checksum}")
            answer = await shared.request(
                "GET" if body is None else "POST", f"{shared.api}/create?{'&'.join(sent)}", body=body, headers=headers
            )
            assert answer.message == (
                "You did not pass the checksum security check" if spoil else "Could not find any available servers."
            )


@pytest.mark.parametrize("kind", ["form", "multipart"])
@pytest.mark.parametrize("query", ["", "name=N"])
@pytest_twisted.ensureDeferred
async def test_a_checksum_in_the_body_signs_the_query_alone(shared: Balancer, kind: str, query: str) -> None:
    for algorithm in ALGORITHMS:
        for signed, key in ((query, "notFound"), (query + "x", "checksumError")):
            checksum = shared.sign("getMeetingInfo", signed, algorithm=algorithm)
            if kind == "form":
                body, content_type = f"meetingID=m1&checksum={checksum}".encode(), FORM
            else:
                body, content_type = multipart(meetingID="m1", checksum=checksum), MULTIPART
            answer = await post(shared, "getMeetingInfo", body, content_type, query=query, sign=False)
            assert answer.key == key


@pytest_twisted.ensureDeferred
async def test_the_query_beats_the_body(shared: Balancer) -> None:
    good = shared.sign("getMeetingInfo", "")
    bad = "0" * 64
    answer = await post(
        shared, "getMeetingInfo", f"meetingID=m&checksum={good}".encode(), query=f"checksum={bad}", sign=False
    )
    assert answer.key == "checksumError"
    answer = await post(
        shared, "getMeetingInfo", f"meetingID=m&checksum={bad}".encode(), query=f"checksum={good}", sign=False
    )
    assert answer.key == "notFound"
    answer = await post(shared, "getMeetingInfo", b"meetingID=m", query="meetingID=")
    assert answer.key == "missingParamMeetingID"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "checksum",
        "checksum=",
        "checksum=+",
        "checksum[]=V",
        "checksum[x]=V",
        "Checksum=V",
        "checksum=UPPER",
        "%63hecksum=V",
        "checksum=V&checksum=0",
        "checksum=V&extra=1",
        "checksum=0" + "0" * 63,
        "checksum=" + "a" * 2000,
    ],
)
@pytest_twisted.ensureDeferred
async def test_calls_without_a_good_checksum_are_refused(shared: Balancer, query: str) -> None:
    value = shared.sign("getMeetings", "")
    query = query.replace("V", value).replace("UPPER", value.upper())
    answer = await shared.request("GET", f"{shared.api}/getMeetings?{query}")
    assert (answer.code, answer.key) == (200, "checksumError")


@pytest.mark.parametrize(
    ("query", "signed"),
    [
        ("&checksum=V", ""),
        ("a=1&&checksum=V", "a=1&"),
        ("checksum=V&", ""),
        ("a=1&checksum=V&", "a=1&"),
        ("checksum=V&a=1&checksum=V", "a=1"),
        ("checksum=0&a=1&checksum=V", "checksum=0&a=1"),
        ("random=random&checksum=V", "random=random"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_real_clients_and_odd_ones_sign(shared: Balancer, query: str, signed: str) -> None:
    value = shared.sign("getMeetings", signed)
    answer = await shared.request("GET", f"{shared.api}/getMeetings?{query.replace('V', value)}")
    assert answer.key == "noMeetings"


@pytest_twisted.ensureDeferred
async def test_every_configured_secret_signs_and_the_empty_one_never() -> None:
    async with running(loadbalancer_secrets=(b"one", b"", b"two")) as balancer:
        for secret, key in (
            ("one", "noMeetings"),
            ("two", "noMeetings"),
            ("", "checksumError"),
            ("x", "checksumError"),
        ):
            assert (await balancer.call("getMeetings", secret=secret)).key == key
    async with running(loadbalancer_secrets=()) as balancer:
        assert (await balancer.call("getMeetings", secret="")).key == "checksumError"


@pytest.mark.parametrize("accepted", [("SHA1",), ("SHA256", "SHA512"), ("SHA384",), ()])
@pytest_twisted.ensureDeferred
async def test_only_the_accepted_algorithms_count(accepted: tuple[str, ...]) -> None:
    async with running(checksum_algorithms=accepted) as balancer:
        for algorithm in ALGORITHMS:
            answer = await balancer.call("getMeetings", algorithm=algorithm)
            assert answer.key == ("noMeetings" if algorithm.upper() in accepted else "checksumError")


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA384", "SHA512"])
@pytest_twisted.ensureDeferred
async def test_servers_are_called_with_the_configured_algorithm(algorithm: str) -> None:
    async with running(servers=1, outgoing_algorithm=algorithm) as balancer:
        assert (await balancer.call("create", meetingID="m1", name="Meeting")).returncode == "SUCCESS"
        (logged,) = calls(balancer, "create")
        assert len(logged.query["checksum"]) == {"SHA1": 40, "SHA256": 64, "SHA384": 96, "SHA512": 128}[algorithm]
        joined = await balancer.call("join", meetingID="m1", fullName="Ada", role="VIEWER")
        assert (await balancer.request("GET", joined.location)).code == 302


# Content types.

FORM_ACTIONS = ("isMeetingRunning", "getMeetingInfo", "getMeetings", "end")
ACCEPTED = {
    "create": (FORM, MULTIPART, *XML_TYPES),
    "insertDocument": XML_TYPES,
    **dict.fromkeys(FORM_ACTIONS, (FORM, MULTIPART)),
}
ALL_TYPES = (
    FORM, MULTIPART, *XML_TYPES, "application/json", "text/plain", "text/html", "application/octet-stream", "xml",
    "application/xml+x", "", ";", "application/", None,
)  # fmt: skip


@pytest.mark.parametrize("action", ACCEPTED)
@pytest_twisted.ensureDeferred
async def test_each_action_takes_its_media_types_only(shared: Balancer, action: str) -> None:
    for content_type in ALL_TYPES:
        body = multipart(a="1") if content_type == MULTIPART else b"a=1"
        answer = await post(shared, action, body, content_type, query="meetingID=m1")
        assert answer.code == 200
        assert (answer.key == "unsupportedContentType") is (content_type not in ACCEPTED[action]), content_type
        assert answer.key != "checksumError"


@pytest.mark.parametrize("action", ["", *ACCEPTED])
@pytest_twisted.ensureDeferred
async def test_an_empty_body_has_no_type(shared: Balancer, action: str) -> None:
    for content_type in ("application/json", "", None, "application/xml"):
        answer = await post(shared, action, b"", content_type, query="meetingID=m1")
        assert answer.key != "unsupportedContentType"


@pytest_twisted.ensureDeferred
async def test_the_index_checks_bodies_as_well(shared: Balancer) -> None:
    assert (await post(shared, "", b"a=1", FORM, sign=False)).returncode == "SUCCESS"
    assert (await post(shared, "", b"<a/>", "text/xml", sign=False)).key == "unsupportedContentType"
    assert (await post(shared, "", b"a=1", None, sign=False)).key == "unsupportedContentType"


@pytest.mark.parametrize(
    ("content_type", "action"),
    [
        ("Application/X-WWW-Form-URLEncoded", "end"),
        ("application/x-www-form-urlencoded; charset=UTF-8", "end"),
        ("application/x-www-form-urlencoded;charset=utf-8;x=y", "end"),
        ("APPLICATION/XML", "insertDocument"),
        ("text/XML ; charset=iso-8859-1", "insertDocument"),
        ("application/xml;charset=UTF-8", "create"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_parameters_and_case_of_media_types_do_not_matter(
    shared: Balancer, content_type: str, action: str
) -> None:
    answer = await post(shared, action, b"a=1", content_type, query="meetingID=m1")
    assert answer.key in ("notFound", "internalError")


@pytest_twisted.ensureDeferred
async def test_body_type_comes_before_checksum_before_meeting_id(shared: Balancer) -> None:
    bad = "checksum=0"
    assert (await post(shared, "end", b"{}", "application/json", query=bad, sign=False)).key == "unsupportedContentType"
    assert (await post(shared, "end", b"a=1", query=bad, sign=False)).key == "checksumError"
    assert (await post(shared, "end", b"a=1")).key == "missingParamMeetingID"


# Required parameters.


@pytest.mark.parametrize(
    "action", ["create", "join", "isMeetingRunning", "getMeetingInfo", "end", "sendChatMessage", "insertDocument"]
)
@pytest.mark.parametrize(
    "query", ["", "meetingID", "meetingID=", "meetingID=+", "meetingID=%09%0A%20", "meetingid=m1", "meetingID%5B%5D=m1",
              "meetingID=%E3%80%80", "meetingID=m1&meetingID="],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_a_meeting_id_is_required(shared: Balancer, action: str, query: str) -> None:
    if action == "insertDocument":
        answer = await post(shared, action, b"<modules/>", "text/xml", query=query)
    else:
        checksum = shared.sign(action, query)
        answer = await shared.request("GET", f"{shared.api}/{action}?{query}{'&' if query else ''}checksum={checksum}")
    assert (answer.code, answer.key) == (200, "missingParamMeetingID")
    assert answer.message == "You must specify a meeting ID for the meeting."


# Malformed input.


@pytest.mark.parametrize("query", ["a=%zz", "a=%", "a=%FF", "a=%C3%28", "a=%00", "%ff", "a=%ED%A0%80", "&" * 5000])
@pytest.mark.parametrize("action", ["create", "join", "getMeetings"])
@pytest_twisted.ensureDeferred
async def test_a_malformed_query_is_answered_400_in_xml(shared: Balancer, action: str, query: str) -> None:
    checksum = shared.sign(action, query)
    (answer,) = await exchange(
        shared.port,
        f"GET /bigbluebutton/api/{action}?{query}&checksum={checksum} HTTP/1.1\r\nHost: x\r\n"
        "Connection: close\r\n\r\n".encode(),
    )
    assert answer.status == 400
    assert answer.key == "internalError"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"a=%zz", FORM),
        (b"a=%FF", FORM),
        (b"a=\xff", FORM),
        (b"a=%00", FORM),
        (b"a=\x00", FORM),
        (b"&" * 5000, FORM),
        (multipart(a="1")[:-10], MULTIPART),
        (multipart(a="1")[:20], MULTIPART),
        (multipart(a="1").replace(b"1", b"\xff"), MULTIPART),
        (multipart(a="\0"), MULTIPART),
        (multipart(**{"a\0b": "1"}), MULTIPART),
        (b"no boundary", "multipart/form-data"),
        (b"not multipart", MULTIPART),
        (multipart(**{f"p{n}": "1" for n in range(4200)}), MULTIPART),
        (b"a=" + b"b" * (9 * 1024 * 1024), FORM),
        (multipart(a="b" * (9 * 1024 * 1024)), MULTIPART),
        (multipart(a="1").replace(b'name="a"', b'name="' + b"a" * 100_000 + b'"'), MULTIPART),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_malformed_form_is_answered_400_in_xml(shared: Balancer, body: bytes, content_type: str) -> None:
    answer = await post(shared, "getMeetingInfo", body, content_type, query="meetingID=m1")
    assert answer.code == 400
    assert answer.key == "internalError"


@pytest_twisted.ensureDeferred
async def test_files_in_a_form_are_left_aside(shared: Balancer) -> None:
    body = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="meetingID"; filename="x"\r\n\r\nm1\r\n'
        f"--{BOUNDARY}--\r\n"
    ).encode()
    assert (await post(shared, "end", body, MULTIPART)).key == "missingParamMeetingID"
    assert (await post(shared, "end", multipart(meetingID="m1"), MULTIPART)).key == "notFound"


@pytest_twisted.ensureDeferred
async def test_unquoted_boundaries_and_utf_8_fields_are_read(shared: Balancer) -> None:
    body = multipart(meetingID="é😀").replace(BOUNDARY.encode(), b"----x y")
    answer = await post(shared, "end", body, 'Multipart/Form-Data; charset=utf-8; boundary="----x y"')
    assert answer.key == "notFound"


@pytest_twisted.ensureDeferred
async def test_a_query_of_a_megabyte_is_refused_and_a_long_one_taken(shared: Balancer) -> None:
    answer = await shared.call("getMeetingInfo", meetingID="m1", welcome="x" * 100_000)
    assert answer.key == "notFound"
    (refused,) = await exchange(
        shared.port, b"GET /bigbluebutton/api/create?meetingID=" + b"x" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    assert refused.status == 414
    assert refused.key == "internalError"


@pytest_twisted.ensureDeferred
async def test_a_long_form_is_taken(shared: Balancer) -> None:
    body = b"welcome=" + b"x" * 1_000_000 + b"&meetingID=m1"
    assert (await post(shared, "getMeetingInfo", body)).key == "notFound"


@pytest.mark.parametrize("extra", [1, 10_000])
@pytest_twisted.ensureDeferred
async def test_a_body_beyond_the_limit_is_refused(extra: int) -> None:
    async with running(max_body_size=100_000) as balancer:
        answer = await post(balancer, "end", b"a" * (100_000 + extra), query="meetingID=m1")
        assert answer.code == 413
        assert answer.key == "internalError"
        assert (await post(balancer, "end", b"a" * 100_000, query="meetingID=m1")).key == "notFound"


@pytest_twisted.ensureDeferred
async def test_secrets_never_come_back(shared: Balancer) -> None:
    for action in ("create", "end", "getMeetings"):
        answer = await shared.call(action, meetingID=SECRET, moderatorPW="hidden")
        assert b"hidden" not in answer.body
