"""Precedence of parameters, the duration limit, and how numbers are read."""

from __future__ import annotations

import pytest

from scalelite.cluster.params import SERVER_TAG, ParamPolicy, limited_duration, to_int
from scalelite.cluster.records import Tenant, TenantSetting


def tenant(**settings: tuple[str, bool]) -> Tenant:
    return Tenant(
        "t1",
        "school",
        (b"s",),
        settings=tuple(
            TenantSetting(name.replace("__", "-"), value, override) for name, (value, override) in settings.items()
        ),
    )


SETS = ("default", "tenant default", "request", "override", "tenant override")


@pytest.mark.parametrize("given", [SETS[:n] for n in range(1, 6)] + [SETS[n:] for n in range(1, 5)])
def test_each_set_beats_those_before_it(given: tuple[str, ...]) -> None:
    def only(name: str) -> dict[str, str]:
        return {"logo": name} if name in given else {}

    policy = ParamPolicy(only("default"), only("override"))
    owner = Tenant(
        "t1",
        "school",
        (),
        settings=tuple(
            TenantSetting("logo", name, override)
            for name, override in (("tenant default", False), ("tenant override", True))
            if name in given
        ),
    )
    assert policy.merge(only("request"), owner) == {"logo": given[-1]}


def test_names_keep_the_place_of_their_first_appearance() -> None:
    policy = ParamPolicy({"a": "1", "b": "1"}, {"b": "5", "e": "5"})
    owner = tenant(c=("2", False), a=("2", False), f=("6", True))
    merged = policy.merge({"d": "4", "c": "4"}, owner)
    assert list(merged.items()) == [("a", "2"), ("b", "5"), ("c", "4"), ("d", "4"), ("e", "5"), ("f", "6")]


def test_excluded_names_are_dropped_from_the_request_only() -> None:
    policy = ParamPolicy({"logo": "default"}, {"copyright": "override"}, frozenset(("logo", "copyright", "welcome")))
    merged = policy.merge({"logo": "mine", "copyright": "mine", "welcome": "mine", "name": "n"}, None)
    assert merged == {"logo": "default", "name": "n", "copyright": "override"}


@pytest.mark.parametrize("name", ["checksum", "format", "controller", "action"])
def test_names_that_are_never_forwarded(name: str) -> None:
    assert ParamPolicy().merge({name: "x", "meetingID": "m"}, None) == {"meetingID": "m"}


def test_a_bare_name_and_an_empty_value_stay_apart() -> None:
    assert ParamPolicy({"a": "1", "b": "1"}).merge({"a": None, "b": ""}, None) == {"a": None, "b": ""}


def test_configured_server_tags_are_for_placement_and_not_forwarded_by_create() -> None:
    policy = ParamPolicy({SERVER_TAG: "d"}, {SERVER_TAG: "o"})
    owner = tenant(meta_server__tag=("t", True))
    assert policy.merge({SERVER_TAG: "rewritten"}, owner, drop_server_tag=True) == {SERVER_TAG: "rewritten"}
    assert policy.merge({}, owner, drop_server_tag=True) == {}
    # join keeps the installation's, never the tenant's.
    assert policy.merge({}, owner) == {SERVER_TAG: "o"}


@pytest.mark.parametrize("blank", [None, "", "  "])
def test_the_first_non_blank_server_tag_counts(blank: str | None) -> None:
    def policy(default: str, override: str) -> ParamPolicy:
        return ParamPolicy({SERVER_TAG: default}, {SERVER_TAG: override})

    both = Tenant(
        "t", "t", (), settings=(TenantSetting(SERVER_TAG, "to", True), TenantSetting(SERVER_TAG, "td", False))
    )
    default_only = Tenant("t", "t", (), settings=(TenantSetting(SERVER_TAG, "td", False),))
    request = {SERVER_TAG: "r"}
    assert policy("d", "o").server_tag(request, both) == "to"
    assert policy("d", "o").server_tag(request, default_only) == "o"
    assert policy("d", blank or "").server_tag(request, default_only) == "r"
    assert policy("d", "").server_tag({SERVER_TAG: blank}, default_only) == "td"
    assert policy("d", "").server_tag({SERVER_TAG: blank}, None) == "d"
    assert policy("", "").server_tag({}, None) is None


@pytest.mark.parametrize(
    ("duration", "longest", "limited"),
    [
        ("30", 0, "30"),
        (None, 0, None),
        ("", 0, ""),
        ("abc", 0, "abc"),
        ("30", 60, "30"),
        ("60", 60, "60"),
        ("61", 60, "60"),
        ("0", 60, "60"),
        ("", 60, "60"),
        (None, 60, "60"),
        ("abc", 60, "60"),
        ("30abc", 60, "30abc"),
        ("90abc", 60, "60"),
        ("-5", 60, "-5"),
        ("+45", 60, "+45"),
        ("045", 60, "045"),
        (" 45", 60, " 45"),
        ("9" * 5000, 60, "60"),
        ("٤٥", 60, "60"),
    ],
)
def test_durations_are_cut_down_to_the_longest_allowed(duration: str | None, longest: int, limited: str | None) -> None:
    assert limited_duration(duration, longest) == limited


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("30abc", 30),
        ("", 0),
        (None, 0),
        ("abc", 0),
        ("-5", -5),
        ("+5", 5),
        ("-", 0),
        (" 7 ", 7),
        ("1.9", 1),
        ("007", 7),
    ],
)
def test_numbers_are_read_by_their_leading_digits(text: str | None, number: int) -> None:
    assert to_int(text) == number
