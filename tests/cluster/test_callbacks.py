"""Callback URLs in create calls: which are taken out, which is put in place."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import attrs
import pytest
from lxml import etree

from scalelite.cluster.callbacks import MAX_END_URL, CallbackRewriter, EndCallback, EndCallbacks, Kind, Notice
from scalelite.cluster.params import Params
from scalelite.cluster.records import CallbackURLs, Tenant

ANALYTICS = "meta_analytics-callback-url"
BN, BBB, CANVAS = (f"meta_{name}-recording-ready-url" for name in ("bn", "bbb", "canvas"))
OURS = "https://lb.example/bigbluebutton/api/analytics_callback"


@pytest.mark.parametrize(
    ("params", "forwarded", "kept"),
    [
        ({}, {}, None),
        ({"meta_endCallbackUrl": "e"}, {"meta_endCallbackUrl": "e"}, None),
        ({ANALYTICS: "http://a"}, {ANALYTICS: OURS}, CallbackURLs(analytics="http://a")),
        ({ANALYTICS: ""}, {ANALYTICS: OURS}, CallbackURLs(analytics="")),
        ({ANALYTICS: None}, {ANALYTICS: OURS}, CallbackURLs(analytics="")),
        ({BN: "http://bn"}, {}, CallbackURLs(recording_ready="http://bn")),
        ({BBB: "http://bbb"}, {}, CallbackURLs(recording_ready="http://bbb")),
        ({CANVAS: "http://c"}, {}, CallbackURLs(recording_ready="http://c")),
        ({CANVAS: "c", BBB: "b", BN: "n"}, {}, CallbackURLs(recording_ready="n")),
        ({CANVAS: "c", BBB: "b"}, {}, CallbackURLs(recording_ready="b")),
        ({BN: "", BBB: "b"}, {}, CallbackURLs(recording_ready="")),
        ({ANALYTICS: "a", BBB: "b", "x": "1"}, {ANALYTICS: OURS, "x": "1"}, CallbackURLs("b", "a")),
        # BBB takes the names in any letter case.
        ({"meta_Analytics-Callback-URL": "a"}, {"meta_Analytics-Callback-URL": OURS}, CallbackURLs(analytics="a")),
        (
            {ANALYTICS.upper(): "a", ANALYTICS: "b"},
            {ANALYTICS.upper(): OURS, ANALYTICS: OURS},
            CallbackURLs(analytics="b"),
        ),
        ({"meta_BBB-Recording-Ready-Url": "b"}, {}, CallbackURLs(recording_ready="b")),
    ],
)
def test_callback_urls_are_kept_and_the_analytics_url_is_replaced_by_ours(
    params: Params, forwarded: Params, kept: CallbackURLs | None
) -> None:
    assert CallbackRewriter("lb.example").rewrite(params, None) == kept
    assert params == forwarded


def test_a_tenant_is_called_back_at_its_own_host() -> None:
    params: Params = {ANALYTICS: "http://a"}
    CallbackRewriter("lb.example").rewrite(params, Tenant("t1", "school", ()))
    assert params == {ANALYTICS: "https://school.lb.example/bigbluebutton/api/analytics_callback"}


def test_without_a_host_of_ours_the_analytics_url_is_left_alone() -> None:
    params: Params = {ANALYTICS: "http://a"}
    assert CallbackRewriter(None).rewrite(params, None) == CallbackURLs(analytics="http://a")
    assert params == {ANALYTICS: "http://a"}


ENDS = EndCallbacks("lb.example", b"key")
URL = "https://fe.example/end?a=b&c=<ü>"
SCHOOL = Tenant("t1", "school", ())


def token_of(url: str) -> str:
    ((name, token),) = parse_qsl(urlsplit(url).query, strict_parsing=True)
    assert name == "token"
    return token


@pytest.mark.parametrize(
    ("name", "tenant", "host"),
    [
        ("meta_endCallbackUrl", None, "lb.example"),
        ("meta_endcallbackurl", None, "lb.example"),
        ("META_ENDCALLBACKURL", SCHOOL, "school.lb.example"),
    ],
)
def test_the_end_is_chained_through_a_url_that_holds_the_clients(name: str, tenant: Tenant | None, host: str) -> None:
    params: Params = {"meetingID": "m1", name: f" {URL} ", "x": "1"}
    assert CallbackRewriter("lb.example", ENDS).rewrite(params, tenant) is None
    assert list(params) == ["meetingID", name, "x"]
    ours = params[name] or ""
    assert ours.startswith(f"https://{host}/bigbluebutton/api/meeting_ended?token=")
    assert ENDS.unwrapped(token_of(ours), "m1") == EndCallback(URL, tenant.id if tenant else "")


@pytest.mark.parametrize("url", [None, "", "nonsense", "ftp://x/", "https://" + "x" * MAX_END_URL])
def test_an_end_url_that_can_not_be_chained_is_left_alone(url: str | None) -> None:
    params: Params = {"meetingID": "m1", "meta_endCallbackUrl": url}
    CallbackRewriter("lb.example", ENDS).rewrite(params, None)
    assert params["meta_endCallbackUrl"] == url


def test_a_url_of_ours_is_good_for_its_meeting_and_key_only() -> None:
    token = token_of(ENDS.wrapped(URL, "m1", None))
    held, _, signature = token.partition(".")
    assert ENDS.unwrapped(token, "m2") is None
    assert EndCallbacks("lb.example", b"other").unwrapped(token, "m1") is None
    other = token_of(ENDS.wrapped("https://evil.example/", "m1", None)).partition(".")[0]
    for forged in ("", ".", held, f"{held}.", f"{other}.{signature}", f"{held}.{signature[:-1]}", f"{held}.ü", "é.é"):
        assert ENDS.unwrapped(forged, "m1") is None


def test_clients_are_shown_their_own_url() -> None:
    ours = ENDS.wrapped(URL, "m1", SCHOOL)
    document = f"<r><m><endcallbackurl>{ours}</endcallbackurl></m><n>ü {ours} {ours}x</n></r>".encode()
    shown = etree.fromstring(ENDS.restored(document))
    assert shown.findtext("m/endcallbackurl") == URL
    assert shown.findtext("n") == f"ü {URL} {URL}x"
    for foreign in (
        b"<r/>",
        b"<r>https://lb.example/bigbluebutton/api/meeting_ended?token=x.y</r>",
        ours.replace("lb.example", "elsewhere.example").encode(),
        b"https://lb.example/bigbluebutton/api/meeting_ended?token=_w." + b"0" * 64,
    ):
        assert ENDS.restored(foreign) == foreign


def test_notices_of_one_event_have_one_key() -> None:
    ready = Notice(Kind.RECORDING_READY, "t", "m", "http://a", record_id="r")
    assert ready.key == attrs.evolve(ready, url="").key
    others = [
        ready,
        attrs.evolve(ready, record_id="r2"),
        attrs.evolve(ready, tenant_id="t2"),
        attrs.evolve(ready, meeting_id="m2"),
        Notice(Kind.MEETING_ENDED, "t", "m", "http://a", "x"),
        Notice(Kind.MEETING_ENDED, "t", "m", "http://b", "x"),
        Notice(Kind.ANALYTICS, "t", "m", "http://a", "x"),
        Notice(Kind.ANALYTICS, "t", "m", "http://a", "y"),
    ]
    assert len({notice.key for notice in others}) == len(others)
    assert len(ready.key) == 64
