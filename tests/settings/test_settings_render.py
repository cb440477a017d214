"""What an operator is shown: the effective settings, and the page of documentation."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

from scalelite.settings import Settings, load_settings, render, render_json
from scalelite.settings.docs import documented_variables, generate
from scalelite.settings.variables import variables_of

SECRETS = {
    "SECRET_KEY_BASE": "hunter2-base",
    "LOADBALANCER_SECRET": "hunter2-one",
    "LOADBALANCER_SECRETS": "hunter2-two:hunter2-three",
    "REDIS_URL": "redis+sentinel://me:hunter2-redis@s1/main",
    "SCALELITE_REDIS_SENTINEL_PASSWORD": "hunter2-sentinel",
    "DATABASE_URL": "postgresql://me:hunter2-db@h/d?sslpassword=hunter2-key&sslmode=require",
    "DEFAULT_CREATE_PARAMS": "moderatorPW=hunter2-mod,record=true",
}


@pytest.fixture
def secretive(tmp_path: Path) -> Settings:
    return load_settings(SECRETS, root=tmp_path)


def test_no_secret_is_shown_by_repr_text_or_json(secretive: Settings) -> None:
    for text in (repr(secretive), render(secretive), render_json(secretive)):
        assert "hunter2" not in text
        assert "record" in text


def test_secrets_are_shown_when_asked_for(secretive: Settings) -> None:
    secrets = ["base", "one", "two", "three", "redis", "sentinel", "db", "key", "mod"]
    for text in (render(secretive, show_secrets=True), render_json(secretive, show_secrets=True)):
        assert [word for word in secrets if f"hunter2-{word}" not in text] == []


@pytest.mark.parametrize(
    ("variable", "text", "line"),
    [
        ("PORT", "8080", "= 8080"),
        ("CONNECT_TIMEOUT", "0.5", "= 0.5 seconds"),
        ("RECORDING_DISABLED", "TRUE", "= true"),
        ("BIND", "unix:///a?umask=0111,tcp://[::]:80", "= unix:///a?umask=0111,tcp://[::]:80"),
        ("LOADBALANCER_CHECKSUM_ALGORITHM", "SHA512:SHA256", "= SHA256:SHA512"),
        ("CREATE_EXCLUDE_PARAMS", "b,a", "= a,b"),
        ("DEFAULT_JOIN_PARAMS", "a=1,b=2", "= a=1,b=2"),
        ("DEFAULT_JOIN_PARAMS", "", "= (none)"),
        ("URL_HOST", "", "= (unset)"),
        ("REDIS_URL", "redis://:pw@[::1]/1", "= redis://:********@[::1]:6379/1"),
        ("REDIS_URL", "unix:///a", "= unix:///a?db=0"),
        ("REDIS_URL", "", "= (unset)"),
        ("DATABASE_URL", "sqlite:////a.db", "= sqlite:////a.db"),
        ("BUILD_NUMBER", "\udcff", "= \\udcff"),
    ],
)
def test_text_shows_a_setting_as_it_would_be_written(tmp_path: Path, variable: str, text: str, line: str) -> None:
    lines = render(load_settings({variable: text}, root=tmp_path)).splitlines()
    (found,) = [row for row in lines if row.startswith(f"{variable} ")]
    assert found.removeprefix(variable).strip() == line


def test_production_without_redis_url_shows_the_local_server() -> None:
    text = render(Settings(environment="production"))
    assert "redis://localhost:6379/0" in text


def test_json_keeps_types_units_and_warnings(tmp_path: Path) -> None:
    settings = load_settings({"POLLER_THREADS": "1", "DEFAULT_JOIN_PARAMS": "a=1"}, root=tmp_path)
    document = json.loads(render_json(settings))
    values = document["settings"]
    assert document["warnings"] == list(settings.warnings)
    assert (values["POLLER_THREADS"], values["POLL_INTERVAL"], values["URL_HOST"]) == (2, 60.0, None)
    assert values["DEFAULT_JOIN_PARAMS"] == {"a": "1"}
    assert values["BIND"] == ["tcp://0.0.0.0:3000"]


def test_text_ends_with_the_warnings(tmp_path: Path) -> None:
    settings = load_settings({}, root=tmp_path)
    assert render(settings).endswith(f"# Warnings\n{settings.warnings[-1]}\n")


def test_the_documentation_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs" / "configuration.md"
    assert page.read_text(encoding="utf-8") == generate()


def test_the_documentation_names_every_variable_once() -> None:
    rows = [line.split("`")[1] for line in generate().splitlines() if line.startswith("| `") and line[3].isupper()]
    assert rows == [variable.name for variable, _ in documented_variables()]
    assert len(rows) == len(set(rows))


def test_every_field_is_a_variable_a_derived_value_or_the_warnings() -> None:
    fields = {attribute.name for attribute in attrs.fields(Settings) if not variables_of(attribute)}
    assert fields == {"outgoing_algorithm", "warnings"}
