"""The checksum rule: which bytes are signed, which digests and secrets count."""

from __future__ import annotations

import hashlib

import pytest

from scalelite.bbb import checksum
from scalelite.bbb.errors import ChecksumError

ALL = ("SHA1", "SHA256", "SHA384", "SHA512")
SECRET = b"639259d4-9dd8-4b25-bf01-95f9567eaf4b"


def hexdigest(algorithm: str, action: str, query: bytes, secret: bytes = SECRET) -> str:
    return hashlib.new(algorithm.lower(), action.encode() + query + secret).hexdigest()


@pytest.mark.parametrize("algorithm", ALL)
@pytest.mark.parametrize("action", ["create", "getMeetingInfo", "end", "join"])
def test_every_algorithm_is_told_by_the_length_of_its_digest(algorithm: str, action: str) -> None:
    query = b"meetingID=m+1&name=%C3%A9"
    value = hexdigest(algorithm, action, query)
    checksum.verify(action, query + b"&checksum=" + value.encode(), value, [SECRET], ALL)
    assert checksum.digest(algorithm, action, query, SECRET) == value


@pytest.mark.parametrize(
    ("raw", "signed"),
    [
        # Position is free; one neighbouring ampersand goes with it, the one before it rather than the one behind.
        (b"checksum=V", b""),
        (b"&checksum=V", b""),
        (b"a=1&checksum=V", b"a=1"),
        (b"checksum=V&a=1", b"a=1"),
        (b"a=1&checksum=V&b=2", b"a=1&b=2"),
        (b"a=1&&checksum=V", b"a=1&"),
        (b"a=1&checksum=V&", b"a=1&"),
        (b"checksum=V&", b""),
        # Of the same value every occurrence goes, of another value none.
        (b"checksum=V&a=1&checksum=V", b"a=1"),
        (b"a=1&checksum=V&checksum=V", b"a=1"),
        (b"checksum=OTHER&a=1&checksum=V", b"checksum=OTHER&a=1"),
        # The cut is literal.
        (b"a=1&xchecksum=V", b"a=1&x"),
        (b"a=1&%63hecksum=V", b"a=1&%63hecksum=V"),
        (b"a=1", b"a=1"),
        (b"", b""),
        # What surrounds it stays as it was sent.
        (b"name=a+b&x=%C3%a9&y=%20&z=~*&checksum=V", b"name=a+b&x=%C3%a9&y=%20&z=~*"),
    ],
)
def test_the_checksum_is_cut_out_of_the_raw_query(raw: bytes, signed: bytes) -> None:
    value = "a1" * 20
    raw = raw.replace(b"V", value.encode())
    signed = signed.replace(b"V", value.encode())
    assert checksum.without_checksum(raw, value) == signed


@pytest.mark.parametrize("position", ["first", "middle", "last"])
@pytest.mark.parametrize("space", [b"+", b"%20"])
@pytest.mark.parametrize("algorithm", ALL)
def test_position_and_spelling_of_spaces_do_not_matter(position: str, space: bytes, algorithm: str) -> None:
    first, second = b"name=My" + space + b"Room", b"meetingID=a" + space + b"b"
    value = hexdigest(algorithm, "create", first + b"&" + second)
    parameter = b"checksum=" + value.encode()
    raw = b"&".join(
        {
            "first": (parameter, first, second),
            "middle": (first, parameter, second),
            "last": (first, second, parameter),
        }[position]
    )
    checksum.verify("create", raw, value, [SECRET], ALL)


@pytest.mark.parametrize("algorithm", ALL)
def test_a_spelling_that_differs_from_the_signed_one_is_refused(algorithm: str) -> None:
    value = hexdigest(algorithm, "create", b"name=a+b")
    with pytest.raises(ChecksumError):
        checksum.verify("create", b"name=a%20b&checksum=" + value.encode(), value, [SECRET], ALL)


@pytest.mark.parametrize("accepted", [(), ("SHA1",), ("SHA256", "SHA384", "SHA512")])
def test_only_listed_algorithms_count(accepted: tuple[str, ...]) -> None:
    for algorithm in ALL:
        value = hexdigest(algorithm, "end", b"")
        raw = b"checksum=" + value.encode()
        if algorithm in accepted:
            checksum.verify("end", raw, value, [SECRET], accepted)
        else:
            with pytest.raises(ChecksumError):
                checksum.verify("end", raw, value, [SECRET], accepted)


def test_any_of_several_secrets_signs() -> None:
    secrets = [b"old", b"new", "schlüssel".encode()]
    for secret in secrets:
        value = hexdigest("sha256", "create", b"a=1", secret)
        checksum.verify("create", b"a=1&checksum=" + value.encode(), value, secrets, ALL)
    value = hexdigest("sha256", "create", b"a=1", b"other")
    with pytest.raises(ChecksumError):
        checksum.verify("create", b"a=1&checksum=" + value.encode(), value, secrets, ALL)


@pytest.mark.parametrize("secrets", [[], [b""], [b"", b"real"]])
def test_the_empty_secret_signs_nothing(secrets: list[bytes]) -> None:
    value = hexdigest("sha1", "create", b"", b"")
    with pytest.raises(ChecksumError):
        checksum.verify("create", b"checksum=" + value.encode(), value, secrets, ALL)


GOOD = hexdigest("sha1", "create", b"")


@pytest.mark.parametrize(
    "value",
    [None, "", " ", GOOD.upper(), GOOD[:-1], GOOD + "0", GOOD[:-1] + "g", " " + GOOD[1:], GOOD[:-1] + "\n", "é" * 40],
)
def test_values_that_are_no_lower_case_digest_are_refused(value: str | None) -> None:
    raw = b"checksum=" + (value or "").encode()
    with pytest.raises(ChecksumError):
        checksum.verify("create", raw, value, [SECRET], ALL)


def test_the_name_of_the_action_is_signed() -> None:
    value = hexdigest("sha256", "getMeetings", b"")
    with pytest.raises(ChecksumError):
        checksum.verify("getMeetingInfo", b"checksum=" + value.encode(), value, [SECRET], ALL)


def test_a_checksum_in_a_body_signs_the_query_alone() -> None:
    value = hexdigest("sha256", "create", b"")
    checksum.verify("create", b"", value, [SECRET], ALL)
    value = hexdigest("sha256", "create", b"meetingID=m1")
    checksum.verify("create", b"meetingID=m1", value, [SECRET], ALL)
