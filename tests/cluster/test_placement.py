"""What a create call's tags ask for."""

from __future__ import annotations

import pytest

from scalelite.cluster.placement import TagRequest, parse_tags


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        (None, TagRequest()),
        ("", TagRequest()),
        ("  ", TagRequest()),
        ("!", TagRequest()),
        (" !", TagRequest()),
        ("a", TagRequest(("a",), False, "a")),
        ("a!", TagRequest(("a",), True, "a")),
        ("a;b", TagRequest(("a", "b"), False, "a;b")),
        ("a;b!", TagRequest(("a", "b"), True, "a;b")),
        ("a!;b", TagRequest(("a!", "b"), False, "a!;b")),
        ("a!!", TagRequest(("a!",), True, "a!")),
        ("a; b", TagRequest(("a", " b"), False, "a; b")),
        ("none", TagRequest(("none",), False, "none")),
        ("A", TagRequest(("A",), False, "A")),
        ("a;;b", TagRequest(("a", "", "b"), False, "a;;b")),
        ("a;;", TagRequest(("a",), False, "a;;")),
        ("a! ", TagRequest(("a! ",), False, "a! ")),
    ],
)
def test_tags_are_separated_by_semicolons_and_required_by_a_final_mark(text: str | None, request_: TagRequest) -> None:
    assert parse_tags(text) == request_
