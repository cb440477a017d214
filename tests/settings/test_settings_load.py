"""Reading the environment: values, defaults, problems and warnings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from scalelite.settings import Listen, Settings, SettingsError, load_settings
from scalelite.settings.docs import documented_variables

PRODUCTION = {
    "RAILS_ENV": "production",
    "SECRET_KEY_BASE": "key-base",
    "LOADBALANCER_SECRET": "lb",
    "URL_HOST": "bbb.example.com",
    "REDIS_URL": "redis://localhost",
    "DATABASE_URL": "postgresql://localhost/scalelite",
    "SCALELITE_API_SECRET": "for operators",
}


def problems_of(environ: dict[str, str], root: Path) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ, root=root)
    return caught.value.problems


@pytest.mark.parametrize(
    ("field", "variable", "text", "value"),
    [
        ("environment", "SCALELITE_ENV", "production ", "production"),
        ("environment", "RAILS_ENV", "Test", "test"),
        ("url_host", "URL_HOST", "BBB.Example.com", "bbb.example.com"),
        ("url_host", "URL_HOST", "[::1]", "[::1]"),
        ("secret_key_base", "SECRET_KEY_BASE", " abc ", "abc"),
        ("checksum_algorithms", "LOADBALANCER_CHECKSUM_ALGORITHM", "sha512:SHA1", ("SHA1", "SHA512")),
        ("multitenancy_enabled", "MULTITENANCY_ENABLED", "TRUE", True),
        ("multitenancy_enabled", "MULTITENANCY_ENABLED", "no", False),
        ("build_number", "BUILD_NUMBER", "1.8-x", "1.8-x"),
        ("max_meeting_duration", "MAX_MEETING_DURATION", "90", 90),
        ("default_create_params", "DEFAULT_CREATE_PARAMS", "a=1,b=x=y, c=", {"a": "1", "b": "x=y", "c": ""}),
        ("override_create_params", "OVERRIDE_CREATE_PARAMS", "a=1,", {"a": "1"}),
        ("default_join_params", "DEFAULT_JOIN_PARAMS", "a=1,a=2", {"a": "2"}),
        ("override_join_params", "OVERRIDE_JOIN_PARAMS", "userdata-x=é", {"userdata-x": "é"}),
        ("create_exclude_params", "CREATE_EXCLUDE_PARAMS", "a, b,,", frozenset({"a", "b"})),
        ("join_exclude_params", "JOIN_EXCLUDE_PARAMS", "role", frozenset({"role"})),
        ("default_meeting_ttl", "DEFAULT_MEETING_TTL", "3600", 3600),
        ("voice_bridge_len", "VOICE_BRIDGE_LEN", "7", 7),
        ("use_external_voice_bridge", "USE_EXTERNAL_VOICE_BRIDGE", "true", True),
        ("get_meetings_api_disabled", "GET_MEETINGS_API_DISABLED", "true", True),
        ("fsapi_password", "FSAPI_PASSWORD", " pass:word ", "pass:word"),
        ("fsapi_max_duration", "FSAPI_MAX_DURATION", "120", 120),
        ("fsapi_max_duration", "MAX_MEETING_DURATION", "90", 90),
        ("voice_bridge_min", "VOICE_BRIDGE_MIN", "4", 4),
        ("voice_bridge_max", "VOICE_BRIDGE_MAX", "12", 12),
        ("fsapi_max_guesses", "SCALELITE_FSAPI_MAX_GUESSES", "0", 0),
        ("fsapi_max_guesses_total", "SCALELITE_FSAPI_MAX_GUESSES_TOTAL", "50", 50),
        ("connect_timeout", "CONNECT_TIMEOUT", "0.5", 0.5),
        ("response_timeout", "RESPONSE_TIMEOUT", "20", 20.0),
        ("server_healthy_threshold", "SERVER_HEALTHY_THRESHOLD", "3", 3),
        ("server_unhealthy_threshold", "SERVER_UNHEALTHY_THRESHOLD", "+4", 4),
        ("load_min_user_count", "LOAD_MIN_USER_COUNT", "0", 0),
        ("load_join_buffer_time", "LOAD_JOIN_BUFFER_TIME", "5", 5),
        ("create_load", "SCALELITE_CREATE_LOAD", "1", 1.0),
        ("server_id_is_hostname", "SERVER_ID_IS_HOSTNAME", "true", True),
        ("host_concurrency", "SCALELITE_HOST_CONCURRENCY", "8", 8),
        ("max_answer_size", "SCALELITE_MAX_ANSWER_SIZE", "2048", 2048),
        ("bbb_verify_tls", "SCALELITE_BBB_VERIFY_TLS", "false", False),
        ("poll_interval", "POLL_INTERVAL", "30", 30.0),
        ("poll_interval", "INTERVAL", "20", 20.0),
        ("poller_threads", "POLLER_THREADS", "5", 5),
        ("poller_wait_timeout", "POLLER_WAIT_TIMEOUT", "3", 3.0),
        ("port", "PORT", "8080", 8080),
        ("web_concurrency", "WEB_CONCURRENCY", "4", 4),
        ("max_body_size", "SCALELITE_MAX_BODY_SIZE", "4096", 4096),
        ("max_connections", "SCALELITE_MAX_CONNECTIONS", "10", 10),
        ("request_timeout", "SCALELITE_REQUEST_TIMEOUT", "5", 5.0),
        ("idle_timeout", "SCALELITE_IDLE_TIMEOUT", "6", 6.0),
        ("drain_timeout", "SCALELITE_DRAIN_TIMEOUT", "0", 0.0),
        ("rails_max_threads", "RAILS_MAX_THREADS", "9", 9),
        ("redis_timeout", "SCALELITE_REDIS_TIMEOUT", "1.5", 1.5),
        ("log_to_stdout", "RAILS_LOG_TO_STDOUT", "true", True),
        ("log_level", "RAILS_LOG_LEVEL", "WARNING", "warn"),
        ("log_level", "RAILS_LOG_LEVEL", "fatal", "critical"),
        ("access_log", "SCALELITE_ACCESS_LOG", "off", "off"),
        ("access_log", "SCALELITE_ACCESS_LOG", "/var/log/access.log", "/var/log/access.log"),
        ("data_dir", "SCALELITE_DATA_DIR", "/srv/data", Path("/srv/data")),
        ("database_url", "DATABASE_URL", "postgres://u:p@h/d", "postgres://u:p@h/d"),
        ("recording_disabled", "RECORDING_DISABLED", "true", True),
        ("get_recordings_api_filtered", "GET_RECORDINGS_API_FILTERED", "true", True),
        ("recording_playback_formats", "RECORDING_PLAYBACK_FORMATS", "video:notes", ("video", "notes")),
    ],
)
def test_a_variable_sets_its_field(tmp_path: Path, field: str, variable: str, text: str, value: Any) -> None:
    environ = PRODUCTION if text.strip() == "production" else {}
    settings = load_settings({**environ, variable: text}, root=tmp_path)
    assert getattr(settings, field) == value


@pytest.mark.parametrize("text", ["", "  ", "\t\n"])
def test_an_empty_value_means_unset_for_every_variable(tmp_path: Path, text: str) -> None:
    names = [name for variable, _ in documented_variables() for name in (variable.name, *variable.aliases)]
    # Here empty means something else; see below.
    names.remove("FSAPI_PASSWORD")
    empty = load_settings(dict.fromkeys(names, text), root=tmp_path)
    unset = load_settings({}, root=tmp_path)
    assert {**as_dict(empty), "warnings": ()} == {**as_dict(unset), "warnings": ()}


@pytest.mark.parametrize(
    ("environ", "password", "warned"),
    [
        ({"LOADBALANCER_SECRET": "lb"}, b"lb", False),
        ({"LOADBALANCER_SECRETS": "one:two"}, b"one", False),
        ({"LOADBALANCER_SECRET": "lb", "FSAPI_PASSWORD": "own"}, b"own", False),
        ({"LOADBALANCER_SECRET": "lb", "FSAPI_PASSWORD": " "}, b"", True),
        ({"MULTITENANCY_ENABLED": "true"}, b"", True),
        ({"MULTITENANCY_ENABLED": "true", "FSAPI_PASSWORD": "own"}, b"own", False),
    ],
)
def test_freeswitch_needs_the_first_secret_unless_told_otherwise(
    tmp_path: Path, environ: dict[str, str], password: bytes, warned: bool
) -> None:
    settings = load_settings(environ, root=tmp_path)
    assert settings.dialin_password == password
    assert any(warning.startswith("FSAPI_PASSWORD") for warning in settings.warnings) is warned


def test_more_digits_at_least_than_at_most_are_refused(tmp_path: Path) -> None:
    assert problems_of({"VOICE_BRIDGE_MIN": "10"}, tmp_path) == ("VOICE_BRIDGE_MIN=10 is above VOICE_BRIDGE_MAX=9",)


def as_dict(settings: Settings) -> dict[str, Any]:
    return attrs.asdict(settings, recurse=False)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PORT", "30abc"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", "٣٠٠٠"),
        ("POLL_INTERVAL", "0"),
        ("POLL_INTERVAL", "nan"),
        ("POLL_INTERVAL", "inf"),
        ("CONNECT_TIMEOUT", "0"),
        ("RESPONSE_TIMEOUT", "-3"),
        ("RESPONSE_TIMEOUT", "1e3"),
        ("SERVER_HEALTHY_THRESHOLD", "0"),
        ("DEFAULT_MEETING_TTL", "0"),
        ("VOICE_BRIDGE_LEN", "0"),
        ("MAX_MEETING_DURATION", "-5"),
        ("WEB_CONCURRENCY", "auto"),
        ("REDIS_POOL", "0"),
        ("MULTITENANCY_ENABLED", "yes"),
        ("MULTITENANCY_ENABLED", "1"),
        ("LOADBALANCER_CHECKSUM_ALGORITHM", "SHA256:MD5"),
        ("LOADBALANCER_CHECKSUM_ALGORITHM", ":"),
        ("URL_HOST", "https://bbb.example.com"),
        ("URL_HOST", "bbb.example.com:443"),
        ("URL_HOST", ".example.com"),
        ("SCALELITE_ENV", "staging"),
        ("RAILS_LOG_LEVEL", "loud"),
        ("DEFAULT_CREATE_PARAMS", "a=1,b"),
        ("OVERRIDE_JOIN_PARAMS", "=1"),
        ("RECORDING_PLAYBACK_FORMATS", "video/../x"),
        ("DATABASE_URL", "mysql://localhost/x"),
        ("SCALELITE_BBB_CA_FILE", "no/such/file.pem"),
        ("SCALELITE_REDIS_CA_FILE", "no/such/file.pem"),
        ("BIND", "0.0.0.0:3000"),
        ("REDIS_URL", "localhost:6379"),
    ],
)
def test_garbage_is_refused_naming_the_variable_and_the_right_form(tmp_path: Path, variable: str, text: str) -> None:
    (problem,) = problems_of({variable: text}, tmp_path)
    assert problem.startswith(f"{variable}=")
    assert "expected " in problem


def test_a_problem_shows_the_value_unless_it_is_secret(tmp_path: Path) -> None:
    assert "'30abc'" in problems_of({"PORT": "30abc"}, tmp_path)[0]
    assert "hunter2" not in str(problems_of({"DATABASE_URL": "mysql://u:hunter2@h/d"}, tmp_path))


def test_a_parameter_item_without_equals_sign_is_named(tmp_path: Path) -> None:
    (problem,) = problems_of({"DEFAULT_CREATE_PARAMS": "record=true,muted,moderatorPW=hunter2"}, tmp_path)
    assert "'muted'" in problem
    assert "hunter2" not in problem
    assert "hunter2" not in problems_of({"OVERRIDE_JOIN_PARAMS": "=hunter2"}, tmp_path)[0]


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    problems = problems_of(
        {"SCALELITE_ENV": "production", "PORT": "x", "INTERVAL": "y", "REDIS_URL": "z", "BIND": "w"}, tmp_path
    )
    told = [problem.split("=")[0].split(" ")[0] for problem in problems]
    assert sorted(told) == ["BIND", "INTERVAL", "LOADBALANCER_SECRET", "PORT", "REDIS_URL", "SECRET_KEY_BASE"]


def test_the_error_text_holds_every_problem() -> None:
    assert str(SettingsError(["one", "two"])) == "one\ntwo"


@pytest.mark.parametrize(
    ("single", "several", "secrets"),
    [
        ("a", "", (b"a",)),
        ("a", "b:c", (b"a", b"b", b"c")),
        ("", "b", (b"b",)),
        ("a:b", "", (b"a:b",)),
        ("", ":a::b:", (b"a", b"b")),
        ("a", "b:a", (b"a", b"b")),
        ("", ":", ()),
        ("é", "", ("é".encode(),)),
        ("\udcff", "", (b"\xff",)),
    ],
)
def test_secrets_are_the_single_one_then_the_list_without_empty_ones(
    tmp_path: Path, single: str, several: str, secrets: tuple[bytes, ...]
) -> None:
    settings = load_settings({"LOADBALANCER_SECRET": single, "LOADBALANCER_SECRETS": several}, root=tmp_path)
    assert settings.loadbalancer_secrets == secrets


@pytest.mark.parametrize(
    ("listed", "outgoing"),
    [
        ("", "SHA256"),
        ("SHA1", "SHA1"),
        ("SHA1:SHA256", "SHA256"),
        ("SHA384:SHA256", "SHA384"),
        ("SHA512:SHA1", "SHA512"),
    ],
)
def test_outgoing_calls_use_the_strongest_listed_digest(tmp_path: Path, listed: str, outgoing: str) -> None:
    settings = load_settings({"LOADBALANCER_CHECKSUM_ALGORITHM": listed}, root=tmp_path)
    assert settings.outgoing_algorithm == outgoing


def test_sha384_is_accepted_by_default() -> None:
    assert Settings().checksum_algorithms == ("SHA1", "SHA256", "SHA384", "SHA512")


@pytest.mark.parametrize("missing", ["SECRET_KEY_BASE", "LOADBALANCER_SECRET"])
def test_production_refuses_to_start_without_its_secrets(tmp_path: Path, missing: str) -> None:
    (problem,) = problems_of({**PRODUCTION, missing: ""}, tmp_path)
    assert problem.startswith(f"{missing} is unset")


@pytest.mark.parametrize(
    "change",
    [
        {"LOADBALANCER_SECRET": "", "LOADBALANCER_SECRETS": "x"},
        {"LOADBALANCER_SECRET": "", "MULTITENANCY_ENABLED": "true"},
    ],
)
def test_production_starts_with_the_secret_list_or_with_tenants(tmp_path: Path, change: dict[str, str]) -> None:
    assert load_settings({**PRODUCTION, **change}, root=tmp_path).environment == "production"


@pytest.mark.parametrize("missing", ["URL_HOST", "REDIS_URL", "DATABASE_URL", "SCALELITE_API_SECRET"])
def test_production_warns_of_what_is_unset(tmp_path: Path, missing: str) -> None:
    (warning,) = load_settings({**PRODUCTION, missing: ""}, root=tmp_path).warnings
    assert warning.startswith(f"{missing} is unset")


@pytest.mark.parametrize(
    "change",
    [
        {"SCALELITE_API_DISABLED": "true"},
        {"LOADBALANCER_SECRET": "", "MULTITENANCY_ENABLED": "true", "FSAPI_PASSWORD": "x"},
        {"RAILS_ENV": "development"},
    ],
    ids=["no REST API", "no front-end's secret", "development"],
)
def test_a_rest_api_that_no_front_end_can_use_needs_no_secret_of_its_own(
    tmp_path: Path, change: dict[str, str]
) -> None:
    settings = load_settings({**PRODUCTION, "SCALELITE_API_SECRET": "", **change}, root=tmp_path)
    assert not any("SCALELITE_API_SECRET" in warning for warning in settings.warnings)


def test_a_complete_production_environment_gives_no_warning(tmp_path: Path) -> None:
    assert load_settings(PRODUCTION, root=tmp_path).warnings == ()


def test_development_without_secret_starts_and_warns(tmp_path: Path) -> None:
    settings = load_settings({}, root=tmp_path)
    assert settings.loadbalancer_secrets == ()
    assert any("LOADBALANCER_SECRET" in warning for warning in settings.warnings)


@pytest.mark.parametrize("text", ["1", "0", "-3"])
def test_too_few_poller_threads_are_raised_with_a_warning(tmp_path: Path, text: str) -> None:
    settings = load_settings({**PRODUCTION, "POLLER_THREADS": text}, root=tmp_path)
    assert settings.poller_threads == 2
    assert [f"POLLER_THREADS={text}" in warning for warning in settings.warnings] == [True]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"SCALELITE_BBB_VERIFY_TLS": "false"}, "SCALELITE_BBB_VERIFY_TLS"),
        ({"DEFAULT_MEETING_TTL": "100"}, "DEFAULT_MEETING_TTL"),
        ({"POLL_INTERVAL": "30", "INTERVAL": "20"}, "INTERVAL is ignored"),
        ({"REDIS_NAMESPACE": ""}, "REDIS_NAMESPACE is empty"),
    ],
)
def test_risky_settings_are_warned_of(tmp_path: Path, change: dict[str, str], word: str) -> None:
    (warning,) = load_settings({**PRODUCTION, **change}, root=tmp_path).warnings
    assert word in warning


def test_the_first_name_wins_over_its_alias(tmp_path: Path) -> None:
    settings = load_settings({"POLL_INTERVAL": "30", "INTERVAL": "rubbish"}, root=tmp_path)
    assert settings.poll_interval == 30
    assert load_settings({"SCALELITE_ENV": "test", "RAILS_ENV": "production"}, root=tmp_path).environment == "test"


def test_without_bind_the_port_is_opened_on_all_ipv4_addresses(tmp_path: Path) -> None:
    assert load_settings({"PORT": "8080"}, root=tmp_path).bind == (Listen("tcp", host="0.0.0.0", port=8080),)


@pytest.mark.parametrize(
    ("environ", "log"),
    [
        ({"SCALELITE_ENV": "test"}, "log/access.log"),
        ({"SCALELITE_ENV": "test", "RAILS_LOG_TO_STDOUT": "true"}, "-"),
        ({}, "-"),
        (PRODUCTION, "log/access.log"),
    ],
)
def test_the_access_log_goes_to_stdout_in_development_or_when_the_log_does(
    tmp_path: Path, environ: dict[str, str], log: str
) -> None:
    expected = log if log == "-" else str(tmp_path / log)
    assert load_settings(environ, root=tmp_path).access_log == expected


def test_relative_paths_start_at_the_root(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    environ = {
        "SCALELITE_DATA_DIR": "data",
        "SCALELITE_ACCESS_LOG": "a.log",
        "SCALELITE_BBB_CA_FILE": "ca.pem",
        "SCALELITE_REDIS_CA_FILE": "ca.pem",
    }
    settings = load_settings(environ, root=tmp_path)
    assert settings.data_dir == tmp_path / "data"
    assert settings.access_log == str(tmp_path / "a.log")
    assert settings.bbb_ca_file == tmp_path / "ca.pem"
    assert settings.redis.ca_file == str(tmp_path / "ca.pem")


def test_parameters_cannot_be_changed_afterwards(tmp_path: Path) -> None:
    settings = load_settings({"DEFAULT_CREATE_PARAMS": "a=1"}, root=tmp_path)
    with pytest.raises(TypeError):
        settings.default_create_params["a"] = "2"  # type: ignore[index]


def test_settings_for_tests_take_overrides() -> None:
    settings = Settings.for_tests(poll_interval=1.0)
    assert settings.poll_interval == 1.0
    assert settings.environment == "test"
    assert settings.loadbalancer_secrets == (b"secret",)
    assert settings.redis.namespace == "scalelite_test"
    with pytest.raises(TypeError):
        Settings.for_tests(no_such_field=1)
