"""JSON Web Tokens."""

from __future__ import annotations

import base64

import jwt
import pytest

from scalelite.cluster.tokens import MAX_TOKEN, is_signed_by, signed_token

SECRET = "s" * 64


@pytest.mark.parametrize(
    ("algorithm", "typed", "header"),
    [
        ("HS256", False, b'{"alg":"HS256"}'),
        ("HS512", False, b'{"alg":"HS512"}'),
        ("HS512", True, b'{"typ":"JWT","alg":"HS512"}'),
    ],
)
def test_header_and_claims_stand_in_their_order(algorithm: str, typed: bool, header: bytes) -> None:
    token = signed_token({"z": 1, "a": "ü"}, SECRET.encode(), algorithm, typed=typed)
    head, claims, _ = (base64.urlsafe_b64decode(part + "==") for part in token.split("."))
    assert head == header
    assert claims == '{"z":1,"a":"ü"}'.encode()
    assert jwt.decode(token, SECRET, algorithms=[algorithm]) == {"z": 1, "a": "ü"}


def test_a_short_secret_signs_as_well() -> None:
    assert is_signed_by(signed_token({"exp": 9_999_999_999}, b"short", "HS512"), "short", "HS512")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b.c",
        signed_token({"exp": 9_999_999_999}, b"other" * 20, "HS512"),
        signed_token({"exp": 1}, SECRET.encode(), "HS512"),
        signed_token({"exp": 9_999_999_999}, SECRET.encode(), "HS256"),
        jwt.encode({"exp": 9_999_999_999}, None, algorithm="none"),
        signed_token({"long": "x" * MAX_TOKEN}, SECRET.encode(), "HS512"),
        signed_token({"exp": 9_999_999_999}, SECRET.encode(), "HS512") + "x",
    ],
)
def test_other_tokens_are_not_taken(token: str) -> None:
    assert not is_signed_by(token, SECRET, "HS512")
