"""The Redis connection: `REDIS_URL` and `config/redis_store.yml`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from scalelite.settings import RedisSettings, Settings, SettingsError, load_settings


def redis_of(environ: dict[str, str], root: Path) -> RedisSettings:
    return load_settings(environ, root=root).redis


def differing(redis: RedisSettings) -> dict[str, Any]:
    """The fields that are not at their defaults, the URL and the namespace aside."""
    plain = RedisSettings(namespace=redis.namespace, url=redis.url)
    return {
        name: getattr(redis, name)
        for name in attrs.fields_dict(RedisSettings)
        if getattr(redis, name) != getattr(plain, name)
    }


@pytest.fixture
def write(tmp_path: Path):
    def write_file(text: str) -> Path:
        (tmp_path / "config").mkdir(exist_ok=True)
        (tmp_path / "config" / "redis_store.yml").write_text(text, encoding="utf-8")
        return tmp_path

    return write_file


SENTINELS = (("s1", 26379), ("s2", 5000))


@pytest.mark.parametrize(
    ("url", "fields"),
    [
        ("redis://", {}),
        ("redis://db.example.com", {"host": "db.example.com"}),
        ("redis://h:7000/3", {"host": "h", "port": 7000, "db": 3}),
        ("redis://h?db=4", {"host": "h", "db": 4}),
        ("redis://[::1]:7000/", {"host": "::1", "port": 7000}),
        ("redis://:pw@h", {"host": "h", "password": "pw"}),
        ("redis://me:p%40w%3A@h", {"host": "h", "username": "me", "password": "p@w:"}),
        ("redis://:p@w/x?y@h/1", {"host": "h", "password": "p@w/x?y", "db": 1}),
        ("REDISS://h", {"host": "h", "tls": True}),
        ("unix:///run/redis.sock", {"unix_path": "/run/redis.sock"}),
        ("redis+unix:///run/redis.sock?db=2", {"unix_path": "/run/redis.sock", "db": 2}),
        ("unix://:pw@/run/redis.sock", {"unix_path": "/run/redis.sock", "password": "pw"}),
        ("redis+sentinel://s1,s2:5000/main", {"sentinels": SENTINELS, "sentinel_name": "main"}),
        (
            "rediss+sentinel://u:p@s1:26379,s2:5000/main/2",
            {
                "sentinels": SENTINELS,
                "sentinel_name": "main",
                "db": 2,
                "username": "u",
                "password": "p",
                "tls": True,
            },
        ),
    ],
)
def test_redis_url_takes_every_documented_form(tmp_path: Path, url: str, fields: dict[str, Any]) -> None:
    redis = redis_of({"REDIS_URL": url}, tmp_path)
    assert differing(redis) == {**fields, "configured": True}
    assert redis.url == url


@pytest.mark.parametrize(
    "url",
    [
        "hunter2",
        "http://u:hunter2@h",
        "redis://u:hunter2@h:port",
        "redis://u:hunter2@h:99999",
        "redis://u:hunter2@h:0",
        "redis://u:hunter2@h/db",
        "redis://hunter2@h",
        "redis://h?password=hunter2",
        "unix://hunter2",
        "redis+sentinel://u:hunter2@s1",
        "redis+sentinel:///hunter2",
    ],
)
def test_a_malformed_redis_url_is_refused_without_showing_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError, match="REDIS_URL=") as caught:
        load_settings({"REDIS_URL": url}, root=tmp_path)
    assert "hunter2" not in str(caught.value)


password_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(password=password_text, username=st.none() | st.text("abc@:/?%", min_size=1), db=st.integers(0, 15))
def test_a_described_connection_reads_back_as_itself(
    tmp_path: Path, password: str, username: str | None, db: int
) -> None:
    redis = RedisSettings(host="h", username=username, password=password, db=db, namespace="n")
    again = redis_of({"REDIS_URL": redis.describe(show_secrets=True), "REDIS_NAMESPACE": "n"}, tmp_path)
    assert attrs.evolve(again, url=None, configured=False) == redis


def test_without_any_setting_redis_is_local_and_not_configured(tmp_path: Path) -> None:
    redis = redis_of({}, tmp_path)
    assert differing(redis) == {}
    assert (redis.host, redis.port, redis.db, redis.configured) == ("localhost", 6379, 0, False)


def test_production_without_any_setting_means_the_local_server_and_never_the_embedded_one(tmp_path: Path) -> None:
    redis = redis_of({"RAILS_ENV": "production", "SECRET_KEY_BASE": "k", "LOADBALANCER_SECRET": "s"}, tmp_path)
    assert (redis.host, redis.port, redis.configured) == ("localhost", 6379, True)
    assert Settings(environment="production").redis.configured


@pytest.mark.parametrize(
    ("environment", "prefix"),
    [("production", "scalelite:"), ("development", "scalelite_development:"), ("test", "scalelite_test:")],
)
def test_the_key_prefix_follows_the_environment(tmp_path: Path, environment: str, prefix: str) -> None:
    environ = {"RAILS_ENV": environment, "SECRET_KEY_BASE": "k", "LOADBALANCER_SECRET": "s"}
    assert redis_of(environ, tmp_path).prefix == prefix
    assert redis_of({**environ, "REDIS_NAMESPACE": "mine"}, tmp_path).prefix == "mine:"


@pytest.mark.parametrize(
    ("environ", "file", "pool"),
    [
        ({}, "", 5),
        ({"RAILS_MAX_THREADS": "8"}, "", 8),
        ({"RAILS_MAX_THREADS": "8"}, "test: {pool: 9}", 9),
        ({"RAILS_MAX_THREADS": "8", "REDIS_POOL": "10"}, "test: {pool: 9}", 10),
    ],
)
def test_the_pool_is_taken_from_its_variable_the_file_or_the_threads(write, environ, file, pool) -> None:
    assert redis_of({"SCALELITE_ENV": "test", **environ}, write(file)).pool == pool


def test_the_sentinels_password_has_a_variable_of_its_own(tmp_path: Path) -> None:
    environ = {"REDIS_URL": "redis+sentinel://:data@s1/main", "SCALELITE_REDIS_SENTINEL_PASSWORD": "watch"}
    redis = redis_of(environ, tmp_path)
    assert (redis.password, redis.sentinel_password) == ("data", "watch")


@pytest.mark.parametrize(
    ("section", "fields"),
    [
        ("url: redis://:pw@h/1", {"host": "h", "password": "pw", "db": 1, "configured": True}),
        ("{host: h, port: 7000}", {"host": "h", "port": 7000, "configured": True}),
        ("{':host': h}", {"host": "h", "configured": True}),
        ("{url: 'redis://a/1', host: b, db: 2}", {"host": "b", "db": 2, "configured": True}),
        (
            "{host: h, username: u, password: 0123}",
            {"host": "h", "username": "u", "password": "0123", "configured": True},
        ),
        ("{host: h, user: u, password: p}", {"host": "h", "username": "u", "password": "p", "configured": True}),
        ("{host: h, ssl: true}", {"host": "h", "tls": True, "configured": True}),
        ("{path: /run/redis.sock, db: 3}", {"unix_path": "/run/redis.sock", "db": 3, "configured": True}),
        ("{pool_timeout: 2.5}", {"pool_timeout": 2.5}),
        (
            "{url: 'redis://:pw@main', sentinels: [{host: s1}, {host: s2, port: 5000, password: w}]}",
            {
                "host": "main",
                "password": "pw",
                "sentinels": SENTINELS,
                "sentinel_name": "main",
                "sentinel_password": "w",
                "configured": True,
            },
        ),
        (
            "{name: main, sentinels: [s1, 's2:5000'], sentinel_password: w}",
            {"sentinels": SENTINELS, "sentinel_name": "main", "sentinel_password": "w", "configured": True},
        ),
        ("{url: , host: h, password: }", {"host": "h", "configured": True}),
    ],
)
def test_the_file_describes_the_connection(write, section: str, fields: dict[str, Any]) -> None:
    root = write(f"development:\n  {section}\nproduction:\n  url: redis://other\n")
    assert differing(redis_of({}, root)) == fields


def test_shared_settings_and_yaml_anchors_hold_for_the_environment(write) -> None:
    root = write("shared: {host: h}\ndefault: &default\n  db: 3\ndevelopment:\n  <<: *default\n  port: 7000\n")
    redis = redis_of({}, root)
    assert (redis.host, redis.port, redis.db) == ("h", 7000, 3)


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("<%= ENV['HOST'] %>", "from-env"),
        ('<%=ENV["HOST"]%>', "from-env"),
        ("<%= ENV.fetch('HOST') -%>", "from-env"),
        ("<%= ENV.fetch('HOST', 'fallback') %>", "from-env"),
        ("<%= ENV.fetch('MISSING', 'fallback') %>", "fallback"),
        ("<%= ENV.fetch('EMPTY', 'fallback') %>", "fallback"),
        ('<%= ENV.fetch("MISSING") { "fallback" } %>', "fallback"),
        ("<%= ENV.fetch('MISSING', ENV['HOST']) %>", "from-env"),
        ("<%= ENV.fetch('MISSING', ENV.fetch('EMPTY', 127)) %>.0.0.1", "127.0.0.1"),
        ("a.<%= ENV['HOST'] %>.<%= ENV['HOST'] %>", "a.from-env.from-env"),
        ("<%= ENV['MISSING'] %>", "localhost"),
        ("<%= ENV.fetch('MISSING', nil) %>", "localhost"),
    ],
)
def test_the_file_takes_values_from_the_environment(write, tag: str, value: str) -> None:
    root = write(f"development:\n  host: {tag}\n")
    assert redis_of({"HOST": "from-env", "EMPTY": " "}, root).host == value


@pytest.mark.parametrize(
    "tag",
    [
        "<%= Rails.root %>",
        "<%= ENV['A'] || 'b' %>",
        "<%= ENV['A'].to_i %>",
        "<%= `id` %>",
        "<%= ENV[A] %>",
        "<%= ENV.fetch('A' %>",
        "<%= ENV.fetch('A', \"#{x}\") %>",
        "<%= ENV.fetch %>",
        "<%= 5 %>",
        "<%= %>",
        "<% if true %>",
        "<%# comment %>",
        "<%= ENV.fetch('MISSING') %>",
        "<%= ENV['A']",
        "ENV['A'] %>",
    ],
)
def test_any_other_ruby_is_refused_with_its_line(write, tag: str) -> None:
    root = write(f"# Redis\ndevelopment:\n  host: {tag}\n")
    with pytest.raises(SettingsError) as caught:
        load_settings({}, root=root)
    (problem,) = caught.value.problems
    assert problem.startswith("config/redis_store.yml: line 3: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("development: {port: abc}", "development.port='abc'"),
        ("development: {port: {a: b}}", "development.port="),
        ("development: {ssl: maybe}", "development.ssl='maybe'"),
        ("development: {path: redis.sock}", "development.path='redis.sock'"),
        ("development: {namespace: [a]}", "development.namespace="),
        ("development: {sentinels: s1}", "development.sentinels='s1'"),
        ("development: {sentinels: [{port: 1}]}", "development.sentinels="),
        ("development: {sentinels: [s1]}", "development.name is unset"),
        ("development: {ssl_params: {ca_file: none.pem}}", "development.ssl_params.ca_file='none.pem'"),
        ("development: {url: 'redis://:hunter2@h/x'}", "development.url='********'"),
        ("development: [a]", "the section 'development'"),
        ("- a", "one section per environment"),
        ("development:\n  host: 'hunter2", "line 2: it is not valid YAML"),
        ("development: {password: *hunter2}", "line 1: it is not valid YAML"),
        ("development: !!python/object:os.system {}", "line 1: it is not valid YAML"),
    ],
)
def test_faults_of_the_file_are_told_without_its_secrets(write, text: str, words: str) -> None:
    root = write(text)
    with pytest.raises(SettingsError) as caught:
        load_settings({}, root=root)
    (problem,) = caught.value.problems
    assert problem.startswith("config/redis_store.yml: ")
    assert words in problem
    assert "hunter2" not in problem


def test_an_unreadable_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "config" / "redis_store.yml").mkdir(parents=True)
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings({}, root=tmp_path)


def test_a_huge_file_is_a_problem(write) -> None:
    root = write("#" * 300_000)
    with pytest.raises(SettingsError, match="larger than"):
        load_settings({}, root=root)


def test_the_variable_wins_over_another_place_and_keeps_the_files_login_to_itself(write) -> None:
    root = write("development: {host: old, password: secret, ssl: true, pool: 7}")
    redis = redis_of({"REDIS_URL": "redis://new"}, root)
    assert differing(redis) == {"host": "new", "configured": True, "pool": 7}


@pytest.mark.parametrize("url", ["", "url: <%= ENV['REDIS_URL'] %>, "])
def test_the_file_completes_the_variables_url_for_the_same_place(write, url: str) -> None:
    root = write(f"development: {{{url}sentinels: [s1, 's2:5000'], password: pw, db: 4}}".replace("%>,", "%> ,"))
    redis = redis_of({"REDIS_URL": "redis://main/3"}, root)
    assert (redis.sentinels, redis.sentinel_name, redis.password, redis.db) == (SENTINELS, "main", "pw", 3)


@pytest.mark.parametrize(
    ("section", "environ", "prefix", "warned"),
    [
        ("{host: h, namespace: mine}", {}, "mine:", False),
        ("{host: h, namespace: ''}", {}, "", False),
        ("{host: h, namespace: ''}", {"REDIS_NAMESPACE": "env"}, "env:", False),
        ("{host: h, namespace: '<%= ENV[\"REDIS_NAMESPACE\"] %>'}", {"REDIS_NAMESPACE": ""}, "", False),
        ("{host: h}", {}, "scalelite_development:", True),
        ("{host: h, namespace: }", {}, "scalelite_development:", True),
        ("{pool: 3}", {}, "scalelite_development:", False),
    ],
)
def test_the_namespace_is_the_variables_else_the_files_else_the_default(
    write, section: str, environ: dict[str, str], prefix: str, warned: bool
) -> None:
    settings = load_settings({"LOADBALANCER_SECRET": "s", **environ}, root=write(f"development: {section}"))
    assert settings.redis.prefix == prefix
    assert any("namespace" in warning for warning in settings.warnings) is warned


def test_options_of_the_ruby_client_are_named_as_without_effect(write) -> None:
    root = write("development: {namespace: n, reconnect_attempts: 3, timeout: 1}")
    settings = load_settings({"LOADBALANCER_SECRET": "s"}, root=root)
    assert settings.warnings == ("config/redis_store.yml: without effect here: reconnect_attempts, timeout.",)


def test_yaml_is_imported_only_where_the_file_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A None in sys.modules makes the import fail.
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert redis_of({}, tmp_path).host == "localhost"
