"""The description of the REST API in OpenAPI."""

from __future__ import annotations

from typing import Any

import orjson
import pytest_twisted

from scalelite.api.management import ROOT
from scalelite.composition import web_site
from tests.api.rest import Rest, said
from tests.api.support import running
from tests.balancer import Balancer


async def description(balancer: Balancer) -> Any:
    """As anybody gets it: it is not signed."""
    status, document = said(await balancer.request("GET", Rest(balancer).url("openapi.json")))
    assert status == 200
    return document


@pytest_twisted.ensureDeferred
async def test_it_describes_every_route_and_no_other(balancer: Balancer) -> None:
    document = await description(balancer)
    described = {
        (f"{document['servers'][0]['url']}{path}".encode(), method.upper().encode())
        for path, methods in document["paths"].items()
        for method in methods
    }
    routes = {
        (path, method)
        for path, methods in web_site(balancer.parts).table.items()
        for method in methods
        if path.startswith(ROOT.encode()) and method not in (b"HEAD", b"OPTIONS") and b"openapi" not in path
    }
    assert described == routes


@pytest_twisted.ensureDeferred
async def test_its_references_lead_somewhere(balancer: Balancer) -> None:
    document = await description(balancer)

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [value["$ref"]] if "$ref" in value else [r for v in value.values() for r in references(v)]
        return [r for v in value for r in references(v)] if isinstance(value, list) else []

    found = references(document)
    assert found
    for reference in found:
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
    operations = {one["operationId"] for methods in document["paths"].values() for one in methods.values()}
    for methods in document["paths"].values():
        for operation in methods.values():
            for answer in operation["responses"].values():
                assert {link["operationId"] for link in answer.get("links", {}).values()} <= operations


@pytest_twisted.ensureDeferred
async def test_it_says_nothing_of_this_installation() -> None:
    async with running(api_secret="hush-hush", url_host="lb.example", build_number="build-77") as balancer:
        text = orjson.dumps(await description(balancer)).decode()
        assert not any(word in text for word in ("hush-hush", "lb.example", "build-77", "127.0.0.1"))
