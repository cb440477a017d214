"""Callback URLs in create calls: which are taken out, which is put in place."""

from __future__ import annotations

import pytest

from scalelite.cluster.callbacks import CallbackRewriter
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
