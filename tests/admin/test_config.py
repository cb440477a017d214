"""The command `config`."""

from __future__ import annotations

import json

import pytest_twisted

from tests.admin.desk import Desk


@pytest_twisted.ensureDeferred
async def test_config_shows_the_settings_with_secrets_masked(desk: Desk) -> None:
    result = await desk.run("config")
    assert (result.status, result.err) == (0, "")
    assert "SECRET_KEY_BASE" in result.out
    assert "secret-key-base" not in result.out
    assert "secret-key-base" in (await desk.run("config", "--show-secrets")).out


@pytest_twisted.ensureDeferred
async def test_config_as_json_can_be_parsed(desk: Desk) -> None:
    shown = json.loads((await desk.run("config", "--json")).out)
    assert shown["settings"]["SCALELITE_ENV"] == "test"
