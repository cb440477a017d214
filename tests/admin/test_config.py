"""The commands `config` and `secret`."""

from __future__ import annotations

import json
import re

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


@pytest_twisted.ensureDeferred
async def test_a_secret_is_made_up_anew_each_time(desk: Desk) -> None:
    first, second = await desk.run("secret"), await desk.run("rake", "secret")
    assert re.fullmatch(r"[0-9a-f]{128}\n", first.out)
    assert first.out != second.out
